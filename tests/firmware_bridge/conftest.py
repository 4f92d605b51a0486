import os
import sys
from pathlib import Path

import numpy as np
import pytest

from export.compile import compile_student
from export.student_file import Layer, Student, write_student
from firmware_bridge.loop.policy_folder import open_policy_folder

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parent))  # fake_device.py lies beside the tests


@pytest.fixture(scope="session")
def make_policy(tmp_path_factory):
    """Folder with a compiled policy; small random weights, the seed decides which."""

    def make(seed=1, history=5, period_s=0.02):
        directory = tmp_path_factory.mktemp(f"policy{seed}")
        rng = np.random.default_rng(seed)
        first = rng.normal(0, 0.6, (6, history * 5)).astype(np.float32)
        first[rng.random(first.shape) < 0.6] = 0
        second = rng.normal(0, 0.4, (1, 6)).astype(np.float32)
        student = Student(
            layers=(
                Layer(first, rng.normal(0, 0.1, 6).astype(np.float32), "relu"),
                Layer(second, np.zeros(1, np.float32), "tanh"),
            ),
            observation_mean=np.zeros(5, np.float32),
            observation_scale=np.array([0.4, 1.5, 1.0, 1.0, 6.0], np.float32),
            action_low=np.array([-20], np.float32),
            action_high=np.array([20], np.float32),
            history=history,
            environment="hardware:CartRail-v0",
            control_period_s=period_s,
            observation_names=("x [m]", "x' [m/s]", "sin", "cos", "theta' [rad/s]"),
            action_names=("cart acceleration [m/s^2]",),
        )
        write_student(directory / "student.safetensors", student)
        compile_student(directory / "student.safetensors", directory, None)
        return directory

    return make


@pytest.fixture(scope="session")
def policy_folder(make_policy):
    return make_policy()


@pytest.fixture(scope="session")
def digest(policy_folder):
    """What a device must say that has this policy."""
    return open_policy_folder(policy_folder).digest
