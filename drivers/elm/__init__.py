"""The ELM327 family of adapters: what may be said, what is answered, and in which order."""
