"""Claims after they are opened: evidence checks, calculation, states, documents. Opening is receiver.claims."""
