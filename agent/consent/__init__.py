"""What the owner agrees to, kept and obeyed on the device (decisions 0257 and 0258)."""
