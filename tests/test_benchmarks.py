"""Results files: what a run of some environments or letters leaves of the others, and what the tables say."""

import subprocess
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from benchmarks import ablation_tables, ablations, distillation, distillation_tables, provenance
from distill.ablate_config import AblateConfig
from distill.config import TrainConfig
from distill.identity import Identities, as_json

BEGUN = {"machine": "here", "commit": "c" * 40}
TEACHER = [100.0] * 10


def row(**changes: Any) -> dict[str, Any]:
    return {
        "environment": "One",
        "teacher": "teacher.npz",
        "method": "linear",
        "size": 100,
        "threshold": None,
        "seed": 0,
        "pruned_to": 100,
        "kept_weights": 90,
        "kept_parameters": 95,
        "density": 0.5,
        "bytes": 700,
        "dense_bytes": 400,
        "steps": 1_000,
        "return_iqm": 99.0,
        "teacher_return_iqm": 100.0,
        "teacher_parameters": 5_000,
        "cpu_seconds": 3.0,
        "sources": "0.1 abc",
        "returns": [99.0] * 20,
    } | changes


def measured(rows: list[dict[str, Any]], *names: str) -> dict[str, Any]:
    cases = [case for case in distillation.CASES if case.name in names]
    return {case.name: distillation.measurement(BEGUN, rows, {case.name: TEACHER}, case) for case in cases}


def test_other_environments_keep_their_rows(capsys: pytest.CaptureFixture[str]) -> None:
    first = [row(environment="Hopper-TQC", seed=seed) for seed in range(2)] + [row(environment="CartRail")]
    stored = distillation.merged(None, BEGUN, first, measured(first, "Hopper-TQC", "CartRail"))
    assert stored["rows"] == first
    again = [row(environment="Hopper-TQC", return_iqm=50.0, sources="0.1 def")]
    later = {**BEGUN, "commit": "d" * 40}
    case = next(case for case in distillation.CASES if case.name == "Hopper-TQC")
    figures = {"Hopper-TQC": distillation.measurement(later, again, {"Hopper-TQC": TEACHER}, case)}
    both = distillation.merged(stored, later, again, figures)
    assert both["rows"] == [first[2], *again]
    assert "1 rows take the place of 2" in capsys.readouterr().err
    assert both["provenance"]["CartRail"]["commit"] == "c" * 40
    assert both["provenance"]["Hopper-TQC"]["commit"] == "d" * 40
    assert both["sources"] == ["0.1 abc", "0.1 def"]
    text = distillation_tables.section(both)
    assert "`cccccccccccc`" in text
    assert "`dddddddddddd`" in text


def test_tables_show_the_smaller_form_of_dense_students_alone() -> None:
    assert distillation_tables.stored_bytes(row()) == 400
    assert distillation_tables.stored_bytes(row(method="student-driven")) == 700
    assert "| 400 |" in distillation_tables.environment_table([row()], TEACHER)


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


def ablation(*rows: dict[str, Any]) -> dict[str, Any]:
    return {"environment": "One", "teacher": "t", "dense_weights": 200, "teacher_returns": TEACHER, "rows": list(rows)}


def test_other_letters_keep_their_rows_and_their_commit() -> None:
    stored = ablations.merged(None, ablation(row(method="log-uniform", ablation="a"), row(ablation="d")), BEGUN, "ad")
    later = {**BEGUN, "commit": "d" * 40}
    both = ablations.merged(stored, ablation(row(ablation="d", return_iqm=1.0)), later, "d")
    assert [(each["ablation"], each["return_iqm"]) for each in both["rows"]] == [("a", 99.0), ("d", 1.0)]
    assert [both["provenance"][letter]["commit"][0] for letter in "ad"] == ["c", "d"]


def test_letters_measured_otherwise_are_not_mixed(capsys: pytest.CaptureFixture[str]) -> None:
    config = AblateConfig(letters="d")
    options = as_json({key: getattr(config, key) for key in ablations._SAME})
    stored = {"rows": [row(ablation="a")], "options": options, "source": as_json(Identities().source(config))}
    ablations.refuse_mixture("CartRail", stored, config)
    ablations.refuse_mixture("CartRail", None, config)
    other = {**stored, "options": {**options, "iterations": 1}}
    with pytest.raises(SystemExit, match="iterations = 1, got 30000"):
        ablations.refuse_mixture("CartRail", other, config)
    ablations.refuse_mixture("CartRail", other, AblateConfig(letters="abcdefgh"))
    with pytest.raises(SystemExit, match="run all letters"):
        ablations.refuse_mixture("CartRail", {**stored, "source": {}}, config)


def test_a_cell_stays_empty_where_students_are_smaller_than_asked() -> None:
    result = ablation(
        row(method="log-uniform", ablation="a"),
        row(method="log-uniform", ablation="a", size=50, pruned_to=50, kept_weights=48),
        row(method="L1", ablation="d", pruned_to=96),
        row(method="L1", ablation="d", size=50, pruned_to=49, kept_weights=47),
    )
    base, rival = ablation_tables.table(result, "d").splitlines()[2:]
    assert "90 kept" in base
    assert "48 kept" in base
    assert rival.split(" | ")[1] == ""
    assert "47 kept" in rival


def test_uncommitted_documents_are_no_uncommitted_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def git(*arguments: str) -> None:
        person = ("-c", "user.name=n", "-c", "user.email=e@example.org")
        subprocess.run(["git", *person, *arguments], cwd=tmp_path, check=True, capture_output=True)

    (tmp_path / "docs").mkdir()
    for name in ("code.py", "docs/results.json"):
        (tmp_path / name).write_text("old", encoding="utf-8")
    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "first")
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    (tmp_path / "docs" / "results.json").write_text("new", encoding="utf-8")
    assert len(provenance.commit()) == 40
    provenance.refuse_dirty(allowed=False)
    (tmp_path / "code.py").write_text("new", encoding="utf-8")
    assert provenance.commit().endswith("-dirty")
    with pytest.raises(SystemExit, match="--allow-dirty"):
        provenance.refuse_dirty(allowed=False)
    provenance.refuse_dirty(allowed=True)
