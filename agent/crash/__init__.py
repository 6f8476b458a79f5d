"""Crashes: what a collision does to an accelerometer, to gyroscopes and to the speed, told from what is none."""
