"""Studies: rows are repeatable, finished arms are not run again, shares and intervals are what they say."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from distill.ablate import variants
from distill.config import TrainConfig
from distill.evaluate import interquartile_mean, ratio_interval, share_kept
from distill.study import Arm, dense_bytes, dense_width, run_study
from distill.train_options import check_config
from tests.distill.test_distillation import small


def test_rows_and_their_reuse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = small(tmp_path, out=tmp_path / "case" / "method" / "seed0", kept_weights=(20, 8))
    arm = Arm("Pendulum", "method", config, episodes=2)
    rows = run_study([arm], jobs=1)
    assert [row["size"] for row in rows] == [20, 8]
    for row in rows:
        assert row["kept_weights"] <= row["size"]
        assert row["return_iqm"] == pytest.approx(interquartile_mean(np.array(row["returns"])), abs=1e-3)
        assert len(row["returns"]) == 2
    assert rows[0]["cpu_seconds"] < rows[1]["cpu_seconds"]
    monkeypatch.setattr("distill.study._run", None)  # a finished arm must not be run again
    assert run_study([arm], jobs=1) == rows
    monkeypatch.undo()
    changed = dataclasses.replace(arm, config=dataclasses.replace(config, batch=16))
    assert run_study([changed], jobs=1)[0]["returns"] != rows[0]["returns"]


def test_every_ablation_is_a_valid_set_of_options() -> None:
    base = TrainConfig(states="dataset", value_weight=0.0, critic=False, threshold=8.0, kept_weights=(100, 50))
    found = list(variants(base))
    assert {letter for letter, _, _ in found} == set("abcdefg")
    assert len({name for _, name, _ in found}) == len(found)
    for _, _, options in found:
        check_config(options)


def test_dense_students_of_equal_bytes() -> None:
    width = dense_width(11, 3, 4_000)
    assert dense_bytes((11, width, width, 3)) <= 4_000 < dense_bytes((11, width + 1, width + 1, 3))
    assert dense_width(11, 3, 10) == 0


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
