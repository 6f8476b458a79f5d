"""Data at rest: the store and the video lie encrypted, their key is sealed to this box (decision 0310)."""
