"""The image of a microcontroller in QEMU balances the cart, in every mode, with the bits of the host-built firmware."""

import json
import shutil
from pathlib import Path

import pytest

from export.compile import compile_student
from firmware_bridge.config import Emulate, Run
from firmware_bridge.emulate import emulate
from firmware_bridge.errors import BridgeError, SimulatorError
from firmware_bridge.logs.read_log import read_log
from firmware_bridge.run import run

pytestmark = [pytest.mark.qemu, pytest.mark.slow]
ROOT = Path(__file__).parents[2]
STUDENT = ROOT / "students" / "cart_rail.safetensors"
EDUKIT_TEACHER = ROOT / "teachers" / "edukit.safetensors"


@pytest.fixture(scope="module")
def policy(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cart")
    compile_student(STUDENT, folder, None, weights="int8")
    return folder


@pytest.fixture(scope="module")
def host_sha256(policy, tmp_path_factory):
    """The trajectory with the firmware as a process of this machine."""
    log = tmp_path_factory.mktemp("log")
    outcome = run(Run(port="sim:", policy=policy, log=log, mode="device", clock="lockstep"))
    assert outcome.error is None
    return outcome.result["trajectory_sha256"]


@pytest.mark.parametrize(
    ("board", "mode"), [("netduinoplus2", "device"), ("netduinoplus2", "host"), ("microbit", "device")]
)
def test_the_chip_balances_with_the_bits_of_the_host(policy, host_sha256, tmp_path, board, mode):
    result = emulate(Emulate(policy=policy, out=tmp_path, board=board, mode=mode))
    assert json.loads((tmp_path / f"{board}.json").read_text()) == result
    assert result["steps"] == 500
    assert result["upright_fraction_last_3s"] == 1.0
    assert result["faults"] == []
    assert result["trajectory_sha256"] == host_sha256
    flash_limit_bytes, ram_limit_bytes = {"netduinoplus2": (12 * 1024, 4 * 1024), "microbit": (14 * 1024, 3 * 1024)}[
        board
    ]
    assert result["image_flash_bytes"] <= flash_limit_bytes
    assert result["image_ram_bytes"] <= ram_limit_bytes
    assert result["inference_instructions"] > 500
    log = read_log(Path(result["log"]))
    assert log.session["config"]["image"] == result["image"]
    assert log.result["log"] == result["log"]
    assert f".{board}-" not in json.dumps([log.session, log.result])  # the folder in which it was made


def test_shadow_on_the_chip_agrees_to_the_bit(policy, tmp_path):
    from firmware_bridge.ports.simulated_port import build_image

    image = build_image(policy, tmp_path, "netduinoplus2").path
    config = Run(port="sim:", policy=policy, log=tmp_path, mode="shadow", clock="lockstep", image=image, duration_s=2.0)
    outcome = run(config)
    assert outcome.error is None
    assert outcome.result["shadow"] == {"compared": 100, "max_difference": 0.0}


def test_real_time_run_in_the_emulator_is_clean(policy, tmp_path):
    from firmware_bridge.ports.simulated_port import build_image

    image = build_image(policy, tmp_path, "microbit").path
    config = Run(port="sim:", policy=policy, log=tmp_path, image=image, duration_s=1.0, watchdog_periods=10)
    result = run(config).result
    # A slow machine may lose periods or trip the watchdog; it may not damage a byte, nor leave the cart unbraked.
    assert (result["crc_errors"], result["log_dropped"]) == (0, 0)
    assert result["steps"] > 0
    assert result["stop"]["confirmed"]


def test_unknown_boards_and_a_missing_emulator_are_one_line(policy, tmp_path, monkeypatch):
    with pytest.raises(BridgeError, match=r"--board nano: .* netduinoplus2, microbit"):
        emulate(Emulate(policy=policy, out=tmp_path, board="nano"))
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("arm-none-eabi-gcc", "arm-none-eabi-objcopy", "arm-none-eabi-objdump", "arm-none-eabi-size"):
        (tools / name).symlink_to(shutil.which(name))
    monkeypatch.setenv("PATH", str(tools))
    with pytest.raises(SimulatorError, match=r"no qemu-system-arm on PATH.*apt-get install qemu-system-arm"):
        emulate(Emulate(policy=policy, out=tmp_path))
    assert not (tmp_path / "netduinoplus2.json").exists()


def test_the_rotary_pendulum_is_balanced_too(tmp_path):
    """The firmware and the simulated plant follow from the policy's environment."""
    compile_student(EDUKIT_TEACHER, tmp_path / "policy", None, weights="int8")
    result = emulate(Emulate(policy=tmp_path / "policy", out=tmp_path))
    assert result["upright_fraction_last_3s"] == 1.0
    assert result["faults"] == []
