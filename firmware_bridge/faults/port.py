"""Where the bridge meets the fault proxy: a listening socket on this machine, or a pseudo terminal behind a symlink.

Both can go away and come back under the same name, as a cable does.
"""

import contextlib
import os
import socket
import tty
from pathlib import Path
from typing import Protocol

from firmware_bridge.errors import LinkError, PortBusyError
from firmware_bridge.ports.link import Link
from firmware_bridge.ports.port_name import SOCKET_PREFIX
from hardware.errors import SimulatorError
from hardware.link_name import LinkName

_LOOPBACK = ("127.0.0.1", "localhost")


class HostPort(Protocol):
    """`open` offers the port, `accept` gives the bridge's stream when one may be there, `close` takes all away.

    `name` is what the bridge opens; `descriptor` tells select() when `accept` is worth a try, -1 while closed.
    """

    name: str
    descriptor: int

    def open(self) -> None:
        """Offer the port. Raises LinkError."""

    def accept(self) -> Link:
        """The stream of the bridge that came."""

    def close(self) -> None:
        """Take the name away, and end the stream. Safe to call twice."""


def host_port(listen: str) -> HostPort:
    """The port that `--listen` names, not open yet. Raises LinkError."""
    if not listen.startswith(SOCKET_PREFIX):
        return TerminalPort(Path(listen))
    host, separator, number = listen.removeprefix(SOCKET_PREFIX).rpartition(":")
    if not separator or host not in _LOOPBACK or not number.isdigit() or int(number) > 65535:
        raise LinkError(f"--listen {listen!r}: expected socket://127.0.0.1:PORT, or a path for a pseudo terminal")
    return SocketPort(int(number))


class SocketPort:
    """A TCP port of 127.0.0.1; one bridge at a time."""

    def __init__(self, number: int) -> None:
        self.descriptor = -1
        self._number = number
        self._server: socket.socket | None = None
        self._stream: Link | None = None
        self.name = f"{SOCKET_PREFIX}127.0.0.1:{number}"

    def open(self) -> None:
        """Listen; a free port keeps its number from then on."""
        try:
            self._server = socket.create_server(("127.0.0.1", self._number), backlog=1)
        except OSError as error:
            raise PortBusyError(
                f"--listen {self.name}: {error.strerror or error}; expected a free port; choose another, or 0"
            ) from error
        self._server.setblocking(False)
        self._number = self._server.getsockname()[1]
        self.name = f"{SOCKET_PREFIX}127.0.0.1:{self._number}"
        self.descriptor = self._server.fileno()

    def accept(self) -> Link:
        """The connection that waits. Raises LinkLostError when it is gone again."""
        assert self._server is not None
        connection, _ = self._server.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setblocking(False)
        self._stream = Link(connection, connection.fileno(), self.name, None)
        return self._stream

    def close(self) -> None:
        """Refuse connections, and end the one there is."""
        for thing in (self._server, self._stream):
            if thing is not None:
                thing.close()
        self._server = self._stream = None
        self.descriptor = -1


class _Descriptor:
    """A file descriptor that can be closed, as Link wants it."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def close(self) -> None:
        """Close it once."""
        with contextlib.suppress(OSError):
            os.close(self._descriptor)
        self._descriptor = -1


class TerminalPort:
    """A pseudo terminal. It does not say when somebody opens it: the first byte does, and EIO that he is gone."""

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self.descriptor = -1
        self._slave = -1
        self._link_name: LinkName | None = None

    def open(self) -> None:
        """Make the terminal and its symlink."""
        try:
            self._link_name = LinkName(Path(self.name))
            self.descriptor, self._slave = os.openpty()
            tty.setraw(self._slave)
            os.set_blocking(self.descriptor, False)
            self._link_name.take(os.ttyname(self._slave))
        except SimulatorError as error:
            self.close()
            raise LinkError(f"--listen {self.name}: {error}") from error

    def accept(self) -> Link:
        """The stream; from now on the bridge alone holds the other end, so that its leaving shows."""
        os.close(self._slave)
        self._slave = -1
        descriptor = os.dup(self.descriptor)
        return Link(_Descriptor(descriptor), descriptor, self.name, None)

    def close(self) -> None:
        """Hang up and remove the symlink."""
        if self._link_name is not None:
            self._link_name.release()
        for descriptor in (self.descriptor, self._slave):
            if descriptor >= 0:
                os.close(descriptor)
        self.descriptor = self._slave = -1
        self._link_name = None
