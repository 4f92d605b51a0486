"""What `--port` may say, taken apart before anything is opened.

/dev/ttyACM0, /dev/serial/by-id/...   a serial port by its path
usb:VID:PID[:SERIAL]                  the one serial port of this USB device, wherever it is plugged in
socket://HOST:PORT                    a device behind TCP
sim:                                  the firmware compiled for this machine, against the simulated plant
sim:qemu[:BOARD]                      the image of a microcontroller, emulated (netduinoplus2 unless named)
"""

import dataclasses
import re

from firmware_bridge.errors import LinkError
from hardware.board import BOARDS

SOCKET_PREFIX = "socket://"
FORMS = "a device path, usb:VID:PID[:SERIAL], socket://HOST:PORT, sim: or sim:qemu[:BOARD]"
HOST_BOARD = "host"
_QEMU_BOARD = "netduinoplus2"
_USB = re.compile(r"usb:([0-9a-fA-F]{4}):([0-9a-fA-F]{4})(?::(.+))?")


@dataclasses.dataclass(frozen=True)
class SerialPath:
    """A serial port by its path."""

    path: str


@dataclasses.dataclass(frozen=True)
class UsbDevice:
    """A USB device by vendor, product, and serial number ("" for any)."""

    vendor: int
    product: int
    serial_number: str


@dataclasses.dataclass(frozen=True)
class TcpAddress:
    """A device that listens; `host` without the brackets of an IPv6 address."""

    host: str
    port: int


@dataclasses.dataclass(frozen=True)
class Simulated:
    """A device without a device: the board whose image runs."""

    board: str


PortName = SerialPath | UsbDevice | TcpAddress | Simulated


def parse_port(text: str) -> PortName:
    """Which kind of port `text` names. Raises LinkError for what is none."""
    scheme = text.partition(":")[0]
    if scheme == "sim":
        return _simulated(text)
    if scheme == "usb":
        found = _USB.fullmatch(text)
        if found is None:
            raise LinkError(
                f"port {text!r}: expected usb:VID:PID or usb:VID:PID:SERIAL with four hexadecimal digits each, for "
                "example usb:0483:374b; `python -m firmware_bridge list` shows them"
            )
        return UsbDevice(int(found[1], 16), int(found[2], 16), found[3] or "")
    if text.startswith(SOCKET_PREFIX):
        host, separator, number = text.removeprefix(SOCKET_PREFIX).rpartition(":")
        if not separator or not host or not number.isdecimal() or not 0 < int(number) <= 65535:
            raise LinkError(f"port {text!r}: expected socket://HOST:PORT, for example socket://127.0.0.1:5000")
        return TcpAddress(host.removeprefix("[").removesuffix("]"), int(number))
    if not text or "://" in text or text.endswith(":") or "\0" in text:
        raise LinkError(f"port {text!r}: unknown kind, expected {FORMS}; pass one of these")
    return SerialPath(text)


def simulated_board(text: str) -> str | None:
    """The board that `sim:...` runs; None for a port of any other kind. Raises LinkError for a malformed one."""
    name = parse_port(text)
    return name.board if isinstance(name, Simulated) else None


def _simulated(text: str) -> Simulated:
    emulated = [name for name, board in BOARDS.items() if board.machine is not None]
    if text == "sim:":
        return Simulated(HOST_BOARD)
    if text == "sim:qemu":
        return Simulated(_QEMU_BOARD)
    board = text.removeprefix("sim:qemu:")
    if board == text or board not in emulated:
        raise LinkError(
            f"port {text!r}: expected sim:, sim:qemu or sim:qemu:BOARD with one of the emulated boards "
            f"{', '.join(emulated)}; pass one of these"
        )
    return Simulated(board)
