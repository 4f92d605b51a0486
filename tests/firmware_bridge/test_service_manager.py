"""What systemd hears, at a socket of our own; and the lines that the journal gets."""

import contextlib
import os
import socket
import subprocess
import sys

import pytest
from fake_device import FakeDevice

from firmware_bridge import notices
from firmware_bridge.loop.policy_folder import open_policy_folder
from firmware_bridge.systemd.service_manager import ServiceManager
from hardware.protocol import Arm


@pytest.fixture
def listener(tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(tmp_path / "notify"))
        receiver.setblocking(False)
        yield receiver


def _heard(receiver):
    lines = []
    with contextlib.suppress(BlockingIOError):
        while True:
            lines.append(receiver.recv(4096).decode())
    return lines


def _environment(receiver, **more):
    return {"NOTIFY_SOCKET": receiver.getsockname(), **more}


def test_life_of_a_service(listener):
    service = ServiceManager(_environment(listener))
    service.ready()
    service.status("RUN: armed\nat tick 7")
    service.feed()  # no WATCHDOG_USEC: nobody counts
    service.stopping()
    service.close()
    service.status("too late")
    assert _heard(listener) == ["READY=1", "STATUS=RUN: armed at tick 7", "STOPPING=1"]


def test_watchdog_is_fed_four_times_per_timeout_however_often_the_loop_turns(listener, monkeypatch):
    now = [0]
    monkeypatch.setattr("firmware_bridge.systemd.service_manager.time.monotonic_ns", lambda: now[0])
    service = ServiceManager(_environment(listener, WATCHDOG_USEC="1000000", WATCHDOG_PID=str(os.getpid())))
    for now[0] in range(0, 2_000_000_000, 1_000_000):  # 2 s at 1 kHz
        service.feed()
    assert _heard(listener) == ["WATCHDOG=1"] * 8
    now[0] = 60_000_000_000  # hung for a minute: nothing was fed in its place, and nothing is made up for
    assert _heard(listener) == []
    service.feed()
    assert _heard(listener) == ["WATCHDOG=1"]


@pytest.mark.parametrize("variables", [{"WATCHDOG_USEC": "x"}, {"WATCHDOG_USEC": "1000", "WATCHDOG_PID": "1"}])
def test_watchdog_that_is_not_ours_is_not_fed(listener, variables):
    service = ServiceManager(_environment(listener, **variables))
    service.feed()
    assert _heard(listener) == []


def test_abstract_socket():
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(f"\0bpd-bridge-test-{os.getpid()}")
        ServiceManager({"NOTIFY_SOCKET": f"@bpd-bridge-test-{os.getpid()}"}).ready()
        assert receiver.recv(100) == b"READY=1"


@pytest.mark.parametrize("address", ["", "vsock:2:1", "/nowhere/at/all", "relative"])
def test_nobody_listens(address):
    service = ServiceManager({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "1"})
    service.ready()
    service.feed()
    service.close()


def test_full_socket_delays_nothing(listener):
    service = ServiceManager(_environment(listener))
    for _ in range(5_000):  # more than any queue of datagrams holds, and nobody reads
        service.status("x" * 500)
    assert _heard(listener)


def test_a_whole_run_reports_its_states_and_feeds_from_its_loop(listener, policy_folder, tmp_path):
    digest = open_policy_folder(policy_folder).digest
    # Four feeds in 40 us: every turn of the loop feeds.
    environment = {**os.environ, **_environment(listener, WATCHDOG_USEC="40")}
    with FakeDevice(digest) as device:
        command = [
            sys.executable,
            "-m",
            "firmware_bridge",
            "run",
            "--port",
            device.path,
            "--policy",
            str(policy_folder),
        ]
        command += ["--log", str(tmp_path / "log"), "--duration-s", "0.2", "--json"]
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
        listener.setblocking(True)
        listener.settimeout(30)
        heard = []
        while not heard or heard[-1] != "STOPPING=1":
            heard.append(listener.recv(4096).decode())
        assert process.wait(30) == 0
    assert device.of_type(Arm)
    assert heard[0] == "READY=1"
    states = [line.partition("=")[2].partition(":")[0] for line in heard if line.startswith("STATUS=")]
    assert states == ["HOMING", "IDLE", "ARMED", "RUN", "IDLE"]
    running = heard[heard.index(next(line for line in heard if line.startswith("STATUS=RUN"))) :]
    assert running.count("WATCHDOG=1") >= 10  # one for each of the ten periods


def test_lines_in_the_journal_carry_their_priority():
    program = "from firmware_bridge import notices; notices.say('two\\nlines', notices.ERROR)"
    read, write = os.pipe()
    status = os.fstat(write)
    for stream, expected in ((f"{status.st_dev}:{status.st_ino}", b"<3>two lines\n"), ("1:2", b"two lines\n")):
        environment = {**os.environ, "JOURNAL_STREAM": stream}
        subprocess.run([sys.executable, "-c", program], env=environment, stderr=write, check=True)
        assert os.read(read, 100) == expected
    os.close(read)
    os.close(write)


def test_nobody_reads_standard_error(monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    notices.say("x")
    assert not notices.is_journal()
