"""Plants: one MJCF file and one Python file each."""
