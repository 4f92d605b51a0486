"""The flat file: round trip, mapping, and everything that must be refused."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from distill.datasets.dataset import (
    Dataset,
    available_memory_bytes,
    flat_layout,
    flat_metadata,
    read_dataset,
    write_dataset,
    write_flat,
)
from distill.datasets.transitions import FIELDS, Transitions
from distill.environment import EnvironmentFacts
from distill.errors import DistillError
from export.tensor_file import TensorFile


def transitions(*lengths: int, width: int = 4, actions: int = 2) -> Transitions:
    """Random whole episodes of the given lengths."""
    generator = np.random.default_rng(0)
    rows = lambda *shape: generator.standard_normal(shape).astype(np.float32)  # noqa: E731
    count = sum(lengths)
    terminated = np.zeros(count, np.uint8)
    if lengths:
        terminated[np.cumsum(lengths) - 1] = 1
    return Transitions(
        rows(count, width),
        rows(count, actions),
        rows(count, actions),
        rows(count),
        terminated,
        np.zeros(count, np.uint8),
        rows(len(lengths), width),
        np.array(lengths, np.uint32),
    )


def equal(a: Transitions, b: Transitions) -> bool:
    return all(np.array_equal(getattr(a, name), getattr(b, name)) for name in FIELDS)


def test_round_trip_and_same_bytes(tmp_path: Path) -> None:
    dataset = Dataset(transitions(7, 3), "Somewhere-v0", "ab" * 32, 7)
    write_dataset(tmp_path / "a.safetensors", dataset)
    write_dataset(tmp_path / "b.safetensors", dataset)
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    again = read_dataset(tmp_path / "a.safetensors")
    assert (again.environment, again.teacher_sha256, again.seed) == ("Somewhere-v0", "ab" * 32, 7)
    assert equal(again.transitions, dataset.transitions)
    assert again.notes == ()


def test_parts_one_by_one_give_the_bytes_of_the_whole(tmp_path: Path) -> None:
    whole = transitions(5, 2, 9)
    write_dataset(tmp_path / "whole.safetensors", Dataset(whole, "E", "ab", 3))
    layout = flat_layout(16, 3, 4, 2, labelled=True)
    write_flat(tmp_path / "parts.safetensors", layout, flat_metadata("E", "ab", 3), whole.episodes())
    assert (tmp_path / "parts.safetensors").read_bytes() == (tmp_path / "whole.safetensors").read_bytes()


def test_the_file_is_mapped_and_cannot_be_written_to(tmp_path: Path) -> None:
    write_dataset(tmp_path / "a.safetensors", Dataset(transitions(7), "E", "0", 0))
    rows = read_dataset(tmp_path / "a.safetensors").transitions
    base = rows.observations
    while isinstance(base.base, np.ndarray):
        base = base.base
    assert isinstance(base, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        rows.observations[0, 0] = 1.0


def test_the_safetensors_library_and_export_read_it(tmp_path: Path) -> None:
    rows = transitions(6, 1)
    write_dataset(tmp_path / "a.safetensors", Dataset(rows, "E", "0", 0))
    file = TensorFile(tmp_path / "a.safetensors", None, "", only=("observations",))
    assert np.array_equal(file.array("observations", (None, 4)), rows.observations)


def test_without_clean_actions_the_executed_ones_are_cloned_and_stored_once(tmp_path: Path) -> None:
    rows = transitions(6)
    unlabelled = Transitions(**{**vars(rows), "teacher_actions": rows.executed_actions})
    write_dataset(tmp_path / "a.safetensors", Dataset(unlabelled, "E", "0", 0))
    again = read_dataset(tmp_path / "a.safetensors")
    assert again.transitions.teacher_actions is again.transitions.executed_actions
    assert "executed ones are cloned" in again.notes[0]


def test_what_follows_a_row_is_the_next_one_or_the_final_observation() -> None:
    rows = transitions(3, 1, 2)
    expected = np.stack(
        [
            rows.observations[1],
            rows.observations[2],
            rows.final_observations[0],
            rows.final_observations[1],
            rows.observations[5],
            rows.final_observations[2],
        ]
    )
    assert np.array_equal(rows.next_observations, expected)
    assert [len(episode) for episode in rows.episodes()] == [3, 1, 2]
    assert len(rows.first(4)) == 4
    assert len(rows.first(0)) == 0
    with pytest.raises(ValueError, match="inside an episode"):
        rows.first(5)


def test_missing_file_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(DistillError, match=r"no such file.*distill collect"):
        read_dataset(tmp_path / "none.safetensors")


@pytest.mark.parametrize("size", [0, 3, 8, 60, 300, -1])
def test_truncated_file_is_refused(tmp_path: Path, size: int) -> None:
    path = tmp_path / "cut.safetensors"
    write_dataset(path, Dataset(transitions(10), "E", "0", 0))
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(DistillError, match=r"cut\.safetensors") as caught:
        read_dataset(path)
    assert "\n" not in str(caught.value)


def with_header(path: Path, change: object) -> None:
    """Replace the header by what `change` makes of it; the tensors stay."""
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    header = change(header) or header
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + length :])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda h: h["rewards"].update(shape=[2**61]), "does not fit"),
        (lambda h: h["rewards"].update(shape=[-10]), r"F32 \[-10\]"),
        (lambda h: h["rewards"].update(data_offsets=[0, 40]), "does not fit"),
        (lambda h: h["rewards"].update(dtype="F64"), "is F64"),
        (lambda h: h["rewards"].update(shape=[5, 2]), r"'rewards' is float32 \(5, 2\), expected float32 \(10\)"),
        (lambda h: h["__metadata__"].update(format="bpd-student"), "expected"),
        (lambda h: h["__metadata__"].update(format_version="1"), "expected"),
        (lambda h: h["__metadata__"].update(seed="-4"), "seed"),
        (lambda h: h["__metadata__"].update(parents="[]"), "parents"),
        (lambda h: [1, 2], "damaged header"),
        (lambda h: {"rewards": 3}, "damaged header"),
    ],
)
def test_damaged_headers_are_refused(tmp_path: Path, change: object, message: str) -> None:
    path = tmp_path / "bad.safetensors"
    write_dataset(path, Dataset(transitions(10), "E", "0", 0))
    with_header(path, change)
    with pytest.raises(DistillError, match=message) as caught:
        read_dataset(path)
    assert "\n" not in str(caught.value)


def test_nan_is_refused_by_name(tmp_path: Path) -> None:
    rows = transitions(5)
    rows.rewards[3] = np.nan
    write_dataset(tmp_path / "nan.safetensors", Dataset(rows, "E", "0", 0))
    with pytest.raises(DistillError, match=r"'rewards' holds nan at index \(3,\)"):
        read_dataset(tmp_path / "nan.safetensors")


def test_flags_and_lengths_are_checked(tmp_path: Path) -> None:
    rows = transitions(5)
    rows.truncated[2] = 7
    write_dataset(tmp_path / "flags.safetensors", Dataset(rows, "E", "0", 0))
    with pytest.raises(DistillError, match="flags other than 0 and 1"):
        read_dataset(tmp_path / "flags.safetensors")
    rows = transitions(5)
    rows.lengths[0] = 4
    write_dataset(tmp_path / "lengths.safetensors", Dataset(rows, "E", "0", 0))
    with pytest.raises(DistillError, match="episodes of 4 rows in all"):
        read_dataset(tmp_path / "lengths.safetensors")


def test_empty_dataset_is_refused_before_it_is_written(tmp_path: Path) -> None:
    with pytest.raises(DistillError, match="no rows"):
        write_dataset(tmp_path / "empty.safetensors", Dataset(transitions(), "E", "0", 0))
    assert not list(tmp_path.iterdir())


def test_failed_write_keeps_the_previous_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "kept.safetensors"
    write_dataset(path, Dataset(transitions(4), "E", "0", 0))
    before = path.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(DistillError, match="No space left"):
        write_dataset(path, Dataset(transitions(9), "E", "0", 0))
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["kept.safetensors"]


def facts_of(bound: float) -> EnvironmentFacts:
    limit = np.full(2, bound, np.float32)
    return EnvironmentFacts(4, 1, -limit, limit, 0.02, ("a",) * 4, ("b",) * 2)


def test_a_dataset_of_another_environment_is_refused() -> None:
    facts = facts_of(9.0)
    Dataset(transitions(3), "module:Here-v1", "", 0).check_environment(Path("d"), "Here-v1", facts)
    Dataset(transitions(3), "", "", 0).check_environment(Path("d"), "Here-v1", facts)
    with pytest.raises(DistillError, match="was collected in 'There-v1', --env is 'Here-v1'"):
        Dataset(transitions(3), "There-v1", "", 0).check_environment(Path("d"), "Here-v1", facts)
    with pytest.raises(DistillError, match="got 5 inputs and 2 actions, the environment has 4 and 2"):
        Dataset(transitions(3, width=5), "Here-v1", "", 0).check_environment(Path("d"), "Here-v1", facts)


@pytest.mark.parametrize("name", ["executed_actions", "teacher_actions"])
def test_actions_that_the_environment_cannot_take_are_refused(name: str) -> None:
    rows = transitions(3, 5)
    for field in ("executed_actions", "teacher_actions"):
        np.clip(getattr(rows, field), -2.0, 2.0, out=getattr(rows, field))
    getattr(rows, name)[6, 1] = 2.0 + 4.0 * 0.9e-3  # rounding, rescaling
    Dataset(rows, "", "", 0).check_environment(Path("d"), "Here-v1", facts_of(2.0))
    for wrong in (2.0 + 4.0 * 1.1e-3, -250.0):
        getattr(rows, name)[6, 1] = wrong
        with pytest.raises(DistillError, match=rf"{name} holds {wrong:g} at index \(6, 1\), expected -2 to 2"):
            Dataset(rows, "", "", 0).check_environment(Path("d"), "Here-v1", facts_of(2.0))


def test_a_state_that_never_moves_is_refused() -> None:
    rows = transitions(3, 5)
    rows.observations[:] = rows.observations[0]
    with pytest.raises(DistillError, match="observations are the same in all 8 rows"):
        Dataset(rows, "", "", 0).check_environment(Path("d"), "Here-v1", facts_of(9.0))
    rows.observations[7, 3] += 1.0
    Dataset(rows, "", "", 0).check_environment(Path("d"), "Here-v1", facts_of(9.0))
    Dataset(transitions(1), "", "", 0).check_environment(Path("d"), "Here-v1", facts_of(9.0))


def test_what_is_neither_file_nor_folder_is_called_by_its_name(tmp_path: Path) -> None:
    with pytest.raises(DistillError, match="/dev/null: is a device, expected a file or a folder"):
        read_dataset(Path("/dev/null"))
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DistillError, match="pipe: is a pipe, expected"):
        read_dataset(tmp_path / "pipe")


def test_available_memory_is_a_share_of_what_the_machine_has() -> None:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert 2**20 < available_memory_bytes() <= total
