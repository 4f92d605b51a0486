"""The hunt for the smallest student: the front, every stage, going on, and what is refused."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import tyro

from distill.config import TrainConfig
from distill.errors import DistillError
from distill.evaluate import return_bar
from distill.pareto import draw, front
from distill.smallest import _Hunt, smallest
from distill.smallest_config import SmallestConfig
from export.student_file import read_student
from tests.distill.test_distillation import PENDULUM, little_teacher


def row(size: int, value: float, stage: str = "trained", *, holds: bool = True) -> dict[str, object]:
    return {"bytes": size, "return_iqm": value, "stage": stage, "holds": holds}


def test_the_front_has_what_nothing_as_small_beats() -> None:
    rows = [row(40, 5.0), row(10, 1.0), row(20, 0.5), row(10, 2.0), row(30, 5.0), row(50, 9.0)]
    assert [(each["bytes"], each["return_iqm"]) for each in front(rows, "bytes")] == [(10, 2.0), (30, 5.0), (50, 9.0)]
    assert front([], "bytes") == []


def test_the_figure_is_the_same_bytes_for_the_same_rows(tmp_path: Path) -> None:
    files = []
    for name in ("a.svg", "b.svg"):
        draw([row(10, 1.0), row(20, 3.0, "searched")], "bytes", 4.0, 3.9, tmp_path / name)
        files.append((tmp_path / name).read_bytes())
    assert files[0] == files[1]
    assert files[0].startswith(b"<?xml")


def test_the_figure_tells_who_holds_the_target(tmp_path: Path) -> None:
    draw([row(10, 5.0, holds=False), row(20, 5.0)], "bytes", 5.0, 4.9, tmp_path / "a.svg")
    text = (tmp_path / "a.svg").read_text()
    for words in ("trained", "trained, missing the target", "interquartile mean return"):
        assert f">{words}" in text


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
        search_episodes=100,
        search_rounds=2,
        selection_episodes=3,
        evaluation_episodes=2,
    )
    return dataclasses.replace(config, **changes)


def test_every_stage_leaves_evidence_and_the_smallest_is_shipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("distill.refinement.guided_step._WARM_UP", 20)
    config = little(tmp_path, jobs=2, objectives=("on-policy",), target_return=0.99)
    drawn = []

    def note(*arguments: float) -> float:
        drawn.append(arguments)
        return return_bar(*arguments)

    monkeypatch.setattr("distill.smallest.return_bar", note)
    result = smallest(config)
    stages = {each["stage"] for each in result["rows"]}
    assert stages == {"trained", "refined", "searched"}
    holding = [each for each in result["rows"] if each["holds"]]
    assert result["target_held"] == bool(holding)
    assert result["kept_parameters"] == min(each["kept_parameters"] for each in holding)
    assert all(Path(each["file"]).is_file() for each in result["rows"])
    student = read_student(config.out / "student.safetensors")
    assert student.evaluation["student"] == result["student_return"]
    stored = json.loads((config.out / "smallest.json").read_text())
    assert stored == json.loads(json.dumps(result))
    assert (config.out / "pareto.svg").is_file()
    assert drawn == [(result["selection_teacher"]["iqm"], 0.99)], "what the target is judged by is what is drawn"

    def never(*_: object) -> None:
        raise AssertionError("a finished run was made again")

    monkeypatch.setattr("distill.distillation.Distillation.run", never)
    assert json.loads(json.dumps(smallest(dataclasses.replace(config, jobs=1)))) == stored


def test_by_bytes_and_without_one_that_holds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = {"target_return": 2.0, "depths": (0,), "search_episodes": 0, "fine_tune_iterations": 0}
    result = smallest(little(tmp_path, bytes=True, **options))
    assert result["by"] == "bytes"
    assert not result["target_held"]
    assert result["chosen"]["return_mean"] == max(each["return_mean"] for each in result["rows"])
    assert "no student holds the target" in capsys.readouterr().err
    assert {each["stage"] for each in result["rows"]} == {"trained"}
    assert read_student(tmp_path / "out" / "student.safetensors").evaluation["fine_tuned"] is False


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"widths": ()}, "--widths: got none"),
        ({"widths": (0,)}, "--widths: got 0, expected 1 to 65535"),
        ({"widths": (70_000,)}, "--widths: got 70000, expected 1 to 65535"),
        ({"finalists": -1}, "--finalists: got -1"),
        ({"iterations": -5}, "--iterations: got -5"),
        ({"selection_episodes": 0}, "--selection-episodes: got 0, expected 1 to 10000"),
        ({"selection_episodes": -2}, "--selection-episodes: got -2, expected 1 to 10000"),
        ({"selection_episodes": 100_000}, "--selection-episodes: got 100000, expected 1 to 10000"),
        ({"search_episodes": 5}, "--search-episodes .0: no search.: got 5, expected 88 to 500000"),
        ({"search_episodes": -1}, "--search-episodes .0: no search.: got -1"),
        ({"priors": ("log-uniform", "gaussian")}, "--priors: got gaussian, which needs a scale"),
        ({"priors": ("uniform-truncated",)}, "--priors: got uniform-truncated, which needs a scale"),
        ({"objectives": ("on-policy", "td+v")}, "--objectives: got td[+]v, .* and teacher.safetensors, expected a SAC"),
    ],
)
def test_what_makes_no_hunt_is_refused_before_anything_is_played(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, object], words: str
) -> None:
    monkeypatch.setattr("distill.select.play", None)
    monkeypatch.setattr("distill.smallest.run_all", None)
    with pytest.raises(DistillError, match=words):
        smallest(little(tmp_path, **changes))


def test_objectives_that_are_named_take_the_place_of_the_default() -> None:
    assert tyro.cli(SmallestConfig, args=[]).objectives == ()
    assert tyro.cli(SmallestConfig, args=["--objectives", "on-policy"]).objectives == ("on-policy",)


def hunt(config: SmallestConfig, monkeypatch: pytest.MonkeyPatch) -> tuple[_Hunt, list[str]]:
    """A hunt that makes no runs, and the folders of those that it would have made."""
    made: list[str] = []

    def run_none(_: object, configs: list[TrainConfig], *__: object) -> list[dict[str, object]]:
        made.extend(each.out.name for each in configs)
        return [{"candidates": []} for _ in configs]

    monkeypatch.setattr("distill.smallest.run_all", run_none)
    config.out.mkdir()
    return _Hunt(config), made


def test_what_is_named_twice_is_one_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = little(tmp_path, depths=(0,), priors=("ard", "ard"), data_weights=(3e5, 3e5, 1e5))
    made_once, made = hunt(config, monkeypatch)
    made_once._explore(made_once._train_runs())
    assert len(made) == len(set(made)) == 2
    row = {"words": "w", "file": str(config.teacher), "holds": True, "kept_parameters": 9, "return_mean": 1, "run": "r"}
    made_once.rows = [row]
    for objectives, runs in (((), 1), (("expected-entropy", "on-policy", "on-policy"), 1)):  # the first is there then
        made_once.config = dataclasses.replace(config, objectives=objectives)
        made.clear()
        made_once._explore(made_once._refine_runs())
        assert len(made) == runs


def test_a_place_among_the_finalists_is_not_given_to_a_start_searched_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, made = hunt(little(tmp_path, finalists=2), monkeypatch)
    monkeypatch.setattr(_Hunt, "_folder", lambda self, run: self.config.out / run.words.partition(";")[0])
    found.rows = [
        {"words": name, "file": name, "stage": "trained", "holds": False, "kept_parameters": 9, "return_mean": mean}
        for name, mean in (("a", 5.0), ("b", 4.0), ("c", 3.0))
    ]
    found._explore(found._search_runs())
    assert made == ["a", "b"]
    found._explore(found._search_runs())
    assert made == ["a", "b", "c"]


def test_students_too_large_for_sampling_follow_the_gradient(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found, _ = hunt(little(tmp_path, finalists=2), monkeypatch)
    monkeypatch.setattr(_Hunt, "_folder", lambda self, run: self.config.out / run.words)
    row = {"file": "f", "stage": "trained", "holds": False}
    found.rows = [{**row, "words": str(size), "kept_parameters": size, "return_mean": -size} for size in (400, 401)]
    assert [(run.words, run.config.search) for run in found._search_runs()] == [
        ("400; cma-es", "cma-es"),
        ("401; policy-gradient", "policy-gradient"),
    ]
    with pytest.raises(DistillError, match=r"--search-episodes .0: no search.: got 99, expected 250 to 500000"):
        hunt(little(tmp_path / "short", search_episodes=99, env_kwargs='{"max_episode_steps": 40}'), monkeypatch)
