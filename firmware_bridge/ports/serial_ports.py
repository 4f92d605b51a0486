"""The serial ports of this machine: for `list`, for `usb:VID:PID`, and for the message that says which ports exist."""

import dataclasses
from pathlib import Path

from firmware_bridge.errors import LinkError, PortNotFoundError
from firmware_bridge.ports.known_devices import controller_kind
from firmware_bridge.ports.port_name import UsbDevice
from firmware_bridge.ports.port_users import port_user

BY_ID = Path("/dev/serial/by-id")


@dataclasses.dataclass(frozen=True)
class Port:
    """One serial port; `stable_path` keeps naming the same board after replugging ("" when udev gave none), `usb` is
    what `--port` may say instead ("" for no USB device), `controller` what kind of board it probably is."""

    path: str
    stable_path: str
    description: str
    hardware_id: str
    usb: str
    serial_number: str
    controller: str


def list_serial_ports() -> list[Port]:
    """Ports that belong to a real device, sorted by path."""
    from serial.tools import list_ports

    stable: dict[str, str] = {}
    if BY_ID.is_dir():
        stable = {str(link.resolve()): str(link) for link in sorted(BY_ID.iterdir())}
    ports = [
        Port(
            path=info.device,
            stable_path=stable.get(info.device, ""),
            description=info.description or "",
            hardware_id=info.hwid or "",
            usb="" if info.vid is None else f"usb:{info.vid:04x}:{info.pid:04x}",
            serial_number=info.serial_number or "",
            controller=controller_kind(info.vid, info.pid, stable.get(info.device, "")),
        )
        for info in list_ports.comports()
        if info.hwid != "n/a"  # the kernel's table of UARTs that are not there
    ]
    return sorted(ports, key=lambda port: port.path)


def existing_ports_text() -> str:
    """`ports that exist: ...`, for error messages."""
    names = [port.stable_path or port.path for port in list_serial_ports()]
    return f"serial ports that exist: {', '.join(names) if names else 'none'}"


def find_usb_port(wanted: UsbDevice) -> str:
    """Path of the one port of this device. Raises PortNotFoundError, or LinkError where several fit."""
    name = f"usb:{wanted.vendor:04x}:{wanted.product:04x}"
    found = [
        port for port in list_serial_ports() if port.usb == name and wanted.serial_number in ("", port.serial_number)
    ]
    if not found:
        serial_number = f" with serial number {wanted.serial_number}" if wanted.serial_number else ""
        raise PortNotFoundError(
            f"port {name}{serial_number}: no such device is plugged in; {existing_ports_text()}; plug it in, or pass "
            "one of them"
        )
    if len(found) > 1:
        listed = ", ".join(f"{port.path} ({port.serial_number or 'no serial number'})" for port in found)
        raise LinkError(
            f"port {name}: {len(found)} ports fit: {listed}; expected one; add the serial number "
            "(usb:VID:PID:SERIAL) or pass the path"
        )
    return found[0].path


def users_of(ports: list[Port]) -> dict[str, str]:
    """Who holds each port, by its path; "" where nobody is seen to."""
    return {port.path: port_user(port.path) for port in ports}
