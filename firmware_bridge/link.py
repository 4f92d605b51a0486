"""The byte stream to a device: a serial port by path, or `socket://HOST:PORT`.

Nothing here waits for a fixed number of bytes: `wait` selects on the file descriptor, `read` takes what is there. A
port is locked against a second bridge, and closing it does not drop DTR: that would reset many boards on the next open.
"""

import contextlib
import errno
import os
import select
import socket
import termios
from pathlib import Path
from typing import Any, Protocol

from firmware_bridge.errors import LinkError, LinkLostError, PortBusyError, PortNotFoundError
from firmware_bridge.ports import existing_ports_text

DEFAULT_BAUDRATE = 921_600
SOCKET_PREFIX = "socket://"
_READ_SIZE_BYTES = 4096
_WRITE_TIMEOUT_S = 0.5
_CONNECT_TIMEOUT_S = 5.0


class _Closable(Protocol):
    def close(self) -> None: ...


class Link:
    """An open, non-blocking byte stream. `baudrate` is None where the wire has none (socket, pseudo terminal)."""

    def __init__(self, handle: _Closable, descriptor: int, name: str, baudrate: int | None) -> None:
        self.name = name
        self.baudrate = baudrate
        self._handle = handle
        self._descriptor = descriptor
        # Built once: select() is called every period.
        self._watched: list[int | socket.socket] = [descriptor]
        self._none: list[int] = []
        self._wake: socket.socket | None = None

    def watch(self, wake: socket.socket) -> None:
        """Let `wait` end early, too, when `wake` (non-blocking) becomes readable; what it holds is thrown away."""
        self._wake = wake
        self._watched = [self._descriptor, wake]

    def wait(self, timeout_s: float) -> bool:
        """Sleep until bytes are there (True), or until `timeout_s` has passed or somebody woke us (False)."""
        ready = select.select(self._watched, self._none, self._none, timeout_s)[0]
        if self._wake is not None and self._wake in ready:
            self._wake.recv(_READ_SIZE_BYTES)
        return self._descriptor in ready

    def read(self) -> bytes:
        """The bytes that are there now, possibly none. Raises LinkLostError when the other side is gone."""
        try:
            data = os.read(self._descriptor, _READ_SIZE_BYTES)
        except BlockingIOError:
            return b""
        except OSError as error:
            raise self._lost(error.strerror or str(error)) from error
        if not data:
            raise self._lost("end of stream")
        return data

    def write(self, data: bytes) -> None:
        """Hand all of `data` to the kernel. Raises LinkLostError when it does not take it in time."""
        view = data
        while view:
            try:
                view = view[os.write(self._descriptor, view) :]
            except BlockingIOError:
                if not select.select(self._none, self._watched, self._none, _WRITE_TIMEOUT_S)[1]:
                    raise self._lost(f"the device took no bytes for {_WRITE_TIMEOUT_S} s") from None
            except OSError as error:
                raise self._lost(error.strerror or str(error)) from error

    def close(self) -> None:
        """Close the port; also when it is already gone."""
        # An unplugged port may refuse even this.
        with contextlib.suppress(OSError, termios.error):
            self._handle.close()

    def _lost(self, reason: str) -> LinkLostError:
        return LinkLostError(
            f"port {self.name}: connection lost ({reason}), expected it to stay open; check cable and power of the "
            "device: its watchdog brakes the cart and it stays disarmed until the next run"
        )


def open_link(port: str, baudrate: int = DEFAULT_BAUDRATE) -> Link:
    """Open `port`, a device path or `socket://HOST:PORT`. Raises LinkError, or one of its kinds."""
    if port.startswith(SOCKET_PREFIX):
        return _open_socket(port)
    if "://" in port or port.endswith(":"):
        raise LinkError(f"port {port!r}: unknown kind, expected a device path, socket://HOST:PORT or sim:")
    return _open_serial(port, baudrate)


def _open_socket(port: str) -> Link:
    host, separator, number = port.removeprefix(SOCKET_PREFIX).rpartition(":")
    if not separator or not host or not number.isdigit() or int(number) > 65535:
        raise LinkError(f"port {port!r}: expected socket://HOST:PORT, for example socket://127.0.0.1:5000")
    try:
        connection = socket.create_connection((host.strip("[]"), int(number)), _CONNECT_TIMEOUT_S)
    except OSError as error:
        raise PortNotFoundError(
            f"port {port}: cannot connect ({error.strerror or error}); expected a device listening; start it first"
        ) from error
    # A command of 20 bytes must leave now, not when more bytes have gathered.
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setblocking(False)
    return Link(connection, connection.fileno(), port, None)


def _open_serial(port: str, baudrate: int) -> Link:
    import serial

    if not Path(port).exists():
        raise PortNotFoundError(f"port {port}: does not exist; {existing_ports_text()}; pass one of them, or sim:")
    try:
        handle = serial.Serial(port, baudrate, timeout=0, exclusive=True)
    except (serial.SerialException, OSError, ValueError, termios.error) as error:
        raise _open_error(port, error) from error
    descriptor = handle.fileno()
    pseudo = os.ttyname(descriptor).startswith("/dev/pts/")
    _configure_terminal(descriptor)
    return Link(handle, descriptor, port, None if pseudo else baudrate)


def _open_error(port: str, error: Exception) -> LinkError:
    code = getattr(error, "errno", None)
    if code in (errno.EAGAIN, errno.EBUSY) or "exclusively lock" in str(error):
        return PortBusyError(f"port {port}: another program holds it; expected it free; close the other program")
    if code in (errno.EACCES, errno.EPERM):
        return PortBusyError(
            f"port {port}: permission denied; add yourself to its group (often dialout) and log in again"
        )
    return LinkError(f"port {port}: cannot open as a serial port ({error}); {existing_ports_text()}; pass one, or sim:")


def _configure_terminal(descriptor: int) -> None:
    attributes: list[Any] = termios.tcgetattr(descriptor)
    # HUPCL makes the kernel drop DTR on close and raise it on open; boards that couple DTR to reset would restart.
    attributes[2] &= ~termios.HUPCL
    # pyserial leaves VMIN at 0, where an empty read means both "nothing yet" and "gone". At 1 it only means gone.
    attributes[6][termios.VMIN] = 1
    termios.tcsetattr(descriptor, termios.TCSANOW, attributes)
