"""The teacher in the repository is the paper's size and does the paper's job."""

import json
from pathlib import Path

import numpy as np
import pytest

from distill.environment import EnvironmentSpec
from distill.evaluate import REPORT_SEED
from distill.rollout import play
from distill.teachers import read_teacher

FOLDER = Path(__file__).resolve().parents[2] / "teachers"


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [{}, {"randomise": True}, {"start": "rest"}])
def test_holds_the_rod_in_95_of_100_held_out_episodes(arguments: dict) -> None:
    spec = EnvironmentSpec("hardware:CartRail-v0", arguments)
    teacher = read_teacher(FOLDER / "cart_rail.safetensors", spec.facts())
    assert teacher.sizes == (25, 256, 256, 1)
    assert teacher.parameters == 72_705
    episodes = play(spec, teacher.policy, range(REPORT_SEED, REPORT_SEED + 100))
    assert episodes.held is not None
    assert int(episodes.held.sum()) >= 95
    assert np.all(episodes.lengths == 500)


def test_record_names_the_command_seed_and_curve() -> None:
    record = json.loads((FOLDER / "cart_rail.json").read_text(encoding="utf-8"))
    assert record["command"].startswith("python -m distill teach")
    assert record["config"]["seed"] == 1
    assert len(record["curve"]) >= 10
    assert record["selected_at_steps"] in [row["steps"] for row in record["curve"]]
