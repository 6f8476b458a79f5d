"""The identity of a box towards the broker: enrolled once with a code, then renewed by itself."""
