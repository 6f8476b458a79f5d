"""Fitting a box: the wizard, the acceptance drive, the signed sheet, and taking it out again (decision 0290)."""
