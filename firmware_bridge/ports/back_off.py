"""How long to wait before a lost port is opened again: 0.1 s, then twice as long each time, at most 5 s."""

from firmware_bridge import notices
from firmware_bridge.errors import (
    DeviceRestartedError,
    LinkLostError,
    NoReplyError,
    PortBusyError,
    PortNotFoundError,
)

FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 5.0
RECONNECTED = (LinkLostError, PortNotFoundError, PortBusyError, NoReplyError, DeviceRestartedError)
"""What a later attempt may mend. PortBusyError is one: udev hands a new port over a moment after it appeared."""


class BackOff:
    """Pauses between attempts; a new one starts short again."""

    def __init__(self) -> None:
        self._pause_s = FIRST_PAUSE_S
        self._told = ""

    def next_pause_s(self) -> float:
        """Length of the next pause [s]."""
        pause_s = self._pause_s
        self._pause_s = min(2.0 * pause_s, LONGEST_PAUSE_S)
        return pause_s

    def tell(self, error: Exception) -> None:
        """Say why, once for the same reason however often it is tried."""
        if str(error) != self._told:
            self._told = str(error)
            notices.say(f"{error}; --reconnect tries again", notices.WARNING)
