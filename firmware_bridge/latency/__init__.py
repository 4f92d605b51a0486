"""Durations: recorded, corrected, merged, written and read out of a log."""
