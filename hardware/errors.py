"""Errors of the hardware room.

    HardwareError
    ├── ProtocolError    a message that cannot be encoded or decoded
    ├── BuildError       the firmware image cannot be built
    ├── ImageError       a file is not the image that is wanted
    ├── FlashError       the programmer is missing or failed
    └── SimulatorError   the simulator cannot start or lost its firmware

Every message is one line: what happened, what was got, what was expected, what to do next.
"""


class HardwareError(Exception):
    """Base of everything this room raises on purpose."""


class ProtocolError(HardwareError):
    """A message that cannot be encoded or decoded."""


class BuildError(HardwareError):
    """The firmware image cannot be built."""


class ImageError(HardwareError):
    """A file is not the image that is wanted."""


class FlashError(HardwareError):
    """The programmer is missing or failed."""


class SimulatorError(HardwareError):
    """The simulator cannot start, or lost its firmware."""
