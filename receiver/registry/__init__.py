"""Facts about people and cars: owners, vehicles, which device is in which car, what owners agreed to, and erasure."""
