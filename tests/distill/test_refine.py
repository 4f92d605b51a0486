"""The verb refine: repeatable, resumable, refused."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from distill.datasets.dataset import read_dataset, write_dataset
from distill.distillation import distil
from distill.environment import EnvironmentSpec
from distill.errors import DistillError
from distill.refine_config import RefineConfig
from distill.refinement.refinement import refine
from distill.source import check_fits
from distill.teachers.critics import FrozenCritics
from export.student_file import Layer, read_student, write_student
from tests.distill.test_distillation import PENDULUM, cut_after, little_teacher, small


@pytest.fixture(autouse=True)
def short_warm_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("distill.refinement.guided_step._WARM_UP", 20)


def little_student(folder: Path) -> Path:
    """The teacher of `little_teacher` with an eighth of its weights cut and the others moved a little."""
    student = read_student(little_teacher(folder))
    generator = np.random.default_rng(7)
    layers = []
    for layer in student.layers:
        weight = layer.weight * (1.0 + 0.1 * generator.standard_normal(layer.weight.shape)).astype(np.float32)
        weight.flat[::8] = 0.0
        layers.append(dataclasses.replace(layer, weight=weight))
    path = folder / "begin.safetensors"
    write_student(path, dataclasses.replace(student, layers=tuple(layers), role="student"))
    return path


def little(folder: Path, **changes: object) -> RefineConfig:
    config = RefineConfig(
        student=little_student(folder),
        teacher=little_teacher(folder),
        env=PENDULUM,
        out=folder / "refined",
        fine_tune_iterations=60,
        fine_tune_doublings=1,
        episodes=2,
        round_iterations=30,
        round_steps=200,
        batch=32,
        selection_episodes=3,
        evaluation_episodes=2,
        search_episodes=40 * 5,
        search_episodes_each=1,
    )
    return dataclasses.replace(config, **changes)


def kept(path: str | Path) -> list[np.ndarray]:
    return [layer.weight != 0.0 for layer in read_student(path).layers]


@pytest.mark.parametrize("objective", ["teacher", "on-policy", "expected-entropy"])
def test_a_fixed_mask_stays_and_the_same_seed_gives_the_same_bytes(tmp_path: Path, objective: str) -> None:
    files = []
    for name in ("a", "b"):
        config = little(tmp_path, out=tmp_path / name, mask="fixed", objective=objective)
        result = refine(config)
        files.append(Path(result["student"]).read_bytes())
        assert (result["rows"] == 400) == (objective == "teacher")
        for now, before in zip(kept(result["student"]), kept(config.student), strict=True):
            assert not np.any(now & ~before)
        assert {candidate["size"] for candidate in result["candidates"]} == {28}
    assert files[0] == files[1]
    student = read_student(result["student"])
    assert student.config["objective"] == objective
    assert set(student.parents) == {"teacher", "dataset", "student"}
    np.testing.assert_array_equal(student.observation_scale, read_student(config.student).observation_scale)


def test_a_mask_shrinks_while_the_target_holds(tmp_path: Path) -> None:
    result = refine(little(tmp_path, target_return=0.2, objective="n-distill"))
    sizes = [candidate["size"] for candidate in result["candidates"]]
    assert sizes[0] == 28
    assert min(sizes) < 20
    assert result["kept_weights"] <= 28
    result = refine(little(tmp_path, kept_weights=(10,)))
    assert result["kept_weights"] <= 10


@pytest.mark.parametrize("saves", [2, 6])
def test_a_resumed_refinement_gives_the_same_bytes(tmp_path: Path, saves: int, monkeypatch: pytest.MonkeyPatch) -> None:
    options = {"mask": "fixed", "search": "cma-es", "target_return": 1.5}
    whole = Path(refine(little(tmp_path, out=tmp_path / "whole", **options))["student"]).read_bytes()
    config = little(tmp_path, out=tmp_path / "cut", **options)
    with cut_after(saves, monkeypatch):
        refine(config)
    assert not (config.out / "student.safetensors").exists()
    result = refine(dataclasses.replace(config, resume=True))
    assert Path(result["student"]).read_bytes() == whole
    again = refine(dataclasses.replace(config, resume=True))
    assert again == json.loads(json.dumps(result)), "a run that is over is not made again"
    with pytest.raises(DistillError, match=r"--resume: .*distill\.json is the result of other options"):
        refine(dataclasses.replace(config, resume=True, spread=0.2))


def test_the_search_does_not_depend_on_jobs_and_never_ships_what_is_worse(tmp_path: Path) -> None:
    files = []
    for jobs in (1, 2):
        options = {"mask": "fixed", "search": "ars", "target_return": 2.0}  # nobody holds it: the best mean ships
        result = refine(little(tmp_path, out=tmp_path / f"{jobs}", jobs=jobs, **options))
        files.append(Path(result["student"]).read_bytes())
        assert len(result["search"]["mean_returns"]) == result["search"]["generations"]
    assert files[0] == files[1]
    best = max(candidate["selection"]["mean"] for candidate in result["candidates"])
    assert not result["target_held"]
    assert result["chosen"]["selection"]["mean"] == best


@pytest.mark.parametrize("saves", [1, 3, 5])
def test_a_resumed_ascent_gives_the_same_bytes(tmp_path: Path, saves: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("distill.refinement.policy_gradient._ROUND_STEPS", 400)
    options = {"mask": "fixed", "search": "policy-gradient", "fine_tune_iterations": 0, "search_episodes": 4 * 24}
    whole = refine(little(tmp_path, out=tmp_path / "whole", **options))
    assert whole["search"]["generations"] == len(whole["search"]["mean_returns"]) == 24
    assert len(whole["candidates"]) == 9
    config = little(tmp_path, out=tmp_path / "cut", **options)
    with cut_after(saves, monkeypatch):
        refine(config)
    result = refine(dataclasses.replace(config, resume=True))
    assert Path(result["student"]).read_bytes() == Path(whole["student"]).read_bytes()
    with pytest.raises(DistillError, match="--search-episodes: got 3, expected at least 4, one generation"):
        refine(little(tmp_path, **{**options, "search_episodes": 3}))


def test_a_search_needs_no_fine_tuning_before_it(tmp_path: Path) -> None:
    result = refine(little(tmp_path, mask="fixed", fine_tune_iterations=0, search="ars"))
    assert result["kept_weights"] <= 28
    assert result["search"]["generations"] > 0


def test_sizes_beyond_the_student_and_other_discounts_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DistillError, match=r"^--kept-weights: got 300, the student .* has 28 weights"):
        refine(little(tmp_path, kept_weights=(300, 5)))
    critics = FrozenCritics((((torch.ones(1, 4), torch.zeros(1)),),), "relu", gamma=0.98)
    monkeypatch.setattr("distill.refinement.refinement.read_critics", lambda *_: critics)
    with pytest.raises(DistillError, match=r"^--gamma: got 0\.99, expected 0\.98, by which the critics of"):
        refine(little(tmp_path, objective="td+v", cost_sensitive=False))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"history": 3, "base": 1}, "got inputs of 3 frames, the environment stacks 1"),
        ({"bound": 5.0}, r"got actions within \[-5\.0\] and \[5\.0\], the environment takes \[-2\.0\] to \[2\.0\]"),
    ],
)
def test_students_of_other_frames_and_bounds_are_refused(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    student = read_student(little_student(tmp_path))
    bound, base = changes.get("bound", 2.0), changes.get("base", 3)
    other = dataclasses.replace(
        student,
        history=changes.get("history", 1),
        observation_mean=student.observation_mean[:base],
        observation_scale=student.observation_scale[:base],
        observation_names=student.observation_names[:base],
        action_low=np.float32([-bound]),
        action_high=np.float32([bound]),
    )
    write_student(tmp_path / "other.safetensors", other)
    with pytest.raises(DistillError, match=words):
        refine(little(tmp_path, student=tmp_path / "other.safetensors"))


def test_a_student_that_was_made_for_another_environment_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = little_student(tmp_path)
    student, facts = read_student(path), EnvironmentSpec(PENDULUM, {}).facts()
    check_fits(path, student, PENDULUM, facts)
    check_fits(path, student, f"gymnasium:{PENDULUM}", facts)
    assert capsys.readouterr().err == ""
    check_fits(path, dataclasses.replace(student, environment="Elsewhere-v1"), PENDULUM, facts)
    assert capsys.readouterr().err == f"note: student {path} was made for Elsewhere-v1, it plays in {PENDULUM}\n"


def test_what_a_student_does_not_take_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DistillError, match="--mask fixed: got --kept-weights as well"):
        refine(little(tmp_path, mask="fixed", kept_weights=(5,)))
    with pytest.raises(DistillError, match=r"--spread: got nan"):
        refine(little(tmp_path, spread=math.nan))
    with pytest.raises(DistillError, match="--ranking: got posterior"):
        refine(little(tmp_path, ranking="posterior"))
    student = read_student(little_student(tmp_path))
    other = Layer(student.layers[0].weight, student.layers[0].bias, "tanh")
    path = tmp_path / "tanh.safetensors"
    write_student(path, dataclasses.replace(student, layers=(other, student.layers[1])))
    narrow = Layer(student.layers[0].weight[:, :2].copy(), student.layers[0].bias, "relu")
    write_student(
        tmp_path / "narrow.safetensors",
        dataclasses.replace(
            student,
            layers=(narrow, student.layers[1]),
            observation_mean=student.observation_mean[:2],
            observation_scale=student.observation_scale[:2],
            observation_names=("cos", "sin"),
        ),
    )
    with pytest.raises(DistillError, match=r"narrow\.safetensors: got 2 inputs and 1 actions, the environment has 3"):
        refine(little(tmp_path, student=tmp_path / "narrow.safetensors"))
    with pytest.raises(DistillError, match="got layers of tanh, tanh, expected relu, tanh"):
        refine(little(tmp_path, student=path))
    with pytest.raises(DistillError, match=r"--search-episodes: got 3, expected at least \d+, one generation"):
        refine(little(tmp_path, search="ars", search_episodes=3, mask="fixed"))
    for out, name in (("run", "run/student.safetensors"), ("run", "run/sizes/00.safetensors")):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        write_student(tmp_path / name, student)
        with pytest.raises(DistillError, match=r"--out: got .*run, where --student .* lies and would be replaced"):
            refine(little(tmp_path, student=tmp_path / name, out=tmp_path / out))


def test_rewards_that_are_all_nothing_are_refused_where_they_count(tmp_path: Path) -> None:
    dataset = Path(refine(little(tmp_path, mask="fixed"))["dataset"])
    stored = read_dataset(dataset)
    without = dataclasses.replace(stored.transitions, rewards=0.0 * stored.transitions.rewards)
    write_dataset(tmp_path / "nothing.safetensors", dataclasses.replace(stored, transitions=without))
    options = {"dataset": tmp_path / "nothing.safetensors", "mask": "fixed"}
    with pytest.raises(DistillError, match=r"--objective on-policy\+r: got 4\d\d rewards .* that are all 0"):
        refine(little(tmp_path, objective="on-policy+r", **options))
    assert refine(little(tmp_path, objective="n-distill", **options))["kept_weights"]


def test_a_student_of_one_number_is_not_searched_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    student = read_student(little_student(tmp_path))
    layers = [Layer(0.0 * layer.weight, 0.0 * layer.bias, layer.activation) for layer in student.layers]
    options = {"student": tmp_path / "empty.safetensors", "mask": "fixed", "search": "cma-es"}
    write_student(options["student"], dataclasses.replace(student, layers=tuple(layers)))
    with pytest.raises(DistillError, match=r"empty\.safetensors: all weights are 0, expected some"):
        refine(little(tmp_path, **options))
    layers[-1].weight[0, 0] = 0.5  # of a unit whose output is always 0
    write_student(options["student"], dataclasses.replace(student, layers=tuple(layers)))
    refine(little(tmp_path, **options))
    assert "no search" in capsys.readouterr().err


def test_critics_of_the_teacher_are_asked_for_where_they_are_needed(tmp_path: Path) -> None:
    reason = r"teacher's critics: got teacher\.safetensors, expected a SAC"
    with pytest.raises(DistillError, match=f"^{reason}"):
        refine(little(tmp_path, objective="on-policy+r", critic="teacher"))
    with pytest.raises(
        DistillError, match=rf"^--objective: objective td\+v: .*or one of teacher, on-policy, .*{reason}"
    ):
        refine(little(tmp_path, objective="td+v"))
    with pytest.raises(DistillError, match="--critic teacher: got objective on-policy, which does not follow"):
        refine(little(tmp_path, objective="on-policy", critic="teacher"))


def test_a_trained_student_can_be_refined(tmp_path: Path) -> None:
    trained = distil(small(tmp_path))
    result = refine(little(tmp_path, student=Path(trained["student"]), mask="fixed", objective="on-policy"))
    assert result["kept_weights"] <= trained["kept_weights"]


def test_who_misses_the_target_is_told_the_way_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = little(tmp_path, mask="fixed", target_return=2.0, fine_tune_iterations=0)
    first = refine(config)
    way = f"python -m distill refine {first['student']} --teacher {config.teacher} --env {PENDULUM} --mask fixed"
    assert f"; to climb the return from it: {way} --fine-tune-iterations 0 --search policy-gradient\n" in (
        capsys.readouterr().err
    )
    climbed = dataclasses.replace(config, student=Path(first["student"]), out=tmp_path / "climbed")
    refine(dataclasses.replace(climbed, search="policy-gradient", search_episodes=60))
    said = capsys.readouterr().err
    assert "none holds the target: return " in said
    assert "to climb" not in said
