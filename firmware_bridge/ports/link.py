"""The byte stream to a device: a serial port by path or USB device, or `socket://HOST:PORT`.

Nothing here waits for a fixed number of bytes: `wait` selects on the file descriptor, `read` takes what is there. A
port is locked against every other program, and closing it does not drop DTR: that would reset many boards on the next
open.
"""

import contextlib
import errno
import fcntl
import os
import select
import socket
import termios
from pathlib import Path
from typing import Any, Protocol

from firmware_bridge.errors import LinkError, LinkLostError, PortBusyError, PortNotFoundError
from firmware_bridge.ports.port_name import SerialPath, TcpAddress, UsbDevice, parse_port
from firmware_bridge.ports.port_users import port_user
from firmware_bridge.ports.serial_ports import existing_ports_text, find_usb_port

DEFAULT_BAUDRATE = 921_600
_PSEUDO_FOLDER = "/dev/pts/"
_READ_SIZE_BYTES = 4096
_WRITE_TIMEOUT_S = 0.5
_CONNECT_TIMEOUT_S = 5.0
_VANISHED = (errno.ENOENT, errno.ENXIO, errno.ENODEV, errno.EIO)  # what an unplugged port says, early or late


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
        self._port = [descriptor]
        self._watched: list[int | socket.socket] = [descriptor]
        self._none: list[int] = []
        self._wake: socket.socket | None = None

    def watch(self, wake: socket.socket) -> None:
        """Let `wait` end early, too, when `wake` (non-blocking) becomes readable; what it holds is thrown away."""
        self._wake = wake
        self._watched = [self._descriptor, wake]

    @property
    def descriptor(self) -> int:
        """The open file descriptor."""
        return self._descriptor

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
                # The port alone: the socket that wakes `wait` can always be written to.
                if not select.select(self._none, self._port, self._none, _WRITE_TIMEOUT_S)[1]:
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
    """Open `port`: any form of `port_name` but sim:, which has to be started first. Raises LinkError, or one of its
    kinds."""
    name = parse_port(port)
    if isinstance(name, TcpAddress):
        return _open_socket(port, name)
    if isinstance(name, UsbDevice):
        return _open_serial(find_usb_port(name), baudrate)
    if isinstance(name, SerialPath):
        return _open_serial(name.path, baudrate)
    raise LinkError(f"port {port!r}: a simulated device is started by `run` only, expected a port; pass one")


def _open_socket(port: str, address: TcpAddress) -> Link:
    try:
        connection = socket.create_connection((address.host, address.port), _CONNECT_TIMEOUT_S)
    except (OSError, UnicodeError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise PortNotFoundError(
            f"port {port}: cannot connect ({reason}); expected a device listening; start it first"
        ) from error
    # A command of 20 bytes must leave now, not when more bytes have gathered.
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setblocking(False)
    return Link(connection, connection.fileno(), port, None)


def _open_serial(port: str, baudrate: int) -> Link:
    import serial

    if not Path(port).exists():
        raise PortNotFoundError(f"port {port}: does not exist; {existing_ports_text()}; pass one of them, or sim:")
    # A simulator holds both ends of its pseudo terminal: there, only the lock tells.
    user = "" if _is_pseudo(port) else port_user(port)
    if user:
        raise _busy_error(port, user)
    try:
        handle = serial.Serial(port, baudrate, timeout=0, exclusive=True)
    except (serial.SerialException, OSError, ValueError, termios.error) as error:
        raise _open_error(port, error) from error
    try:
        descriptor = handle.fileno()
        pseudo = os.ttyname(descriptor).startswith(_PSEUDO_FOLDER)
        _configure_terminal(descriptor)
        if not pseudo:
            keep_others_out(descriptor)
    except (OSError, termios.error) as error:
        handle.close()
        raise _open_error(port, error) from error
    return Link(handle, descriptor, port, None if pseudo else baudrate)


def keep_others_out(descriptor: int) -> None:
    """TIOCEXCL: from now on every open() of this terminal fails with EBUSY, whatever program does it, but for root's.

    The kernel forgets it with the last close(), also that of a process that was killed. Not for a pseudo terminal: the
    other end would keep it alive, and lock out the next run. flock(), which pyserial takes, keeps out who asks for it.
    """
    fcntl.ioctl(descriptor, termios.TIOCEXCL)


def _is_pseudo(port: str) -> bool:
    return os.path.realpath(port).startswith(_PSEUDO_FOLDER)


def _busy_error(port: str, user: str) -> PortBusyError:
    return PortBusyError(f"port {port}: {user} holds it; expected it free; close the other program")


def _open_error(port: str, error: Exception) -> LinkError:
    code = _error_number(error)
    if code in _VANISHED:
        return PortNotFoundError(
            f"port {port}: gone while it was being opened ({error}); {existing_ports_text()}; plug it in again"
        )
    if code in (errno.EAGAIN, errno.EBUSY) or "exclusively lock" in str(error):
        return _busy_error(port, port_user(port) or "another program")
    if code in (errno.EACCES, errno.EPERM):
        return PortBusyError(
            f"port {port}: permission denied; add yourself to its group (often dialout) and log in again"
        )
    return LinkError(f"port {port}: cannot open as a serial port ({error}); {existing_ports_text()}; pass one, or sim:")


def _error_number(error: BaseException | None) -> int | None:
    """The errno behind an error: termios.error has it in its arguments, and pyserial keeps some in the context only."""
    if isinstance(error, termios.error):
        return error.args[0] if error.args and isinstance(error.args[0], int) else None
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    return _error_number(error.__context__) if error is not None else None


def _configure_terminal(descriptor: int) -> None:
    attributes: list[Any] = termios.tcgetattr(descriptor)
    # HUPCL makes the kernel drop DTR on close and raise it on open; boards that couple DTR to reset would restart.
    # open() itself raises DTR, nobody can prevent that: from then on it stays up, and the next open changes nothing.
    # The udev rule of `make install-daemon` does it when the board is plugged in, before it matters.
    attributes[2] &= ~termios.HUPCL
    # pyserial leaves VMIN at 0, where an empty read means both "nothing yet" and "gone". At 1 it only means gone.
    attributes[6][termios.VMIN] = 1
    termios.tcsetattr(descriptor, termios.TCSANOW, attributes)
