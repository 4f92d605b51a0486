"""hardware:CartRail-v0 gives the bits that the shipped teacher was trained with."""

import importlib.util
import json
from pathlib import Path

import pytest

GOLDEN_FOLDER = Path(__file__).parent.parent / "golden"
GOLDEN = json.loads((GOLDEN_FOLDER / "cart_rail_rollout.json").read_text())


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("script", GOLDEN_FOLDER / "write_cart_rail_rollout.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_settings_are_those_of_the_script(script):
    assert [rollout["arguments"] for rollout in GOLDEN["rollouts"]] == list(script.SETTINGS)


@pytest.mark.parametrize("rollout", GOLDEN["rollouts"], ids=lambda rollout: ",".join(rollout["arguments"]) or "default")
def test_seeded_episodes_give_the_same_bits(script, rollout):
    if script.versions() != GOLDEN["versions"]:
        pytest.skip(
            f"recorded with {GOLDEN['versions']}, here {script.versions()}: the simulator's own bits may differ"
        )
    assert script.rollout_sha256(rollout["arguments"]) == rollout["sha256"], (
        "the cart's environment gives other bits: if that is meant, run python tests/golden/write_cart_rail_rollout.py "
        "and train the teacher again"
    )
