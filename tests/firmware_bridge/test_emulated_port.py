"""`sim:qemu`: the bridge builds, starts and drives the image of a microcontroller by its port's name alone."""

import pytest

from firmware_bridge.config import Run
from firmware_bridge.run import run

pytestmark = [pytest.mark.cross, pytest.mark.qemu]


def test_same_bits_as_the_image_given_by_hand(policy_folder, tmp_path):
    config = {"policy": policy_folder, "duration_s": 0.6, "clock": "lockstep"}
    named = run(Run(port="sim:qemu", log=tmp_path / "named", **config))
    assert named.error is None
    assert named.result["device"]["board"] == "netduinoplus2"
    image = policy_folder / "netduinoplus2_firmware"
    elf = next(path for path in image.iterdir() if path.suffix == ".elf")
    by_hand = run(Run(port="sim:", image=elf, log=tmp_path / "by_hand", **config))
    assert by_hand.result["trajectory_sha256"] == named.result["trajectory_sha256"]
