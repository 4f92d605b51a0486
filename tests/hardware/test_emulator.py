"""The emulated chip as a child: what is refused, what dies, and that nothing stays behind."""

import errno
import os
import re
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest
from pendulum_host import Host, Simulation

from hardware.board import BOARDS
from hardware.build import build
from hardware.command_line import Simulate
from hardware.emulator import EmulatedFirmware
from hardware.errors import ImageError, SimulatorError

pytestmark = [pytest.mark.qemu, pytest.mark.slow]
PATIENCE_S = 20.0


def gone(pid: int) -> bool:
    """Whether the process has ended, after waiting for it."""
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        state = Path(f"/proc/{pid}/stat")
        if not state.exists() or state.read_text().rpartition(")")[2].split()[0] == "Z":
            return True
        time.sleep(0.05)
    return False


@pytest.fixture
def simulation(emulated_image, tmp_path):
    simulation = Simulation(emulated_image, tmp_path, "--clock", "lockstep")
    yield simulation
    if simulation.child.poll() is None:
        simulation.end()


def test_an_emulator_that_dies_is_one_line(simulation):
    (emulator,) = simulation.firmware_pids()
    os.kill(emulator, signal.SIGKILL)
    _, error = simulation.child.communicate(timeout=PATIENCE_S)
    assert simulation.child.returncode == 1
    assert error.startswith("error: the emulator ended during the simulation: got SIGKILL")
    assert error.count("\n") == 1


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_no_emulator_stays_behind(simulation, number):
    (emulator,) = simulation.firmware_pids()
    host = Host(simulation.link)
    host.hello()
    simulation.child.send_signal(number)
    simulation.child.wait(PATIENCE_S)
    assert gone(emulator)
    host.close()


def test_images_that_cannot_be_emulated_are_refused(policy_folder, emulated_image, tmp_path):
    real = build(policy_folder, tmp_path, "netduinoplus2", "real").path
    with pytest.raises(SimulatorError, match="drives real pins of a netduinoplus2, expected the hil one"):
        Simulate(image=real, link=tmp_path / "link").run()
    stranger = tmp_path / "stranger.elf"
    data = emulated_image.read_bytes()
    stranger.write_bytes(data.replace(b"netduinoplus2 hil cart_rail", b"netduinoplus9 hil cart_rail"))
    with pytest.raises(ImageError, match="unknown board: got 'netduinoplus9'"):
        Simulate(image=stranger, link=tmp_path / "link").run()
    assert not os.path.lexists(tmp_path / "link")


def test_an_image_that_says_nothing_is_refused(emulated_image, tmp_path, monkeypatch):
    """Its entry point leads into data: it faults, resets, and faults again."""
    silent = tmp_path / "silent.elf"
    data = bytearray(emulated_image.read_bytes())
    start = data.find(emulated_image.with_suffix(".bin").read_bytes()[:64])
    data[start + 4 : start + 8] = (0x0800_0041).to_bytes(4, "little")
    silent.write_bytes(data)
    monkeypatch.setattr("hardware.emulator._START_TIMEOUT_S", 3.0)
    with pytest.raises(SimulatorError, match="said nothing within 3 s"):
        Simulate(image=silent, link=tmp_path / "link").run()
    assert not subprocess.run(["pgrep", "-f", str(silent)], capture_output=True, check=False).stdout


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (OSError(errno.EIO, "Input/output error"), r"the relay .* failed \(\[Errno 5\] Input/output error\)"),
        (None, "the emulator closed one"),
    ],
)
def test_a_link_that_is_lost_while_the_emulator_runs_names_its_reason(
    emulated_image, tmp_path, monkeypatch, failure, reason
):
    """Without its relay the simulator hears nothing any more: the reason must not be lost in a thread."""

    def read_nothing(_firmware):
        if failure is None:
            return b""
        raise failure

    monkeypatch.setattr("hardware.emulator.END_TIMEOUT_S", 0.2)
    monkeypatch.setattr("hardware.emulator.EmulatedFirmware._from_host", read_nothing)
    with EmulatedFirmware(emulated_image, BOARDS["netduinoplus2"], tmp_path / "link") as firmware:
        host = Host(tmp_path / "link")
        if failure is None:
            firmware._serial[0].shutdown(socket.SHUT_RD)
        host.write(b"x")
        firmware.plant.settimeout(PATIENCE_S)
        while firmware.plant.recv(64):
            pass
        error = str(firmware.why_it_ended())
        host.close()
    assert re.search(f"the emulator still runs, but its serial ports are lost: {reason}; expected", error), error
