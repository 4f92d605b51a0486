"""Students of every teacher: what a run of some leaves of the others, and what controls may take."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from benchmarks import (
    distillation,
    distillation_tables,
)
from distill.config import TrainConfig
from distill.errors import DistillError
from tests.benchmarks.rows import BEGUN, TEACHER, row


def measured(rows: list[dict[str, Any]], *names: str) -> dict[str, Any]:
    cases = [case for case in distillation.CASES if case.name in names]
    return {case.name: distillation.measurement(BEGUN, rows, {case.name: TEACHER}, case, None) for case in cases}


def test_other_environments_keep_their_rows(capsys: pytest.CaptureFixture[str]) -> None:
    first = [row(environment="Hopper-TQC", seed=seed) for seed in range(2)] + [row(environment="CartRail")]
    stored = distillation.merged(None, BEGUN, first, measured(first, "Hopper-TQC", "CartRail"))
    assert stored["rows"] == first
    again = [row(environment="Hopper-TQC", return_iqm=50.0, commit="d" * 40, sources="0.1 def")]
    later = {**BEGUN, "commit": "e" * 40}  # when the rows were gathered, no code of theirs
    case = next(case for case in distillation.CASES if case.name == "Hopper-TQC")
    figures = {"Hopper-TQC": distillation.measurement(later, again, {"Hopper-TQC": TEACHER}, case, stored)}
    both = distillation.merged(stored, later, again, figures)
    assert both["rows"] == [first[2], *again]
    assert "1 rows take the place of 2" in capsys.readouterr().err
    assert both["provenance"]["CartRail"]["commits"] == ["c" * 40]
    assert both["provenance"]["Hopper-TQC"]["commits"] == ["d" * 40]
    assert both["sources"] == ["0.1 abc", "0.1 def"]
    text = distillation_tables.section(both)
    assert "`cccccccccccc`" in text
    assert "`dddddddddddd`" in text


def test_tables_show_the_smaller_form_of_dense_students_alone() -> None:
    assert distillation_tables.stored_bytes(row()) == 400
    assert distillation_tables.stored_bytes(row(method="student-driven")) == 700
    assert "| 400 |" in distillation_tables.environment_table([row()], TEACHER)


def test_methods_that_were_not_run_keep_their_rows() -> None:
    stored = [row(), row(method="dense, equal bytes"), row(environment="Two")]
    new = [row(seed=1), row(method="student-driven")]
    assert distillation.beside(stored, new, ["One"]) == [new[1], new[0], stored[1]]
    assert distillation.beside(stored, [], ["Two"]) == [stored[2]]
    assert distillation.beside([], new, ["One"]) == [new[1], new[0]]


@pytest.mark.parametrize("case", distillation.CASES, ids=lambda case: case.name)
def test_controls_may_take_about_as_many_steps_as_sparse_students(case: distillation.Case) -> None:
    config = distillation.config_of(case, Path("teachers"), Path("out"))
    widths = (11, *config.hidden, 3)
    sparse = distillation.fine_tuning_steps(config, sum(a * b for a, b in pairwise(widths)))
    for hidden in ((), (20, 20)):
        control = distillation.control(config, 11, hidden, 3)
        (weights,) = control.kept_weights
        assert 0.6 < distillation.fine_tuning_steps(control, weights) / sparse < 1.7
        assert control.method == "dense"


def test_fine_tuning_steps_are_those_of_a_plan_that_never_holds() -> None:
    config = TrainConfig(kept_weights=(90, 80), shrink=0.95, fine_tune_iterations=10, fine_tune_doublings=1)
    # 100 -> 95 -> 90 (10 + 20) -> 85 -> 80 (10 + 20)
    assert distillation.fine_tuning_steps(config, 100) == 10 + 30 + 10 + 30


def test_the_gradient_begins_with_the_student_driven_students_of_the_size_compared(tmp_path: Path) -> None:
    case = next(case for case in distillation.CASES if case.name == "HalfCheetah-TQC")
    config = distillation.config_of(case, tmp_path / "teachers", tmp_path)
    with pytest.raises(DistillError, match=r"seed0: no finished run, expected the student .*; run --methods"):
        distillation.gradient_arms(case, config, 2)
    begin = {}
    for seed in range(2):
        run = distillation.arm(case, distillation.STUDENT, config, seed).config.out
        begin[seed] = run / "sizes" / "chosen.safetensors"
        run.mkdir(parents=True)
        sizes = [{"asked": asked, "name": name} for asked, name in ((2_858, "other"), (case.dense_size, "chosen"))]
        for each in sizes:
            each["name"] += ".safetensors"
        (run / "distill.json").write_text(json.dumps({"sizes": sizes}))
    arms = distillation.gradient_arms(case, config, 2)
    assert [(size, arm.method, arm.config.student) for size, arm in arms] == [
        (case.dense_size, distillation.GRADIENT, path) for path in begin.values()
    ]
    for seed, (_, arm) in enumerate(arms):
        climbed = arm.config
        assert (climbed.seed, climbed.search, climbed.fine_tune_iterations) == (seed, "policy-gradient", 0)
        assert (climbed.teacher, climbed.env) == (config.teacher, config.env)
    assert len({arm.config.out for _, arm in arms}) == 2
