"""Power of the live box: is the engine on, may the control units sleep, when must the battery be left alone."""
