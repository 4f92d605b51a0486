"""Replay: what is drawn, from memory and from mapped files; what is kept, forgotten and restored; what it costs."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch

from distill.datasets.dataset import Dataset, read_dataset, write_dataset
from distill.datasets.replay import Normaliser, Replay
from distill.datasets.transitions import Transitions, join, reserve

MEAN, SCALE = np.float32([1, 2]), np.float32([2, 4])
LOW, HIGH = np.float32([-1, 0]), np.float32([3, 8])


def numbered(first: int, *lengths: int) -> Transitions:
    """Rows whose every number tells which row it is."""
    rows = reserve(sum(lengths), len(lengths), 2, 2)
    number = first + np.arange(len(rows), dtype=np.float32)
    rows.observations[:] = np.stack((number, -number), axis=1)
    rows.executed_actions[:] = np.stack((number + 0.25, number), axis=1)
    rows.teacher_actions[:] = np.stack((number + 0.5, number), axis=1)
    rows.rewards[:] = number
    rows.truncated[:] = 0
    rows.lengths[:] = lengths
    rows.terminated[:] = 0
    rows.terminated[rows.ends] = 1
    rows.final_observations[:] = np.float32(1e6) + np.stack((number, -number), axis=1)[rows.ends]
    return rows


def replay() -> Replay:
    return Replay(Normaliser(MEAN, SCALE), 1, LOW, HIGH)


def check(drawn: Replay, allowed: set[int], ends: set[int]) -> None:
    """Everything in a large batch belongs together, and all rows are drawn about equally often."""
    batch = drawn.sample(4096, torch.Generator().manual_seed(0), transitions=True)
    row = batch.rewards.numpy()
    counts = {int(number): int((row == number).sum()) for number in np.unique(row)}
    assert set(counts) == allowed
    expected = 4096 / len(allowed)
    assert all(abs(count - expected) < 6 * expected**0.5 for count in counts.values())
    raw = np.stack((row, -row), axis=1)
    assert np.array_equal(batch.observations.numpy(), (raw - MEAN) / SCALE)
    middle, half = (LOW + HIGH) / 2, (HIGH - LOW) / 2
    assert np.array_equal(batch.executed_actions.numpy(), (np.stack((row + 0.25, row), 1) - middle) / half)
    assert np.array_equal(batch.teacher_actions.numpy(), (np.stack((row + 0.5, row), 1) - middle) / half)
    last = np.isin(row, list(ends))
    following = np.where(last[:, None], np.float32(1e6) + raw, np.stack((row + 1, -row - 1), axis=1))
    assert np.array_equal(batch.next_observations.numpy(), (following - MEAN) / SCALE)
    assert np.array_equal(batch.terminated.numpy(), last.astype(np.float32))


def test_rows_are_drawn_whole_and_normalised() -> None:
    drawn = replay()
    drawn.extend(numbered(0, 3, 1, 4))
    check(drawn, set(range(8)), {2, 3, 7})


def test_appended_rows_join_the_first_ones() -> None:
    drawn = replay()
    drawn.extend(numbered(0, 3, 2))
    drawn.extend(numbered(5, 4))
    drawn.extend(numbered(9, 1, 2))
    assert len(drawn) == 12
    check(drawn, set(range(12)), {2, 4, 8, 9, 11})
    newest = drawn.sample(500, torch.Generator().manual_seed(1), transitions=True, newest=3).rewards
    assert set(newest.tolist()) == {9.0, 10.0, 11.0}
    only_base = drawn.sample(8, torch.Generator().manual_seed(1), transitions=False)
    assert only_base.rewards.numel() == only_base.next_observations.numel() == 0
    assert torch.equal(only_base.error_weights, torch.ones(8, 2))


def test_errors_have_the_weights_of_their_rows() -> None:
    asked = []

    def weigh(observations: np.ndarray, actions: np.ndarray) -> np.ndarray:
        asked.append(len(observations))
        return np.stack((observations[:, 0], 2 * actions[:, 1]), axis=1)

    drawn = Replay(Normaliser(MEAN, SCALE), 1, LOW, HIGH, weigh)
    for rows in (numbered(0, 3), numbered(3, 2), numbered(5, 1, 3)):
        drawn.extend(rows)
    assert asked == [3, 2, 4], "each row once"
    check(drawn, set(range(9)), {2, 4, 5, 8})
    generator = torch.Generator().manual_seed(0)
    for batch in (drawn.sample(99, generator, transitions=True), drawn.sample_followed(99, generator)):
        assert torch.equal(batch.error_weights, torch.stack((batch.rewards, 2 * batch.rewards), dim=1))


def test_many_rounds_grow_the_store_and_lose_nothing() -> None:
    drawn = replay()
    drawn.extend(numbered(0, 2))
    for first in range(2, 62, 3):
        drawn.extend(numbered(first, 1, 2))
    check(drawn, set(range(62)), {1} | set(range(2, 62, 3)) | set(range(4, 62, 3)))


def test_mapped_rows_are_drawn_like_those_in_memory(tmp_path: Path) -> None:
    rows = numbered(0, 5, 7)
    write_dataset(tmp_path / "d.safetensors", Dataset(rows, "E", "", 0))
    drawn, mapped = replay(), replay()
    drawn.extend(rows)
    mapped.extend(read_dataset(tmp_path / "d.safetensors").transitions)
    for each in (drawn, mapped):
        each.extend(numbered(12, 3))
    check(mapped, set(range(15)), {4, 11, 14})
    pair = [each.sample(64, torch.Generator().manual_seed(3), transitions=True) for each in (drawn, mapped)]
    assert all(torch.equal(getattr(pair[0], name), getattr(pair[1], name)) for name in vars(pair[0]))


def test_statistics_are_those_of_the_newest_frame_whatever_the_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = (np.random.default_rng(0).standard_normal((1000, 6)) * 3 + 100).astype(np.float32)
    monkeypatch.setattr("distill.datasets.replay._BLOCK", 128)
    fitted = Normaliser.fit(rows, 3)
    newest = rows[:, 4:].astype(np.float64)
    assert np.allclose(fitted.mean, newest.mean(axis=0), rtol=1e-6)
    assert np.allclose(fitted.scale, newest.std(axis=0) + 1e-3, rtol=1e-6)


def test_a_dataset_in_memory_is_not_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("distill.datasets.replay._BLOCK", 2**15)
    tracemalloc.start()
    try:
        rows = numbered(0, *[1000] * 200)
        held = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        normaliser = Normaliser.fit(rows.observations, 1)
        drawn = Replay(normaliser, 1, LOW, HIGH)
        drawn.extend(rows)
        generator = torch.Generator().manual_seed(0)
        for _ in range(20):
            drawn.sample(256, generator, transitions=True)
        more = tracemalloc.get_traced_memory()[1] - held
    finally:
        tracemalloc.stop()
    assert held > 200_000 * 30
    # one block of float64 statistics; a copy of any array would show
    assert more < 0.4 * held


def test_joining_parts_lets_go_of_them() -> None:
    tracemalloc.start()
    try:
        parts = [numbered(0, *[1000] * 10) for _ in range(30)]
        held = tracemalloc.get_traced_memory()[0]
        whole = join(parts)
        after = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert len(whole) == 300_000
    assert parts == []
    assert after < 1.05 * held
