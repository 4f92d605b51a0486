"""Which port is meant, which ports there are, and who holds them."""

import contextlib
import dataclasses
import errno
import fcntl
import json
import os
import subprocess
import sys
import tty

import pytest
from fake_device import FakeDevice
from hypothesis import given
from hypothesis import strategies as st

from firmware_bridge.config import ListPorts, Run
from firmware_bridge.errors import BridgeError, LinkError, PortBusyError, PortNotFoundError
from firmware_bridge.ports import list_ports, port_users
from firmware_bridge.ports import serial_ports as ports
from firmware_bridge.ports.known_devices import controller_kind
from firmware_bridge.ports.link import keep_others_out, open_link
from firmware_bridge.ports.port_name import SerialPath, Simulated, TcpAddress, UsbDevice, parse_port
from firmware_bridge.ports.port_users import port_user
from hardware.board import BOARDS


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("/dev/ttyACM0", SerialPath("/dev/ttyACM0")),
        ("/dev/serial/by-id/usb-STM_STLink:1-if02", SerialPath("/dev/serial/by-id/usb-STM_STLink:1-if02")),
        ("build/link", SerialPath("build/link")),
        ("usb:0483:374B", UsbDevice(0x483, 0x374B, "")),
        ("usb:0483:374b:066DFF:1", UsbDevice(0x483, 0x374B, "066DFF:1")),
        ("socket://127.0.0.1:5000", TcpAddress("127.0.0.1", 5000)),
        ("socket://[::1]:5000", TcpAddress("::1", 5000)),
        ("sim:", Simulated("host")),
        ("sim:qemu", Simulated("netduinoplus2")),
        ("sim:qemu:microbit", Simulated("microbit")),
    ],
)
def test_every_form(text, name):
    assert parse_port(text) == name


@pytest.mark.parametrize(
    "text",
    [
        "",
        "usb:",
        "usb:483:374b",
        "usb:0483:374b:",
        "usb:0483",
        "sim:qemu:",
        "sim:qemu:nothing",
        "sim:x",
        "ftp://h:1",
        "socket://h",
        "socket://:5",
        "socket://h:0",
        "socket://h:65536",
        "socket://h:x",
        "COM3:",
        "/dev/tty\x00",
        "sim",
    ],
)
def test_what_is_no_port_is_one_line(text):
    with pytest.raises(LinkError, match="expected") as caught:
        parse_port(text)
    assert "\n" not in str(caught.value)


@given(st.text(max_size=40))
def test_any_text_is_a_port_or_a_link_error(text):
    with contextlib.suppress(LinkError):
        assert parse_port(text) is not None


def test_every_emulated_board_can_be_named():
    for name, board in BOARDS.items():
        if board.machine is not None:
            assert parse_port(f"sim:qemu:{name}") == Simulated(name)


@pytest.mark.parametrize("changes", [{"clock": "lockstep"}, {"randomise": True}, {"image": "x"}])
@pytest.mark.parametrize("port", ["/dev/ttyACM0", "usb:0483:374b", "socket://h:1"])
def test_what_only_a_simulated_device_knows(port, changes, tmp_path):
    with pytest.raises(BridgeError, match="only sim: knows it"):
        Run(port=port, policy=tmp_path, log=tmp_path, **changes)
    assert Run(port="sim:qemu:microbit", policy=tmp_path, log=tmp_path, **changes)


def test_simulated_device_is_not_reconnected(tmp_path):
    with pytest.raises(BridgeError, match="leave --reconnect out"):
        Run(port="sim:", policy=tmp_path, log=tmp_path, reconnect=True)


@dataclasses.dataclass
class _Info:
    device: str
    vid: int | None = None
    pid: int | None = None
    serial_number: str | None = None
    description: str | None = "n/a"
    hwid: str = "PNP"


@pytest.fixture
def plugged_in(monkeypatch):
    """Sets what pyserial finds."""
    infos = []
    monkeypatch.setattr("serial.tools.list_ports.comports", lambda: infos)
    monkeypatch.setattr(ports, "BY_ID", ports.Path("/nowhere"))
    return infos


def test_usb_device_is_found_wherever_it_is_plugged_in(plugged_in):
    plugged_in += [
        _Info("/dev/ttyS0", hwid="n/a"),
        _Info("/dev/ttyACM1", 0x483, 0x374B, "B"),
        _Info("/dev/ttyACM0", 0x483, 0x374B, "A"),
        _Info("/dev/ttyUSB0", 0x403, 0x6001, None),
    ]
    assert ports.find_usb_port(parse_port("usb:0403:6001")) == "/dev/ttyUSB0"
    assert ports.find_usb_port(parse_port("usb:0483:374b:B")) == "/dev/ttyACM1"
    with pytest.raises(LinkError, match=r"2 ports fit: /dev/ttyACM0 \(A\), /dev/ttyACM1 \(B\); .*usb:VID:PID:SERIAL"):
        ports.find_usb_port(parse_port("usb:0483:374b"))
    for absent in ("usb:0483:374b:C", "usb:2341:0043"):
        with pytest.raises(PortNotFoundError, match="no such device is plugged in; serial ports that exist: /dev/ttyA"):
            ports.find_usb_port(parse_port(absent))
    assert [port.controller for port in ports.list_serial_ports()] == ["ST-LINK/V2-1", "ST-LINK/V2-1", "FTDI FT232R"]


def test_usb_port_opens(plugged_in):
    with FakeDevice("00" * 32) as device:
        plugged_in.append(_Info(device.path, 0x1A86, 0x7523))
        link = open_link("usb:1a86:7523")
        link.close()


@pytest.mark.parametrize(
    ("vendor", "product", "name", "kind"),
    [
        (0x2341, 0x0043, "", "Arduino"),
        (0x0D28, 0x0204, "", "DAPLink"),
        (None, None, "usb-ARM_DAPLink_CMSIS-DAP_1-if01", "DAPLink"),
        (0x1234, 0x5678, "/dev/serial/by-id/usb-Arduino_x", "Arduino"),
        (0x1234, 0x5678, "usb-Modem", ""),
        (None, None, "", ""),
    ],
)
def test_what_looks_like_a_controller(vendor, product, name, kind):
    assert controller_kind(vendor, product, name) == kind


@pytest.fixture
def terminal():
    master, slave = os.openpty()
    tty.setraw(slave)
    yield os.ttyname(slave), slave
    os.close(master)
    os.close(slave)


class _Holder:
    """Another program that has the port open, and perhaps locked."""

    def __init__(self, path, lock):
        program = "import fcntl, sys; f = open(sys.argv[1], 'rb', 0); sys.argv[2] and fcntl.flock(f, fcntl.LOCK_EX)\n"
        program += "print(flush=True); sys.stdin.read()"
        command = [sys.executable, "-c", program, path, "x" if lock else ""]
        self.popen = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.popen.stdout.readline()

    def __enter__(self):
        return self.popen.pid

    def __exit__(self, *_):
        self.popen.communicate()


@pytest.mark.parametrize("lock", [False, True])
def test_other_program_that_holds_the_port_is_named(terminal, lock):
    path, _ = terminal
    assert port_user(path) == ""  # this process does not count
    with _Holder(path, lock) as process:
        assert port_user(path).endswith(f"(process {process})")
    assert port_user(path) == ""


def test_lock_is_seen_where_the_process_may_not_be_looked_at(terminal, monkeypatch):
    path, _ = terminal
    monkeypatch.setattr(port_users, "_open_files", lambda device: iter(()))
    with _Holder(path, lock=False):
        assert port_user(path) == ""
    with _Holder(path, lock=True) as process:
        assert f"process {process}" in port_user(path)


@pytest.mark.parametrize(
    ("content", "seen"), [("{pid}\n", True), ("      {pid} minicom root\n", True), ("999999999", False)]
)
def test_lock_files_of_minicom_and_its_kin(terminal, tmp_path, monkeypatch, content, seen):
    path, _ = terminal
    monkeypatch.setattr(port_users, "_LOCK_FOLDERS", (tmp_path,))
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        (tmp_path / f"LCK..{os.path.basename(path)}").write_text(content.format(pid=other.pid))
        assert (f"process {other.pid}" in port_user(path)) is seen
        other.communicate(b"\n")


@pytest.mark.parametrize("content", ["", "x", "-3", "\x00" * 50, "9" * 5000])
def test_damaged_lock_files_say_nothing(terminal, tmp_path, monkeypatch, content):
    path, _ = terminal
    monkeypatch.setattr(port_users, "_LOCK_FOLDERS", (tmp_path,))
    (tmp_path / f"LCK..{os.path.basename(path)}").write_text(content)
    assert port_user(path) == ""


def test_locked_port_is_refused_and_its_holder_named(terminal):
    path, _ = terminal
    with _Holder(path, lock=True) as process, pytest.raises(PortBusyError, match=rf"process {process}\) holds it"):
        open_link(path)
    open_link(path).close()


def test_real_port_that_another_program_merely_has_open_is_refused(terminal, monkeypatch):
    """Two readers share the bytes; a real port, which no simulator holds from both ends, is then left alone."""
    path, _ = terminal
    monkeypatch.setattr("firmware_bridge.ports.link._PSEUDO_FOLDER", "/nothing/")
    with _Holder(path, lock=False) as process, pytest.raises(PortBusyError, match=rf"process {process}\) holds it"):
        open_link(path)


def test_exclusive_terminal_refuses_every_other_program(terminal):
    """In a process without root's right to ignore it; it locks nothing itself, as `cat` does not."""
    path, slave = terminal
    os.chmod(path, 0o666)
    program = "import os, sys; os.close(os.open(sys.argv[1], os.O_RDWR | os.O_NOCTTY))"
    user = {"user": "nobody"} if os.getuid() == 0 else {}

    def attempt():
        command = ["/usr/bin/env", "python3", "-c", program, path]
        return subprocess.run(command, capture_output=True, text=True, check=False, cwd="/", **user)

    assert attempt().returncode == 0
    keep_others_out(slave)
    assert f"Errno {errno.EBUSY}" in attempt().stderr
    fcntl.ioctl(slave, 0x540D)  # TIOCNXCL
    assert attempt().returncode == 0


def test_list_tells_who_holds_what_and_who_answers(plugged_in, terminal):
    with FakeDevice("ab" * 32) as device, _Holder(terminal[0], lock=True) as process:
        plugged_in += [
            _Info(device.path, 0x483, 0x374B, "A"),
            _Info(terminal[0], 0x403, 0x6001),
            _Info("/dev/ttyS7", description="no controller"),
            _Info("/dev/ttyGONE", 0x403, 0x6001),
        ]
        quiet = list_ports.make_list(ListPorts())
        assert not device.received
        probed = list_ports.make_list(ListPorts(probe=True))
    by_path = {port["path"]: port for port in probed["ports"]}
    assert by_path[device.path]["answer"]["board"] == "fake"
    assert by_path[device.path]["answer"]["policy_digest"] == "ab" * 32
    assert by_path[terminal[0]]["in_use_by"].endswith(f"(process {process})")
    assert "answer" not in by_path[terminal[0]]
    assert "answer" not in by_path["/dev/ttyS7"]
    assert "does not exist" in by_path["/dev/ttyGONE"]["answer"]["error"]
    assert not any("answer" in port for port in quiet["ports"])
    json.dumps(probed)
    list_ports.print_list(probed)


def test_closing_leaves_dtr_alone(terminal):
    """HUPCL would drop it with the last close, and the next open would raise it again: the reset of many boards."""
    import termios

    path, slave = terminal
    attributes = termios.tcgetattr(slave)
    attributes[2] |= termios.HUPCL
    termios.tcsetattr(slave, termios.TCSANOW, attributes)
    open_link(path).close()
    assert not termios.tcgetattr(slave)[2] & termios.HUPCL
