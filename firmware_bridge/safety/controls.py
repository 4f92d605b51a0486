"""What people ask of a run while it runs: stop, or arm. The keyboard, the live page and signals all come through here.

Nothing in it locks or blocks, so any thread and any signal handler may ask, and the control loop pays one attribute
read a period. `wake_socket` becomes readable with every request: a link that waits for its device watches it too, so
that a stop does not wait for the next observation.
"""

import select
import socket
from types import TracebackType
from typing import Self

from firmware_bridge.errors import StopRequested

INTERRUPTED = 130
"""Exit code of a run that a person stopped: what shells give for Ctrl-C."""


class Controls:
    """Requests to one run. The first stop counts, later ones change nothing; an arm counts only while it is awaited.

    Context manager: leaving it closes the sockets; requests after that are without effect.
    """

    def __init__(self) -> None:
        self.stop: StopRequested | None = None
        self.awaiting_arm = False
        self._arm_requested = False
        self.wake_socket, self._bell = socket.socketpair()
        self.wake_socket.setblocking(False)
        self._bell.setblocking(False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bell.close()
        self.wake_socket.close()

    def request_stop(self, reason: str, exit_code: int = INTERRUPTED) -> None:
        """Brake, disarm and end the run. `reason` follows "stopped by": "a key", "the live page"."""
        if self.stop is None:
            self.stop = StopRequested(reason, exit_code)
        self._ring()

    def request_arm(self) -> bool:
        """Arm the device that waits for it; True where one does. An arm asked too early is forgotten, not kept."""
        if not self.awaiting_arm or self.stop is not None:
            return False
        self._arm_requested = True
        self._ring()
        return True

    def await_arm(self, awaiting: bool) -> None:
        """From now on an arm counts (or no longer does). What was asked before is forgotten."""
        self._arm_requested = False
        self.awaiting_arm = awaiting

    @property
    def arm_requested(self) -> bool:
        """Somebody asked since `await_arm`."""
        return self._arm_requested

    def poll(self) -> None:
        """Raise StopRequested when somebody asked for a stop."""
        if self.stop is not None:
            raise self.stop

    def wait(self, seconds: float) -> None:
        """Sleep for so long, or until the next request."""
        if select.select([self.wake_socket], [], [], seconds)[0]:
            self.wake_socket.recv(4096)

    def _ring(self) -> None:
        try:
            self._bell.send(b"!")
        except OSError:
            return  # rung often enough already, or the run is over
