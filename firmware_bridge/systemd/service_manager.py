"""What systemd is told when it started the bridge (Type=notify): ready, state, alive, stopping. Else nothing is sent.

The protocol is one datagram of `NAME=value` lines to the socket that NOTIFY_SOCKET names (man 3 sd_notify). The
watchdog is fed from where the run polls for stop requests, once a control period: a loop that hangs feeds nothing, and
no other thread feeds it in its place.
"""

import contextlib
import os
import socket
import time
from collections.abc import Mapping

_FEEDS_PER_TIMEOUT = 4  # systemd asks for at least two


class ServiceManager:
    """Sends to the service manager. Never blocks, never raises: a run does not end because nobody listens."""

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        """`environment` is os.environ unless given."""
        variables = os.environ if environment is None else environment
        self._address = variables.get("NOTIFY_SOCKET", "")
        self._socket: socket.socket | None = None
        self._interval_ns = _interval_ns(variables)
        self._next_ns = 0
        if self._address.startswith(("/", "@")):
            with contextlib.suppress(OSError):
                self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
                self._socket.setblocking(False)
        if self._socket is None:
            self._interval_ns = 0

    def ready(self) -> None:
        """Start-up is over; from now on the watchdog counts."""
        self._send("READY=1")

    def status(self, text: str) -> None:
        """One line for `systemctl status`."""
        self._send(f"STATUS={' '.join(text.split())}")

    def stopping(self) -> None:
        """The end has begun; the watchdog counts no longer."""
        self._send("STOPPING=1")

    def feed(self) -> None:
        """The loop is alive; sends four times per watchdog timeout, however often it is called."""
        if self._interval_ns and (now := time.monotonic_ns()) >= self._next_ns:
            self._next_ns = now + self._interval_ns
            self._send("WATCHDOG=1")

    def close(self) -> None:
        """Send nothing more."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
            self._interval_ns = 0

    def _send(self, line: str) -> None:
        if self._socket is None:
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        with contextlib.suppress(OSError):
            self._socket.sendto(line.encode(), address)


def _interval_ns(variables: Mapping[str, str]) -> int:
    """Time between two feeds; 0 where no watchdog is set, or one for another process."""
    timeout_us, process = variables.get("WATCHDOG_USEC", ""), variables.get("WATCHDOG_PID", "")
    if not timeout_us.isdecimal() or (process and process != str(os.getpid())):
        return 0
    return int(timeout_us) * 1000 // _FEEDS_PER_TIMEOUT
