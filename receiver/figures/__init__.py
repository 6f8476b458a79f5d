"""The insurer's figures that claims and policies can feed, with their definitions as data."""
