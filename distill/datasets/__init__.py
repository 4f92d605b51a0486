"""Transitions of a teacher: played, stored, read, and drawn from."""
