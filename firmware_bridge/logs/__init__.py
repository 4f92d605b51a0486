"""The log: what is in it, how it is written, read and exported."""
