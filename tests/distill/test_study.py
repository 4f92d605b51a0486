"""Studies: rows are repeatable, finished arms are not run again, shares and intervals are what they say."""

import dataclasses
import json
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import distill
from distill.commit import commit_of
from distill.errors import DistillError
from distill.evaluate import SELECTION_SEED, interquartile_mean, ratio_interval, share_kept
from distill.identity import sources
from distill.study import Arm, dense_bytes, dense_width, held_out, run_study
from export.student_file import read_student, write_student
from tests.distill.test_distillation import small

SHORT = '{"max_episode_steps": 20}'  # of Pendulum: playing is what takes time here


def one_by_one(
    function: Callable[[Any], Any], items: Sequence[Any], jobs: int, on_done: Callable[[Any, Any], None]
) -> list[Any]:
    """`run_all` in this process: no time is spent on starting workers."""
    del jobs
    results = []
    for item in items:
        results.append(function(item))
        on_done(item, results[-1])
    return results


def test_rows_and_their_reuse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = small(
        tmp_path, out=tmp_path / "case" / "method" / "seed0", env_kwargs=SHORT, kept_weights=(20, 8), threshold=20.0
    )
    arm = Arm("Pendulum", "method", config, episodes=2, thresholds=(2.0,))
    rows = run_study([arm], jobs=1)
    assert [(row["size"], row["threshold"]) for row in rows] == [(20, None), (8, None), (None, 2.0)]
    for row in rows:
        assert row["kept_weights"] <= row["pruned_to"]
        assert row["return_iqm"] == pytest.approx(interquartile_mean(np.array(row["returns"])), abs=1e-3)
        assert len(row["returns"]) == 2
        assert 4 * row["kept_parameters"] <= row["dense_bytes"] <= 4 * (3 * 8 + 8 + 8 + 1)
    assert [row["pruned_to"] for row in rows[:2]] == [20, 8]
    assert rows[0]["bytes"] > rows[1]["bytes"]
    assert rows[2]["steps"] < rows[0]["steps"] < rows[1]["steps"]  # the first cut, then the sizes
    assert rows[0]["steps"] >= config.iterations + config.fine_tune_iterations
    monkeypatch.setattr("distill.study._run", None)  # a finished arm must not be run again
    assert run_study([arm], jobs=1) == rows
    monkeypatch.undo()
    again = run_study([dataclasses.replace(arm, episodes=1)], jobs=1)  # trained already, only scored anew
    assert again[0]["returns"] == rows[0]["returns"][:1]
    assert again[0]["cpu_seconds"] == rows[0]["cpu_seconds"]
    changed = dataclasses.replace(arm, config=dataclasses.replace(config, batch=16))
    assert run_study([changed], jobs=1)[0]["returns"] != rows[0]["returns"]


@pytest.mark.parametrize("name", ["rows.json", "arm.json", "distill.json", "teacher"])
def test_a_damaged_file_of_an_earlier_run_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr("distill.study.run_all", one_by_one)
    config = small(tmp_path, out=tmp_path / "case" / "method" / "seed0", env_kwargs=SHORT, kept_weights=(8,))
    arm = Arm("Pendulum", "method", config, episodes=1)
    run_study([arm], jobs=1)
    if name != "rows.json":
        (config.out / "rows.json").unlink()
    path = next((tmp_path / "case").glob("teacher-*.json")) if name == "teacher" else config.out / name
    path.write_text(path.read_text()[:-3])
    with pytest.raises(DistillError, match=f"{path.name}: got a damaged file"):
        run_study([arm], jobs=1)
    path.unlink()
    assert len(run_study([arm], jobs=1)) == 1, "removing it is a way out"


def test_what_another_run_left_in_a_folder_is_not_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("distill.study.run_all", one_by_one)
    config = small(tmp_path, out=tmp_path / "case" / "method" / "seed0", env_kwargs=SHORT, kept_weights=(8,))
    rows = run_study([Arm("Pendulum", "method", config, episodes=1)], jobs=1)
    (config.out / "rows.json").unlink()
    folder = tmp_path / "other"
    folder.mkdir()
    other = Path(shutil.copy(config.teacher, folder / config.teacher.name))  # the same file under another path
    moved = dataclasses.replace(config, teacher=other)
    assert run_study([Arm("Pendulum", "method", moved, episodes=1)], jobs=1) == rows, "the stored run is taken"
    checkpoint = config.out / "checkpoint"
    checkpoint.mkdir()
    (checkpoint / "state.safetensors").write_bytes(b"of another run")
    student = read_student(other)
    layers = tuple(dataclasses.replace(layer, weight=-layer.weight) for layer in student.layers)
    write_student(other, dataclasses.replace(student, layers=layers))
    monkeypatch.setattr("distill.study.own_code", lambda: {"commit": None, "sources": "later"})
    changed = run_study([Arm("Pendulum", "method", moved, episodes=1)], jobs=1)
    assert changed[0]["returns"] != rows[0]["returns"]
    assert changed[0]["teacher_return_iqm"] != rows[0]["teacher_return_iqm"]
    assert changed[0]["sources"] == "later"


def test_rows_say_the_code_that_trained_them_not_the_one_that_scored_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("distill.study.run_all", one_by_one)
    config = small(tmp_path, out=tmp_path / "case" / "method" / "seed0", env_kwargs=SHORT, kept_weights=(8,))
    arm = Arm("Pendulum", "method", config, episodes=2)
    first = run_study([arm], jobs=1)[0]
    assert first["commit"] == commit_of(Path(distill.__file__))
    assert first["sources"] == sources()
    monkeypatch.setattr("distill.study.own_code", lambda: {"commit": "later", "sources": "later"})
    again = run_study([dataclasses.replace(arm, episodes=1)], jobs=1)[0]  # only scored anew
    assert (again["commit"], again["sources"]) == (first["commit"], first["sources"])
    identity = config.out / "arm.json"
    run = json.loads(identity.read_text(encoding="utf-8"))["run"]
    identity.write_text(json.dumps(run), encoding="utf-8")  # as it was written before it had more
    before = run_study([arm], jobs=1)[0]
    assert before["cpu_seconds"] == first["cpu_seconds"], "it was not trained again"
    assert (before["commit"], before["sources"]) == (None, "unknown")


def test_a_commit_is_said_of_files_that_git_knows_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def git(*arguments: str) -> None:
        person = ("-c", "user.name=n", "-c", "user.email=e@example.org")
        subprocess.run(["git", *person, *arguments], cwd=tmp_path, check=True, capture_output=True)

    for name in ("code.py", "installed.py"):
        (tmp_path / name).write_text("old", encoding="utf-8")
    git("init", "-q")
    git("add", "code.py")
    assert commit_of(tmp_path / "code.py") is None, "there is no commit yet"
    git("commit", "-qm", "first")
    commit = commit_of(tmp_path / "code.py")
    assert commit is not None
    assert len(commit) == 40
    assert commit_of(tmp_path / "installed.py") is None
    (tmp_path / "code.py").write_text("new", encoding="utf-8")
    assert commit_of(tmp_path / "code.py") == f"{commit}-dirty"
    monkeypatch.setenv("PATH", "")
    assert commit_of(tmp_path / "code.py") is None, "git is missing"


def test_an_arm_can_be_scored_on_another_environment_than_it_trained_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("distill.study.run_all", one_by_one)
    config = small(tmp_path, out=tmp_path / "case" / "method" / "seed0", env_kwargs=SHORT, kept_weights=(8,))
    arm = Arm("Pendulum", "method", config, episodes=2)
    short = run_study([arm], jobs=1)[0]
    long = run_study([dataclasses.replace(arm, scored_on='{"max_episode_steps": 60}')], jobs=1)[0]
    assert long["cpu_seconds"] == short["cpu_seconds"], "it was not trained again"
    assert long["return_iqm"] < 1.5 * short["return_iqm"] < 0.0  # every step costs
    assert long["teacher_return_iqm"] < 1.5 * short["teacher_return_iqm"] < 0.0


def test_report_episodes_stay_clear_of_those_that_choose(tmp_path: Path) -> None:
    assert held_out(499, 20).stop == SELECTION_SEED
    with pytest.raises(DistillError, match="seeds below 500"):
        held_out(500, 20)
    config = small(tmp_path, out=tmp_path / "case" / "method" / "seed0", seed=500)
    with pytest.raises(DistillError, match="training seed 500"):
        run_study([Arm("Pendulum", "method", config)], jobs=1)


def test_dense_students_of_equal_bytes() -> None:
    width = dense_width(11, 3, 4_000)
    assert dense_bytes((11, width, width, 3)) <= 4_000 < dense_bytes((11, width + 1, width + 1, 3))
    assert dense_width(11, 3, 10) == 0


def test_a_teacher_that_returns_nothing_is_studied_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("distill.study.run_all", one_by_one)
    config = small(tmp_path, out=tmp_path / "case" / "method" / "seed0", env_kwargs=SHORT, kept_weights=(8,))
    monkeypatch.setattr("distill.study.teacher_returns", lambda *_: np.zeros(100))
    assert run_study([Arm("Pendulum", "method", config, episodes=1)], jobs=1)[0]["teacher_return_iqm"] == 0.0
    assert "the teacher's 0.0" in capsys.readouterr().err
    with pytest.raises(DistillError, match="got 3 of a teacher's 0, expected a teacher that returns something"):
        share_kept(3.0, 0.0)


def test_share_and_interval() -> None:
    assert share_kept(90.0, 100.0) == pytest.approx(0.9)
    assert share_kept(-110.0, -100.0) == pytest.approx(0.9)
    generator = np.random.default_rng(0)
    students = [generator.normal(95.0, 5.0, 20) for _ in range(5)]
    teacher = generator.normal(100.0, 5.0, 100)
    share, low, high = ratio_interval(students, teacher)
    assert low < share < high
    assert low > 0.92
    assert high < 0.98
    _, narrow_low, narrow_high = ratio_interval(students * 4, teacher)
    assert narrow_high - narrow_low < high - low, "more seeds, less doubt"
    falling = [*students[:4], students[4] - 60.0]
    assert ratio_interval(falling, teacher)[1] < low - 0.05, "one bad seed widens the interval"
