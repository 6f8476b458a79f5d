"""Updates: signed versions from the vendor, tried beside the one that works, kept only when they prove healthy."""
