"""The whole distillation, small: repeatable bytes, both settings of --states, and refusals."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from distill.config import TrainConfig
from distill.distillation import check_config, distil
from distill.errors import DistillError
from distill.network import network_policy
from distill.select import Candidate, Selection
from export.compile import build_policy
from export.student_file import Layer, Student, read_student, write_student

ROOT = Path(__file__).resolve().parents[2]
PENDULUM = "Pendulum-v1"


def little_teacher(folder: Path) -> Path:
    """An energy-blind but reacting Pendulum policy in the project's own format: 3-8-1."""
    generator = np.random.default_rng(0)
    first = generator.standard_normal((8, 3)).astype(np.float32)
    second = generator.standard_normal((1, 8)).astype(np.float32) * 0.5
    student = Student(
        layers=(
            Layer(first, np.zeros(8, np.float32), "relu"),
            Layer(second, np.zeros(1, np.float32), "tanh"),
        ),
        observation_mean=np.zeros(3, np.float32),
        observation_scale=np.float32([1, 1, 8]),
        action_low=np.float32([-2]),
        action_high=np.float32([2]),
        history=1,
        environment=PENDULUM,
        control_period_s=0.05,
        observation_names=("cos", "sin", "speed"),
        action_names=("torque",),
        role="teacher",
    )
    path = folder / "teacher.safetensors"
    write_student(path, student)
    return path


def small(folder: Path, **changes: object) -> TrainConfig:
    config = TrainConfig(
        teacher=little_teacher(folder),
        env=PENDULUM,
        out=folder / "out",
        hidden=(8,),
        iterations=300,
        fine_tune_iterations=50,
        episodes=2,
        round_iterations=100,
        round_steps=200,
        batch=32,
        selection_episodes=3,
        evaluation_episodes=2,
    )
    return dataclasses.replace(config, **changes)


@pytest.mark.parametrize("states", ["student", "dataset"])
def test_same_seed_same_student_bytes(tmp_path: Path, states: str) -> None:
    files = []
    for name in ("a", "b"):
        result = distil(small(tmp_path, out=tmp_path / name, states=states))
        files.append(Path(result["student"]).read_bytes())
        assert (result["rows"] == 400) == (states == "dataset")
    assert files[0] == files[1]
    other = distil(small(tmp_path, out=tmp_path / "c", states=states, seed=1))
    assert Path(other["student"]).read_bytes() != files[0]


def test_result_agrees_with_the_files(tmp_path: Path) -> None:
    result = distil(small(tmp_path, threshold=2.0))
    student = read_student(Path(result["student"]))
    assert student.threshold == result["threshold"] == 2.0
    policy = build_policy(student)
    assert (policy.kept_weights, policy.kept_parameters) == (result["kept_weights"], result["kept_parameters"])
    assert result["teacher_parameters"] == 3 * 8 + 8 + 8 + 1
    assert {row["fine_tuned"] for row in result["candidates"]} == {True, False}
    assert json.loads((tmp_path / "out" / "distill.json").read_text()) == json.loads(json.dumps(result))
    assert student.evaluation["student"]["iqm"] == result["return_iqm"]
    pruned = [np.asarray(layer.log_alpha) >= 2.0 for layer in student.layers]
    assert all((layer.weight[mask] == 0).all() for layer, mask in zip(student.layers, pruned, strict=True))


def test_dataset_is_reused_and_checked(tmp_path: Path) -> None:
    distil(small(tmp_path, states="dataset"))
    dataset = tmp_path / "out" / "dataset.safetensors"
    again = distil(small(tmp_path, states="dataset", dataset=dataset, out=tmp_path / "again"))
    assert again["rows"] == 400
    with pytest.raises(DistillError, match=r"was collected in 'Pendulum-v1'"):
        distil(
            small(
                tmp_path,
                dataset=dataset,
                env="hardware:CartRail-v0",
                teacher=ROOT / "teachers" / "cart_rail.safetensors",
            )
        )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"iterations": 0}, "--iterations: got 0"),
        ({"data_weight": -1.0}, "--data-weight"),
        ({"data_weight": float("nan")}, "--data-weight"),
        ({"hidden": ()}, "--hidden"),
        ({"hidden": (70_000,)}, "--hidden"),
        ({"target_return": 0.0}, "--target-return"),
        ({"threshold": float("nan")}, "--threshold: got nan"),
        ({"seed": -1}, "--seed: got -1"),
        ({"batch": 10**17}, "--batch"),
        ({"observation_noise": float("inf")}, "--observation-noise"),
        ({"learning_rate": 1e30}, "--learning-rate"),
        ({"selection_episodes": 10_001}, "--selection-episodes"),
        ({"gamma": 1.0}, "--gamma"),
        ({"noise": -0.1}, "--noise"),
    ],
)
def test_impossible_numbers_are_refused(change: dict, message: str) -> None:
    with pytest.raises(DistillError, match=message):
        check_config(dataclasses.replace(TrainConfig(), **change))


def candidate(parameters: int, iqm: float, falls: float = 0.0, rounding: float = 1e-7) -> Candidate:
    summary = {"iqm": iqm, "share_below_90_percent": falls}
    student: Student = None  # type: ignore[assignment]  # the choice never looks at it
    return Candidate(student, 1.0, False, parameters, parameters, rounding, summary)


def test_smallest_that_holds_is_chosen_and_falls_disqualify() -> None:
    selection = Selection.__new__(Selection)
    selection.teacher = {"iqm": 100.0, "share_below_90_percent": 0.0}
    small_bad, small_falling, small_rough, holding, large = (
        candidate(50, 90.0),
        candidate(60, 100.0, falls=0.1),
        candidate(70, 100.0, rounding=2e-6),
        candidate(80, 99.5),
        candidate(200, 101.0),
    )
    assert selection.choose([large, small_bad, small_falling, small_rough, holding], 0.99) is holding
    assert selection.choose([small_bad, candidate(10, 20.0)], 0.99) is small_bad


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "distill", *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("train", "--teacher", "nowhere.zip"), 1, "error: teacher nowhere.zip: no such file"),
        (("evaluate", "--student", "nowhere.safetensors"), 1, "error: nowhere.safetensors: no such file"),
        (("teacher", "--env", "NoSuch-v0"), 1, "error: environment: got 'NoSuch-v0'"),
        (("teacher", "--env", "Pendulum-v1"), 1, "the environment has 3 and 1"),
        (("teacher", "--env-kwargs", "[1]"), 1, "expected a JSON object"),
        (("train", "--states", "moon"), 2, "moon"),
        (("train", "--out", "/proc/none"), 1, "error: cannot write into /proc/none"),
        (("teach", "--out", "/proc/none"), 1, "error: cannot write into /proc/none"),
        (("teacher", "--episodes", "99999999999999999999"), 1, "--episodes: got"),
    ],
)
def test_command_line_refuses_in_one_line(arguments: tuple[str, ...], code: int, message: str) -> None:
    done = run(*arguments)
    assert done.returncode == code, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    if code == 1:
        assert len([line for line in done.stderr.splitlines() if line.startswith("error:")]) == 1


def test_json_is_one_object_on_stdout(tmp_path: Path) -> None:
    teacher = little_teacher(tmp_path)
    done = run("teacher", "--teacher", str(teacher), "--env", PENDULUM, "--episodes", "2", "--json")
    answer = json.loads(done.stdout)
    assert answer["observation_size"] == 3
    assert answer["parameters"] == 41
    assert {"action_size", "sizes", "return_mean", "return_iqm", "episodes", "seconds"} <= answer.keys()


def test_network_policy_scales_and_clips(tmp_path: Path) -> None:
    student = read_student(little_teacher(tmp_path))
    observations = np.random.default_rng(1).uniform(-8, 8, (100, 3)).astype(np.float32)
    assert np.allclose(network_policy(student)(observations), student.evaluate(observations.astype(float)), atol=1e-5)
    extreme = network_policy(student)(observations * 1e6)
    assert np.abs(extreme).max() <= 2.0
