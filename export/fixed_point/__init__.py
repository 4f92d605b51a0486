"""Integer arithmetic for policies: what is computed, within which bounds, and how the integers are chosen."""
