"""The fault proxy between a bridge and a device."""
