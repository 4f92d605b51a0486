"""The teachers in the repository are of the paper's size and do the paper's job."""

import json
from pathlib import Path

import numpy as np
import pytest

from distill.environment import EnvironmentSpec
from distill.evaluate import REPORT_SEED
from distill.rollout import play
from distill.teachers import read_teacher

FOLDER = Path(__file__).resolve().parents[2] / "teachers"


TEACHERS = {"cart_rail": "hardware:CartRail-v0", "edukit": "hardware:Edukit-v0"}


@pytest.mark.slow
@pytest.mark.parametrize("name", TEACHERS)
@pytest.mark.parametrize("arguments", [{}, {"randomise": True}, {"start": "rest"}])
def test_holds_the_rod_in_95_of_100_held_out_episodes(name: str, arguments: dict) -> None:
    spec = EnvironmentSpec(TEACHERS[name], arguments)
    teacher = read_teacher(FOLDER / f"{name}.safetensors", spec.facts())
    assert teacher.sizes == (25, 256, 256, 1)
    assert teacher.parameters == 72_705
    episodes = play(spec, teacher.policy, range(REPORT_SEED, REPORT_SEED + 100))
    assert episodes.held is not None
    assert int(episodes.held.sum()) >= 95
    assert np.all(episodes.lengths == 500)


@pytest.mark.parametrize("name", TEACHERS)
def test_record_names_the_command_seed_and_curve(name: str) -> None:
    record = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    assert record["teacher"] == f"teachers/{name}.safetensors"
    assert record["config"]["env"] == TEACHERS[name]
    assert record["command"].startswith("python -m distill teach")
    assert record["config"]["seed"] == 1
    assert len(record["curve"]) >= 10
    assert record["selected_at_steps"] in [row["steps"] for row in record["curve"]]
