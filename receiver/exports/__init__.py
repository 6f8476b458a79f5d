"""Trips, tracks and events of one device as files that other programs read: GPX, GeoJSON, CSV, Parquet."""
