import errno
import os
import socket
import termios
import tty

import pytest
import serial

from firmware_bridge.errors import LinkError, LinkLostError, PortBusyError, PortNotFoundError
from firmware_bridge.ports.back_off import RECONNECTED
from firmware_bridge.ports.link import open_link


@pytest.fixture
def pseudo_terminal():
    master, slave = os.openpty()
    tty.setraw(slave)
    yield master, os.ttyname(slave)
    for descriptor in (master, slave):
        try:
            os.close(descriptor)
        except OSError:
            continue


def test_missing_port_lists_the_existing():
    with pytest.raises(PortNotFoundError, match=r"/dev/ttyNOPE: does not exist; serial ports that exist: "):
        open_link("/dev/ttyNOPE")


def test_port_that_is_no_serial_port(tmp_path):
    path = tmp_path / "file"
    path.touch()
    with pytest.raises(LinkError, match="cannot open as a serial port"):
        open_link(str(path))


def _configuring(code):
    """What pyserial makes of a port that vanished between its open() and its tcgetattr()."""
    try:
        raise termios.error(code, os.strerror(code))
    except termios.error as told:
        try:
            raise serial.SerialException(f"Could not configure port: {told}")
        except serial.SerialException as error:
            return error


@pytest.mark.parametrize("code", [errno.ENOENT, errno.ENXIO, errno.ENODEV, errno.EIO])
@pytest.mark.parametrize("kind", [serial.SerialException, OSError, termios.error, _configuring])
def test_port_that_vanishes_while_it_is_opened_is_one_that_may_come_back(kind, code, pseudo_terminal, monkeypatch):
    error = _configuring(code) if kind is _configuring else kind(code, os.strerror(code))

    def vanish(*_, **__):
        raise error

    monkeypatch.setattr(serial, "Serial", vanish)
    with pytest.raises(PortNotFoundError, match="gone while it was being opened") as caught:
        open_link(pseudo_terminal[1])
    assert isinstance(caught.value, RECONNECTED)


def test_file_that_is_no_terminal_never_becomes_one(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(LinkError) as caught:
        open_link(str(tmp_path / "file"))
    assert not isinstance(caught.value, RECONNECTED)


def test_second_bridge_is_refused(pseudo_terminal):
    _, path = pseudo_terminal
    link = open_link(path)
    with pytest.raises(PortBusyError, match="another program holds it"):
        open_link(path)
    link.close()
    open_link(path).close()


@pytest.mark.parametrize("port", ["socket://nowhere", "socket://:80", "socket://h:99999", "ftp://x:1", "sim:"])
def test_unknown_kind_of_port_says_what_is_possible(port):
    with pytest.raises(LinkError, match="expected"):
        open_link(port)


def test_nobody_listening_on_the_socket():
    with pytest.raises(PortNotFoundError, match="cannot connect"):
        open_link("socket://127.0.0.1:1")


def test_reads_what_is_there_and_notices_the_unplugged_cable(pseudo_terminal):
    master, path = pseudo_terminal
    link = open_link(path)
    assert link.baudrate is None
    assert not link.wait(0.0)
    assert link.read() == b""
    os.write(master, b"\x00abc")
    assert link.wait(5.0)
    assert link.read() == b"\x00abc"
    link.write(b"\xff\x00\x11")
    assert os.read(master, 10) == b"\xff\x00\x11"
    os.close(master)
    assert link.wait(5.0)
    with pytest.raises(LinkLostError, match="connection lost"):
        link.read()
    with pytest.raises(LinkLostError):
        link.write(b"x")
    link.close()


@pytest.mark.parametrize("watched", [False, True])
def test_device_that_reads_nothing_is_an_error_not_a_hang(pseudo_terminal, watched):
    _, path = pseudo_terminal
    link = open_link(path)
    if watched:  # a socket that can always be written to says nothing about the port
        wake, bell = socket.socketpair()
        link.watch(wake)
    with pytest.raises(LinkLostError, match="took no bytes"):
        link.write(b"x" * 1_000_000)
    link.close()
    if watched:
        wake.close()
        bell.close()
