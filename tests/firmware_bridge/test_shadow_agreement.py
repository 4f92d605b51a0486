"""Device, host C and host numpy on the committed student: the same bits for every observation."""

import os
import shutil
from pathlib import Path

import pytest

from benchmarks import shadow_agreement as module
from benchmarks.shadow_agreement import shadow_agreement
from export.compile import compile_student
from firmware_bridge.ports.simulated_port import build_image

STUDENT = Path(__file__).resolve().parents[2] / "students" / "cart_rail.safetensors"

if not any(shutil.which(name) for name in (os.environ.get("CC", ""), "cc", "gcc", "clang") if name):
    if os.environ.get("CI") == "true":
        pytest.fail("no C compiler", pytrace=False)
    pytest.skip("no C compiler: install gcc", allow_module_level=True)


@pytest.fixture(scope="module", params=["int8", "float32"])
def built(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    compile_student(STUDENT, folder / "policy", None, weights=request.param)
    return folder / "policy", build_image(folder / "policy", folder / "image", "host").path


def test_all_three_agree_on_every_action(built, tmp_path):
    told = shadow_agreement(*built, tmp_path, 20.0)
    assert told["differences"] == []
    assert told["compared"] == told["steps"] == 1000
    assert told["different_actions"] > 100
    assert told["upright_fraction_last_3s"] == 1.0


def test_one_bit_of_one_backend_is_found(built, tmp_path, monkeypatch):
    class OneBitOff(module.CsrBackend):
        steps = 0

        def step(self, frame):
            self.steps += 1
            action = super().step(frame)
            return action * (1 + 2.0**-23) if self.steps == 60 and action != 0 else action

    monkeypatch.setattr(module, "CsrBackend", OneBitOff)
    told = shadow_agreement(*built, tmp_path, 2.0)
    assert len(told["differences"]) == 1
    assert "host numpy" in told["differences"][0]
