"""The live page: what it is told, who serves it, what it shows."""
