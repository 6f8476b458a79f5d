"""Commands from a receiver: heard, judged, obeyed or refused, and always answered by a record (decisions 0210-0212)."""
