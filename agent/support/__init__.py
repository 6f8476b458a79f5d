"""The support bundle: one file from which a desk can see what is wrong with a box, without secrets and places."""
