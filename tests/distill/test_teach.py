"""What `teach` refuses before it trains."""

from pathlib import Path

import gymnasium
import numpy as np
import pytest

from distill.errors import DistillError
from distill.teach import teach
from distill.teach_config import TeachConfig


class Unscaled(gymnasium.Env):
    """Takes the arguments of our pendulums and says nothing of its observation's sizes."""

    observation_space = gymnasium.spaces.Box(-1, 1, (25,), np.float32)
    action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)

    def __init__(self, randomise: bool = False, near_upright_share: float = 0.0) -> None:
        pass


@pytest.fixture
def unscaled():
    gymnasium.register(id="Unscaled-v0", entry_point=Unscaled, max_episode_steps=10)
    yield "Unscaled-v0"
    del gymnasium.registry["Unscaled-v0"]


def test_environments_without_scale_are_refused(unscaled: str, tmp_path: Path) -> None:
    with pytest.raises(DistillError, match=r"no observation_scale .* expected one of hardware:CartRail-v0"):
        teach(TeachConfig(env=unscaled, out=tmp_path))


def test_environments_with_other_arguments_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DistillError, match="Gymnasium cannot make"):
        teach(TeachConfig(env="Pendulum-v1", out=tmp_path))


@pytest.mark.slow
def test_a_short_training_names_its_environment(tmp_path: Path) -> None:
    result = teach(
        TeachConfig(env="hardware:Edukit-v0", steps=20, evaluate_every=20, hidden=(8,), seed=3, out=tmp_path)
    )
    expected = f"--env hardware:Edukit-v0 --out {tmp_path} --steps 20 --seed 3 --hidden 8 --evaluate-every 20"
    assert result["command"] == f"python -m distill teach {expected}"
    from export.student_file import read_student

    student = read_student(tmp_path / "teacher.safetensors")
    assert student.environment == "hardware:Edukit-v0"
    assert student.action_high[0] == pytest.approx(64.34)
    assert student.observation_names[0] == "arm angle [rad]"
