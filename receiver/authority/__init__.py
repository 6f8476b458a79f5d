"""The authority of an insurer's boxes: codes, certificates for weeks, what is revoked, the rules of the broker."""
