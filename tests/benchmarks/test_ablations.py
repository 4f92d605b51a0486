"""Ablations: letters keep their rows and their commits, and what the tables say."""

from typing import Any

import pytest

from benchmarks import (
    ablation_tables,
    ablations,
)
from distill.ablate import DENSITIES
from distill.ablate_config import AblateConfig
from distill.identity import Identities, as_json
from tests.benchmarks.rows import BEGUN, TEACHER, row


def ablation(*rows: dict[str, Any]) -> dict[str, Any]:
    return {"environment": "One", "teacher": "t", "dense_weights": 200, "teacher_returns": TEACHER, "rows": list(rows)}


def test_other_letters_keep_their_rows_and_their_commit() -> None:
    stored = ablations.merged(None, ablation(row(method="log-uniform", ablation="a"), row(ablation="d")), BEGUN, "ad")
    again = ablation(row(ablation="d", return_iqm=1.0, commit="d" * 40))
    both = ablations.merged(stored, again, {**BEGUN, "commit": "e" * 40}, "d")
    assert [(each["ablation"], each["return_iqm"]) for each in both["rows"]] == [("a", 99.0), ("d", 1.0)]
    assert [both["provenance"][letter]["commits"] for letter in "ad"] == [["c" * 40], ["d" * 40]]


def test_letters_measured_otherwise_are_not_mixed(capsys: pytest.CaptureFixture[str]) -> None:
    config = AblateConfig(letters="d")
    options = as_json({key: getattr(config, key) for key in ablations._SAME})
    rows = [row(ablation="a", size=round(1_000 * density)) for density in DENSITIES]
    stored = {"rows": rows, "options": options, "source": as_json(Identities().source(config)), "dense_weights": 1_000}
    ablations.refuse_mixture("CartRail", stored, config)
    ablations.refuse_mixture("CartRail", None, config)
    other = {**stored, "options": {**options, "iterations": 1}}
    with pytest.raises(SystemExit, match="iterations = 1, got 30000"):
        ablations.refuse_mixture("CartRail", other, config)
    ablations.refuse_mixture("CartRail", other, AblateConfig(letters="abcdefgh"))
    with pytest.raises(SystemExit, match="run all letters"):
        ablations.refuse_mixture("CartRail", {**stored, "source": {}}, config)
    with pytest.raises(SystemExit, match=r"sizes .*run all letters"):
        ablations.refuse_mixture("CartRail", {**stored, "rows": rows[1:]}, config)


def test_a_return_is_left_out_where_students_are_smaller_than_asked() -> None:
    result = ablation(
        row(method="Bayesian", ablation="d"),
        row(method="Bayesian", ablation="d", size=50, pruned_to=50, kept_weights=48),
        row(method="L1", ablation="d", pruned_to=96),
        row(method="L1", ablation="d", size=50, pruned_to=49, kept_weights=47),
    )
    lines = ablation_tables.table(result, "d").splitlines()[2:]
    assert [line.split(" | ")[1] for line in lines] == ["Bayesian", "L1", "Bayesian", "L1"], "arms of a size together"
    assert lines[0].startswith("| 100 | Bayesian | 90 | 45% | 99.0% (99.0% to 99.0%) | 99.0% | 99.0% | 0% |")
    assert lines[1] == "| 100 | L1 | 90 | - | - | - | - | - | - |"
    assert "| L1 | 47 |" in lines[3]
    assert "99.0%" in lines[3]


def test_letters_that_share_the_name_of_an_arm_share_no_rows_and_a_bar_ends_no_cell() -> None:
    same = "critic, |D| 5"
    result = ablation(
        row(method="log-uniform", ablation="a"), row(method=same, ablation="b"), row(method=same, ablation="c")
    )
    for letter in "bc":
        assert {name: len(rows) for name, rows in ablation_tables.arms(result, letter).items()} == {same: 1}
        assert "| critic, \\|D\\| 5 |" in ablation_tables.table(result, letter)


def test_an_arm_that_stands_in_several_letters_is_named_with_its_bad_seed() -> None:
    bad = {"seed": 1, "return_iqm": 60.0, "returns": [60.0] * 20}
    rows = [
        row(method=method, ablation=letter, **changes)
        for letter, method in (("b", "no critic"), ("f", "correct"), ("g", "linear"))
        for changes in ({}, bad, {"seed": 2, "return_iqm": 98.0})
    ]
    rows += [row(method="critic", ablation="b", returns=[1.0]), row(method="log-uniform", ablation="e", **bad)]
    result = ablation(*rows)
    assert ablation_tables.shared_arms(result) == [{"b": "no critic", "f": "correct", "g": "linear"}]
    result |= {"iterations": 1, "seeds": 3, "provenance": {letter: {**BEGUN, "sources": []} for letter in "befg"}}
    text = ablation_tables.section({"One": result})
    assert (
        '"no critic" (b), "correct" (f) and "linear" (g) are the same 3 runs. At 100 weights seed 1 of them returns '
        "60, the others 98 to 99: one seed weighs on every comparison with them."
    ) in text
    for letter in "befg":
        own = text.partition(f"#### ({letter})")[2].partition("####")[0]
        assert ('the arm "no critic" of (b)' in own) == (letter in "fg")
