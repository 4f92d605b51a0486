"""Refinements: what stands beside what, and what is refused."""

from pathlib import Path
from typing import Any

import pytest

from benchmarks import (
    distillation_tables,
    refinement,
    refinement_tables,
)
from tests.benchmarks.rows import BEGUN, TEACHER, row


def refined(method: str, **changes: Any) -> dict[str, Any]:
    return row(environment="CartRail", method=method, size=80) | changes


def test_refinements_stand_beside_earlier_methods_with_their_robustness(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refinement, "TARGET", tmp_path / "refine.json")
    rates = {"success": 0.75, "interval": [0.5, 0.9]}
    summary = {name: {"teacher": rates, "students": rates} for name in ("nominal", "extra delay 0", "extra delay 1")}
    wrong = [{"environment": "CartRail", "method": "offline", "size": 80, "summary": summary}]
    refinement._write(BEGUN, "CartRail", [refined("offline"), refined("linear", sources="0.1 old")], TEACHER, wrong)
    refinement._write(BEGUN, "Edukit", [row(environment="Edukit", method="offline")], TEACHER, [])
    again = [
        refined("student-driven", commit="d" * 40),
        refined("offline", kept_weights=7, returns=[50.0] * 20, return_iqm=50.0),
        refined("offline", seed=1, kept_weights=6, returns=[100.0] * 16 + [0.0] * 4, return_iqm=100.0),
    ]
    refinement._write(BEGUN, "CartRail", again, TEACHER, [])
    stored = distillation_tables.load(tmp_path / "refine.json")
    assert stored is not None
    found = [(each["environment"], each["method"], each["kept_weights"]) for each in stored["runs"]]
    assert found == [
        ("Edukit", "offline", 90),
        ("CartRail", "offline", 7),
        ("CartRail", "offline", 6),
        ("CartRail", "student-driven", 90),
        ("CartRail", "linear", 90),
    ]
    # also of the linear student, which was not run again
    assert stored["provenance"]["CartRail"]["commits"] == ["c" * 40, "d" * 40]
    assert stored["provenance"]["CartRail"]["sources"] == ["0.1 abc", "0.1 old"]
    text = refinement_tables.section(stored)
    line = next(
        each for each in text.splitlines() if each.startswith("| offline | 80 | 7 | 95 | 700 | 75.0 | **75.0%**")
    )
    # the mean over all episodes, the worst of the two seeds, and the share of episodes that fell: 20 + 4 of 40
    assert "| 65.0% | 50.0% | 60% | 2 | 1,000 | - |" in line
    assert "| offline | 80 | **75.0%** (50.0% to 90.0%) / 75.0% |" in text
    summary = next(each for each in stored["rows"] if (each["environment"], each["method"]) == ("CartRail", "offline"))
    assert summary["share"] == 0.75
    assert summary["interval"][0] <= 0.75 <= summary["interval"][1]
    largest = {"seeds": 2, "kept_weights": 7, "kept_parameters": 95, "bytes": 700, "return_iqm": 75.0, "size": 80}
    assert summary == summary | largest
    assert len(stored["rows"]) == 4


def refuse_refinement(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> str:
    """What `python -m benchmarks.refinement` says before it computes anything."""
    monkeypatch.setattr("sys.argv", ["refinement", "--only", "CartRail", "--allow-dirty", *arguments])
    monkeypatch.setattr(refinement, "run_study", None)
    with pytest.raises(SystemExit) as stopped:
        refinement.main()
    return str(stopped.value)


def test_a_refinement_that_cannot_be_or_would_mix_seeds_is_refused_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refinement, "TARGET", tmp_path / "refine.json")
    said = refuse_refinement(monkeypatch, "--methods", refinement.SEARCH, "linear")
    assert said.endswith('expected both; add "student-driven"')
    runs = [refined(method, seed=seed) for method in ("offline", "student-driven") for seed in range(5)]
    refinement._write(BEGUN, "CartRail", runs, TEACHER, [])
    said = refuse_refinement(monkeypatch, "--methods", "linear", "--seeds", "1")
    assert said == (
        "error: CartRail: refine.json has student-driven with seeds = 5, got 1 for --methods linear alone; run all "
        "of them, or take the same numbers"
    )
    stored = distillation_tables.load(refinement.TARGET)
    refinement.refuse_mixture("CartRail", stored, ["linear"], 5)
    refinement.refuse_mixture("CartRail", stored, ["offline", "student-driven"], 1)  # nothing of five seeds stays
    refinement.refuse_mixture("Edukit", stored, ["linear"], 1)


def test_students_that_a_refinement_kept_as_they_were_are_counted() -> None:
    def line(method: str, runs: list[dict[str, Any]]) -> str:
        return next(
            each for each in refinement_tables.table(runs, TEACHER).splitlines() if each.startswith(f"| {method} |")
        )

    better = {"returns": [99.5] * 20, "return_iqm": 99.5}
    driven = refinement_tables.STUDENT
    refined_ones = [
        refined(driven, seed=0, steps=0),
        refined(driven, seed=1, steps=8_000, **better),
        refined(driven, size=40, steps=4_000),
    ]
    runs = [*(refined("offline", seed=seed) for seed in range(2)), *refined_ones]
    searched = refined(refinement_tables.SEARCH, seed=1, steps=0, **better)
    assert line(driven, runs).endswith("| 2 | 4,000 | 1 of 2 |")
    assert line(refinement_tables.SEARCH, [*runs, searched]).endswith("| 1 | 0 | 1 of 1 |"), "of the refined student"
    assert line("offline", runs).endswith("| 1,000 | - |")
    assert line(driven, refined_ones).endswith("| 4,000 | - |"), "what it began with is not stored"
    assert set(refinement_tables.STARTS) == {*refinement.REFINED, *refinement.SEARCHES}
