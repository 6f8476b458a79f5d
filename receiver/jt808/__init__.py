"""JT/T 808-2019, the wire between a vehicle terminal and a regulator's platform: codec, and the gateway out."""
