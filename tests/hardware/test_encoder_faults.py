"""An encoder that fails behind another fault: the safety machine's own test, in C."""

import subprocess
from pathlib import Path

import pytest
from conftest import compile_program

from hardware.build import FIRMWARE_FOLDER, MODULES
from hardware.plant_header import FIRMWARE_PLANTS, header_flag

SOURCE = Path(__file__).parent.parent / "firmware" / "test_encoder_faults.c"


@pytest.mark.parametrize("plant", FIRMWARE_PLANTS, ids=lambda plant: plant.name)
def test_every_fault_followed_by_an_encoder_fault(tmp_path, plant):
    modules = [FIRMWARE_FOLDER / f"{name}.c" for name in MODULES if name not in ("main", "link", "framing", "observe")]
    program = compile_program(tmp_path / "test", [SOURCE, *modules], flags=(header_flag(plant),))
    done = subprocess.run([program], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
