"""Serial ports and what stands for one: named, found, opened, locked, simulated."""
