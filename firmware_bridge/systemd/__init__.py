"""The daemon: unit, udev rule, their installation, and what the service manager is told."""
