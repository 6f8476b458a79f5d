"""Remote service: what a technician at a desk asks of a box, and what it answers (docs/remote-service.md)."""
