"""The whole firmware with the cart's int8 policy on an ATmega328P in simavr balances, with the bits of the host."""

from pathlib import Path

import pytest

from export.compile import compile_student
from firmware_bridge.config import Emulate, Run
from firmware_bridge.emulate import emulate
from firmware_bridge.errors import SimulatorError
from firmware_bridge.ports.simulated_port import build_image
from firmware_bridge.run import run

pytestmark = [pytest.mark.avr, pytest.mark.slow]
STUDENT = Path(__file__).parents[2] / "students" / "cart_rail.safetensors"


def test_the_chip_balances_with_the_bits_of_the_host(tmp_path):
    compile_student(STUDENT, tmp_path / "policy", weights="int8", target="avr")
    result = emulate(Emulate(policy=tmp_path / "policy", out=tmp_path, board="atmega328p", mode="device"))
    host = run(Run(port="sim:", policy=tmp_path / "policy", log=tmp_path / "host", mode="device", clock="lockstep"))
    assert result["steps"] == 500
    assert result["upright_fraction_last_3s"] == 1.0
    assert result["faults"] == []
    assert host.error is None
    assert result["trajectory_sha256"] == host.result["trajectory_sha256"]
    assert result["image_flash_bytes"] <= 18 * 1024
    assert result["image_ram_bytes"] <= 2 * 1024


def test_tables_in_ram_do_not_fit_and_the_message_says_what_does(tmp_path):
    compile_student(STUDENT, tmp_path / "policy", weights="int8")
    with pytest.raises(SimulatorError, match=r"overflowed.*--target avr"):
        build_image(tmp_path / "policy", tmp_path, "atmega328p")
