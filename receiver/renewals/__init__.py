"""Renewals: when to contact whom, how many renewed, what is due, and how others are told."""
