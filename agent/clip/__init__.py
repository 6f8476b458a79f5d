"""The clip of an incident: cut from the dashcam's segments without re-encoding, with what stands beside it."""
