"""What compiling costs in closed loop: both are played on the same episodes, and what loses too much is refused."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from distill import command_line
from distill.compare import ActionDifference, compare_verb, compared
from distill.config import CompareConfig
from distill.environment import EnvironmentSpec
from distill.errors import DistillError
from distill.evaluate import REPORT_SEED, summarise
from distill.rollout import play
from export.compile import build_policy, compile_student
from export.policy_file import encode_policy
from export.student_file import Layer, Student, student_digest, write_student

PENDULUM = EnvironmentSpec("Pendulum-v1", {})
EPISODES = 4


def pusher(gain: float) -> Student:
    """A student of Pendulum-v1 that pushes along (gain > 0) or against the angular velocity, through a hidden layer."""
    hidden = np.array([[0.3, 0.0, 1.1], [-0.3, 0.2, -1.1]], np.float32)
    return Student(
        layers=(
            Layer(hidden, np.array([0.1, 0.05], np.float32), "relu"),
            Layer(gain * np.array([[0.9, -0.8]], np.float32), np.zeros(1, np.float32), "tanh"),
        ),
        observation_mean=np.zeros(3, np.float32),
        observation_scale=np.array([1, 1, 4], np.float32),
        action_low=np.array([-2], np.float32),
        action_high=np.array([2], np.float32),
        history=1,
        environment="Pendulum-v1",
        control_period_s=0.05,
        observation_names=("cosine", "sine", "angular velocity [rad/s]"),
        action_names=("torque [N m]",),
    )


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """A student and an int8 policy compiled from it."""
    student, folder = tmp_path / "student.safetensors", tmp_path / "policy"
    write_student(student, pusher(1.0))
    compile_student(student, folder, weights="int8")
    return student, folder


def worse_policy(student: Path, folder: Path) -> Path:
    """A policy that claims this student as its parent but lets the pendulum hang."""
    policy = build_policy(pusher(-1.0), {"student": student_digest(student)}, weights="int8")
    folder.mkdir()
    (folder / "policy.safetensors").write_bytes(encode_policy(policy))
    return folder


def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *options: object) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["distill", "compare", *map(str, options), "--env", "Pendulum-v1"])
    code = command_line.command_line()
    out, err = capsys.readouterr()
    return code, out, err


@pytest.mark.parametrize("weights", ["float32", "int8", "int16"])
def test_both_are_played_on_the_same_episodes_as_the_chip_computes(weights: str) -> None:
    student = pusher(1.0)
    policy = build_policy(student, weights=weights)
    seeds = range(REPORT_SEED, REPORT_SEED + EPISODES)
    result = compared(PENDULUM, student, policy, seeds)
    chip = policy.evaluate_float32 if weights == "float32" else policy.evaluate_exact
    expected = summarise(play(PENDULUM, lambda seen: student.evaluate(seen).astype(np.float32), seeds))
    assert result["student_return"] == expected
    assert result["policy_return"] == summarise(play(PENDULUM, chip, seeds), expected["median"])
    assert result["kept"]
    assert result["share_low"] <= result["share"] <= result["share_high"]
    coarsest = {"float32": 2e-6, "int8": 0.05, "int16": 1e-3}[weights]
    assert 0 < result["largest_action_difference"] < coarsest


def test_the_largest_difference_is_a_share_of_each_range() -> None:
    low, high = np.array([-1, -10], np.float32), np.array([1, 10], np.float32)
    pair = ActionDifference(lambda seen: seen, lambda seen: seen + np.array([0.1, 1.5]), low, high)
    np.testing.assert_array_equal(pair(np.zeros((3, 2), np.float32)), np.zeros((3, 2)))
    assert pair.largest == pytest.approx(0.075)
    same = ActionDifference(lambda seen: seen, lambda seen: seen, low, high)
    same(np.full((1, 2), np.nan, np.float32))
    same(np.zeros((1, 2), np.float32))
    assert np.isnan(same.largest)


def test_other_episodes_by_seed(files: tuple[Path, Path]) -> None:
    student, policy = files
    config = CompareConfig(student=student, policy=policy, env="Pendulum-v1", episodes=2)
    first, second = compare_verb(config), compare_verb(replace(config, seed=2))
    both = compare_verb(replace(config, episodes=4))
    for name in ("student_return", "policy_return"):
        assert first[name]["mean"] != second[name]["mean"]
        assert (first[name]["mean"] + second[name]["mean"]) / 2 == pytest.approx(both[name]["mean"])


def test_a_policy_that_loses_is_refused_with_its_figures(
    files: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    student, good = files
    worse = worse_policy(student, tmp_path / "worse")
    code, out, err = run(capsys, monkeypatch, student, "--policy", good, "--episodes", EPISODES, "--json")
    assert code == 0
    assert "error" not in err
    kept = json.loads(out)
    assert kept["weights"] == "int8"
    assert "refused" not in kept
    options = (student, "--policy", worse, "--episodes", EPISODES, "--json")
    code, out, err = run(capsys, monkeypatch, *options)
    assert code == 1
    lost = json.loads(out)
    assert not lost["kept"]
    assert lost["policy_return"]["iqm"] < 1.01 * lost["student_return"]["iqm"]
    (line,) = err.splitlines()
    assert line == f"error: {lost['refused']}"
    assert f"{lost['policy_return']['iqm']:.6g}" in line
    assert "at most 1%" in line
    assert "--force" in line
    code, out, err = run(capsys, monkeypatch, *options, "--force")
    assert code == 0
    assert "error" not in err
    assert not json.loads(out)["kept"]


def test_what_does_not_belong_together_is_refused(files: tuple[Path, Path], tmp_path: Path) -> None:
    student, policy = files
    other = tmp_path / "other.safetensors"
    write_student(other, pusher(0.5))
    config = CompareConfig(student=student, policy=policy, env="Pendulum-v1", episodes=1)
    with pytest.raises(DistillError, match=r"compiled from student [0-9a-f]{12}, expected [0-9a-f]{12} .*again"):
        compare_verb(replace(config, student=other))
    with pytest.raises(DistillError, match="got 3 inputs and 1 actions, the environment has 6 and 1"):
        compare_verb(replace(config, frame_stack=2))
    for wrong in ({"episodes": 0}, {"episodes": 10_001}, {"seed": -1}, {"seed": 10_000}):
        with pytest.raises(DistillError, match=f"--{next(iter(wrong))}: got"):
            compare_verb(replace(config, **wrong))


def test_of_a_return_of_zero_nothing_is_a_share(monkeypatch: pytest.MonkeyPatch) -> None:
    student = pusher(1.0)
    real = play

    def without_reward(*arguments: object, **options: object) -> object:
        episodes = real(*arguments, **options)  # type: ignore[arg-type]
        return replace(episodes, returns=0 * episodes.returns)

    monkeypatch.setattr("distill.compare.play", without_reward)
    result = compared(PENDULUM, student, build_policy(student), range(REPORT_SEED, REPORT_SEED + 1))
    assert [result[name] for name in ("share", "share_low", "share_high")] == [None, None, None]
    assert result["kept"]
