"""The serial ports of this machine, for `list` and for the message that says which ports exist."""

import dataclasses
from pathlib import Path

from serial.tools import list_ports

BY_ID = Path("/dev/serial/by-id")


@dataclasses.dataclass(frozen=True)
class Port:
    """One serial port; `stable_path` keeps naming the same board after replugging ("" when udev gave none)."""

    path: str
    stable_path: str
    description: str
    hardware_id: str


def list_serial_ports() -> list[Port]:
    """Ports that belong to a real device, sorted by path."""
    stable: dict[str, str] = {}
    if BY_ID.is_dir():
        stable = {str(link.resolve()): str(link) for link in sorted(BY_ID.iterdir())}
    ports = [
        Port(info.device, stable.get(info.device, ""), info.description or "", info.hwid or "")
        for info in list_ports.comports()
        if info.hwid != "n/a"  # the kernel's table of UARTs that are not there
    ]
    return sorted(ports, key=lambda port: port.path)


def existing_ports_text() -> str:
    """`ports that exist: ...`, for error messages."""
    names = [port.stable_path or port.path for port in list_serial_ports()]
    return f"serial ports that exist: {', '.join(names) if names else 'none'}"
