"""Work at a vehicle: what is on its bus, what its control units say, and which profile fits it."""
