"""The hunt for the smallest student: the front, every stage, going on, and what is refused."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from distill.errors import DistillError
from distill.pareto import draw, front
from distill.smallest import smallest
from distill.smallest_config import SmallestConfig
from export.student_file import read_student
from tests.distill.test_distillation import PENDULUM, little_teacher


def row(size: int, value: float, stage: str = "trained") -> dict[str, object]:
    return {"bytes": size, "return_mean": value, "stage": stage}


def test_the_front_has_what_nothing_as_small_beats() -> None:
    rows = [row(40, 5.0), row(10, 1.0), row(20, 0.5), row(10, 2.0), row(30, 5.0), row(50, 9.0)]
    assert [(each["bytes"], each["return_mean"]) for each in front(rows, "bytes")] == [(10, 2.0), (30, 5.0), (50, 9.0)]
    assert front([], "bytes") == []


def test_the_figure_is_the_same_bytes_for_the_same_rows(tmp_path: Path) -> None:
    files = []
    for name in ("a.svg", "b.svg"):
        draw([row(10, 1.0), row(20, 3.0, "searched")], "bytes", 4.0, 3.9, tmp_path / name)
        files.append((tmp_path / name).read_bytes())
    assert files[0] == files[1]
    assert files[0].startswith(b"<?xml")


def little(folder: Path, **changes: object) -> SmallestConfig:
    config = SmallestConfig(
        teacher=little_teacher(folder),
        env=PENDULUM,
        out=folder / "out",
        target_return=0.3,
        widths=(6,),
        depths=(0, 1),
        iterations=300,
        fine_tune_iterations=60,
        finalists=1,
        search_episodes=200,
        search_rounds=2,
        selection_episodes=3,
        evaluation_episodes=2,
    )
    return dataclasses.replace(config, **changes)


def test_every_stage_leaves_evidence_and_the_smallest_is_shipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("distill.refinement.guided_step._WARM_UP", 20)
    config = little(tmp_path, jobs=2, objectives=("on-policy",))
    result = smallest(config)
    stages = {each["stage"] for each in result["rows"]}
    assert {"trained", "refined"} <= stages
    holding = [each for each in result["rows"] if each["holds"]]
    assert result["target_held"] == bool(holding)
    assert result["kept_parameters"] == min(each["kept_parameters"] for each in holding)
    assert all(Path(each["file"]).is_file() for each in result["rows"])
    student = read_student(config.out / "student.safetensors")
    assert student.evaluation["student"] == result["student_return"]
    stored = json.loads((config.out / "smallest.json").read_text())
    assert stored == json.loads(json.dumps(result))
    assert (config.out / "pareto.svg").is_file()

    def never(*_: object) -> None:
        raise AssertionError("a finished run was made again")

    monkeypatch.setattr("distill.distillation.Distillation.run", never)
    assert json.loads(json.dumps(smallest(dataclasses.replace(config, jobs=1)))) == stored


def test_by_bytes_and_without_one_that_holds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = smallest(little(tmp_path, bytes=True, target_return=2.0, depths=(0,), search_episodes=0))
    assert result["by"] == "bytes"
    assert not result["target_held"]
    assert result["chosen"]["return_mean"] == max(each["return_mean"] for each in result["rows"])
    assert "no student holds the target" in capsys.readouterr().err
    assert {each["stage"] for each in result["rows"]} == {"trained"}


def test_what_makes_no_hunt_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DistillError, match="--widths: got none"):
        smallest(little(tmp_path, widths=()))
    with pytest.raises(DistillError, match="--finalists: got -1"):
        smallest(little(tmp_path, finalists=-1))
    with pytest.raises(DistillError, match="--hidden: got"):
        smallest(little(tmp_path, widths=(70_000,)))
