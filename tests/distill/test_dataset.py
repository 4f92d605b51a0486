"""The dataset file: round trip and everything that must be refused."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from distill.dataset import Dataset, read_dataset, write_dataset
from distill.errors import DistillError
from distill.rollout import Transitions


def transitions(count: int) -> Transitions:
    generator = np.random.default_rng(0)
    rows = lambda *shape: generator.standard_normal(shape).astype(np.float32)  # noqa: E731
    flags = np.zeros(count, dtype=np.uint8)
    return Transitions(rows(count, 4), rows(count, 1), rows(count, 1), rows(count), rows(count, 4), flags, flags)


def test_round_trip_and_same_bytes(tmp_path: Path) -> None:
    dataset = Dataset(transitions(10), "Somewhere-v0", "ab" * 32, 7)
    write_dataset(tmp_path / "a.safetensors", dataset)
    write_dataset(tmp_path / "b.safetensors", dataset)
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    again = read_dataset(tmp_path / "a.safetensors")
    assert (again.environment, again.teacher_sha256, again.seed) == ("Somewhere-v0", "ab" * 32, 7)
    for field in dataclasses.fields(Transitions):
        assert np.array_equal(getattr(again.transitions, field.name), getattr(dataset.transitions, field.name))


def test_missing_file_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(DistillError, match=r"no such file.*distill collect"):
        read_dataset(tmp_path / "none.safetensors")


@pytest.mark.parametrize("size", [0, 3, 8, 60, 300])
def test_truncated_file_is_refused(tmp_path: Path, size: int) -> None:
    path = tmp_path / "cut.safetensors"
    write_dataset(path, Dataset(transitions(10), "E", "0", 0))
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(DistillError, match=r"cut\.safetensors"):
        read_dataset(path)


def test_nan_is_refused_by_name(tmp_path: Path) -> None:
    rows = transitions(5)
    rows.rewards[3] = np.nan
    write_dataset(tmp_path / "nan.safetensors", Dataset(rows, "E", "0", 0))
    with pytest.raises(DistillError, match=r"'rewards' holds nan at index \(3,\)"):
        read_dataset(tmp_path / "nan.safetensors")


def test_empty_dataset_is_refused_before_it_is_written(tmp_path: Path) -> None:
    with pytest.raises(DistillError, match="no rows"):
        write_dataset(tmp_path / "empty.safetensors", Dataset(transitions(0), "E", "0", 0))
    assert not list(tmp_path.iterdir())


def test_failed_write_keeps_the_previous_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "kept.safetensors"
    write_dataset(path, Dataset(transitions(4), "E", "0", 0))
    before = path.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(Exception, match="No space left"):
        write_dataset(path, Dataset(transitions(9), "E", "0", 0))
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["kept.safetensors"]
