"""Minari datasets: ours opened by Minari, others' opened here, and hostile files refused in one line."""

import json
import os
import signal
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from distill.datasets.dataset import read_dataset
from distill.datasets.hdf5_stream import Hdf5Stream
from distill.datasets.transitions import FIELDS, Transitions, join
from distill.datasets.write_minari import Origin, dataset_id, replaceable, write_minari
from distill.environment import EnvironmentSpec
from distill.errors import DistillError

PENDULUM = EnvironmentSpec("Pendulum-v1", {"g": 9.0})
BOX = {"type": "Box", "dtype": "float64", "low": [-1.0] * 3, "high": [1.0] * 3, "shape": [3]}


def sway(observations: np.ndarray) -> np.ndarray:
    return np.sin(observations[:, :1])


def played(*lengths: int) -> Transitions:
    """Random episodes of Pendulum's sizes."""
    generator = np.random.default_rng(1)
    parts = []
    for length in lengths:
        rows = lambda *shape: generator.standard_normal(shape).astype(np.float32)  # noqa: E731
        flags = np.zeros(length, np.uint8)
        truncated = flags.copy()
        truncated[-1] = 1
        parts.append(
            Transitions(
                *(rows(length, 3), rows(length, 1), rows(length, 1), rows(length)),
                *(flags, truncated, rows(1, 3), np.uint32([length])),
            )
        )
    return join(parts)


def written(folder: Path, rows: Transitions) -> Path:
    noise = tuple(0.1 * index for index in range(len(rows.lengths)))
    origin = Origin(PENDULUM, "ab" * 32, 5, 1000, noise)
    assert (
        write_minari(folder / "data", folder / "scratch", iter([rows.first(int(rows.ends[0]) + 1)]), sway, origin) > 0
    )
    assert write_minari(folder / "data", folder / "scratch", iter([rows]), sway, origin) == len(rows)
    return folder


def foreign(folder: Path, edit: Callable[[h5py.File], None] | None = None, **metadata: object) -> Path:
    """What somebody else's recorder leaves: float64, compressed, appendable, no infos, no notes about a teacher."""
    folder.mkdir(parents=True)
    generator = np.random.default_rng(0)
    with h5py.File(folder / "main_data.hdf5", "w", track_order=True) as file:
        for index, length in enumerate((4, 11, 2)):
            group = file.create_group(f"episode_{index}")
            options = {"chunks": True, "compression": "gzip"}
            group.create_dataset(
                "observations", data=generator.standard_normal((length + 1, 3)), maxshape=(None, 3), **options
            )
            group.create_dataset("actions", data=generator.standard_normal((length, 1)), maxshape=(None, 1), **options)
            group.create_dataset("rewards", data=generator.standard_normal(length))
            group.create_dataset("terminations", data=np.arange(length) == length - 1)
            group.create_dataset("truncations", data=np.zeros(length, bool))
        if edit is not None:
            edit(file)
    description = {
        "total_episodes": 3,
        "total_steps": 17,
        "data_format": "hdf5",
        "observation_space": json.dumps(BOX),
        "action_space": json.dumps(BOX | {"shape": [1]}),
        "env_spec": json.dumps({"id": "Pendulum-v1", "entry_point": "os:abort"}),
        "dataset_id": "pendulum/random-v0",
        "minari_version": "0.5.4",
        **metadata,
    }
    (folder / "metadata.json").write_text(json.dumps({k: v for k, v in description.items() if v is not None}))
    return folder


def test_minari_opens_what_is_written(tmp_path: Path) -> None:
    import minari

    rows = played(4, 7, 1)
    dataset = minari.MinariDataset(written(tmp_path / "set", rows) / "data")
    assert (dataset.total_episodes, dataset.total_steps, dataset.id) == (3, 12, "Pendulum-v1/teacher-v0")
    for episode, expected in zip(dataset.iterate_episodes(), rows.episodes(), strict=True):
        assert np.array_equal(episode.observations[:-1], expected.observations)
        assert np.array_equal(episode.observations[-1:], expected.final_observations)
        assert np.array_equal(episode.actions, expected.executed_actions)
        clean = np.concatenate((expected.teacher_actions, sway(expected.final_observations)))
        assert np.array_equal(episode.infos["teacher_action"], clean)
        assert np.array_equal(episode.rewards, expected.rewards)
        assert np.array_equal(episode.truncations, expected.truncated.astype(bool))
        assert episode.terminations.dtype == bool
        assert dataset.observation_space.contains(np.clip(episode.observations[0], -1, 1))
    described = list(dataset.storage.get_episode_metadata(range(3)))
    assert [entry["seed"] for entry in described] == [1000, 1001, 1002]
    assert [entry["exploration_noise"] for entry in described] == [0.0, 0.1, 0.2]
    recovered = dataset.recover_environment()
    assert recovered.spec.id == "Pendulum-v1"
    assert recovered.unwrapped.g == 9.0
    assert [path.name for path in (tmp_path / "set").iterdir()] == ["data"]


def test_minari_lists_it_in_its_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import minari

    rows = played(3, 2)
    written(tmp_path / dataset_id("Pendulum-v1"), rows)
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    assert minari.load_dataset("Pendulum-v1/teacher-v0").total_steps == 5
    assert list(minari.list_local_datasets()) == ["Pendulum-v1/teacher-v0"]
    assert len(read_dataset(Path("Pendulum-v1/teacher-v0")).transitions) == 5
    with pytest.raises(DistillError, match=r"minari download Pendulum-v1/other-v0"):
        read_dataset(Path("Pendulum-v1/other-v0"))


def test_own_round_trip_and_same_bytes(tmp_path: Path) -> None:
    rows = played(4, 7, 1)
    for name in ("a", "b"):
        written(tmp_path / name, rows)
    for name in ("main_data.hdf5", "metadata.json"):
        assert (tmp_path / "a/data" / name).read_bytes() == (tmp_path / "b/data" / name).read_bytes()
    dataset = read_dataset(tmp_path / "a")
    assert (dataset.environment, dataset.teacher_sha256, dataset.seed) == ("Pendulum-v1", "ab" * 32, 5)
    assert dataset.notes == ()
    for name in FIELDS:
        assert np.array_equal(getattr(dataset.transitions, name), getattr(rows, name))
        assert getattr(dataset.transitions, name).dtype == getattr(rows, name).dtype


def test_somebody_elses_dataset(tmp_path: Path) -> None:
    folder = foreign(tmp_path / "set" / "data")
    dataset = read_dataset(folder)
    assert dataset.environment == "Pendulum-v1"
    rows = dataset.transitions
    assert rows.lengths.tolist() == [4, 11, 2]
    with h5py.File(folder / "main_data.hdf5") as file:
        observations = file["episode_1/observations"][:].astype(np.float32)
        assert np.array_equal(rows.observations[4:15], observations[:-1])
        assert np.array_equal(rows.next_observations[4:15], observations[1:])
        assert np.array_equal(rows.executed_actions[4:15], file["episode_1/actions"][:].astype(np.float32))
    assert np.array_equal(np.flatnonzero(rows.terminated), rows.ends)
    assert rows.teacher_actions is rows.executed_actions
    assert "executed ones are cloned" in dataset.notes[0]


@pytest.mark.filterwarnings("ignore::UserWarning")  # Minari asks for authors and links
def test_a_dataset_that_minari_wrote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import minari
    from minari.data_collector import EpisodeBuffer

    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    rows = played(20, 5)
    buffers = [
        EpisodeBuffer(
            observations=np.concatenate((part.observations, part.final_observations)).astype(np.float64),
            actions=part.executed_actions,
            rewards=part.rewards.tolist(),
            terminations=part.terminated.astype(bool).tolist(),
            truncations=part.truncated.astype(bool).tolist(),
            infos={"pi_output": np.zeros((len(part) + 1, 2))},
        )
        for part in rows.episodes()
    ]
    minari.create_dataset_from_buffers("pendulum/sampled-v0", buffers, env="Pendulum-v1", requirements=[])
    dataset = read_dataset(Path("pendulum/sampled-v0"))
    assert dataset.environment == "Pendulum-v1"
    for name in set(FIELDS) - {"teacher_actions"}:
        assert np.array_equal(getattr(dataset.transitions, name), getattr(rows, name))
    assert dataset.transitions.teacher_actions is dataset.transitions.executed_actions


def test_labels_in_some_episodes_only_are_not_used(tmp_path: Path) -> None:
    def edit(file: h5py.File) -> None:
        file.create_dataset("episode_1/infos/teacher_action", data=np.zeros((12, 1)))

    dataset = read_dataset(foreign(tmp_path / "set", edit))
    assert dataset.transitions.teacher_actions is dataset.transitions.executed_actions
    assert dataset.notes[0].startswith("only 1 of 3 episodes")


def test_what_does_not_fit_into_memory_is_mapped(tmp_path: Path) -> None:
    rows = played(40, 7)
    folder = written(tmp_path / "set", rows)
    with pytest.raises(DistillError, match="more than 0% of the available memory"):
        read_dataset(folder, memory_share=1e-12)
    for _ in range(2):  # the second time it finds the copy
        dataset = read_dataset(folder, cache=tmp_path / "cache", memory_share=1e-12)
        (copy,) = (tmp_path / "cache").iterdir()
        assert not dataset.transitions.observations.flags.writeable
        for name in FIELDS:
            assert np.array_equal(getattr(dataset.transitions, name), getattr(rows, name))
        stamp = os.stat(copy).st_mtime_ns
    assert os.stat(copy).st_mtime_ns == stamp
    unlabelled = read_dataset(foreign(tmp_path / "other"), cache=tmp_path / "cache", memory_share=1e-12)
    assert unlabelled.transitions.teacher_actions is unlabelled.transitions.executed_actions
    assert len(unlabelled.notes) == 1


def test_rows_are_allocated_once(tmp_path: Path) -> None:
    rows = played(*[1000] * 120)
    folder = written(tmp_path / "set", rows)
    size = sum(getattr(rows, name).nbytes for name in FIELDS)
    tracemalloc.start()
    try:
        dataset = read_dataset(folder)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(dataset.transitions) == 120_000
    assert size > 2_000_000
    assert peak < 1.6 * size  # with a second copy it would be above 2


def replace(path: str, **options: object) -> Callable[[h5py.File], None]:
    """An edit that puts another dataset where one was."""

    def edit(file: h5py.File) -> None:
        del file[path]
        file.create_dataset(path, **options)

    return edit


def external_link(file: h5py.File) -> None:
    del file["episode_1/actions"]
    file["episode_1/actions"] = h5py.ExternalLink("/etc/passwd", "/x")


def linked_episode(file: h5py.File) -> None:
    del file["episode_1"]
    file["episode_1"] = h5py.ExternalLink("other.hdf5", "/episode_1")


def soft_link(file: h5py.File) -> None:
    del file["episode_1/actions"]
    file["episode_1/actions"] = h5py.SoftLink("/episode_0/actions")


def virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout(shape=(11, 1), dtype="f4")
    layout[:] = h5py.VirtualSource("elsewhere.hdf5", "x", shape=(11, 1))
    del file["episode_1/actions"]
    file["episode_1"].create_virtual_dataset("actions", layout)


def external_storage(file: h5py.File) -> None:
    del file["episode_1/actions"]
    file["episode_1"].create_dataset("actions", (11, 1), "f4", external=[("/etc/passwd", 0, 44)])


def put(path: str, index: tuple[int, ...], number: float) -> Callable[[h5py.File], None]:
    def edit(file: h5py.File) -> None:
        file[path][index] = number

    return edit


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (put("episode_1/observations", (3, 2), np.nan), r"episode_1/observations holds nan at index \(3, 2\)"),
        (put("episode_1/observations", (11, 0), np.inf), r"holds inf at index \(11, 0\)"),
        (put("episode_1/actions", (3, 0), 1e300), r"actions holds inf at index \(3, 0\)"),
        (put("episode_2/rewards", (1,), -np.inf), "episode_2/rewards holds -inf"),
        (replace("episode_1/actions", data=np.zeros((12, 1))), "observations has 12 rows, expected 13"),
        (replace("episode_1/rewards", data=np.zeros(3)), "rewards has 3 rows, expected 11"),
        (replace("episode_1/rewards", data=np.zeros((11, 2))), r"rewards has shape \(11, 2\), expected \(steps,\)"),
        (
            replace("episode_1/actions", data=np.zeros((11, 2))),
            "episode_1 has 3 inputs and 2 actions, expected 3 and 1",
        ),
        (replace("episode_1/actions", data=np.zeros(11)), r"actions has shape \(11,\), expected \(steps, at most"),
        (replace("episode_1/actions", data=np.zeros((11, 0))), r"shape \(11, 0\)"),
        (replace("episode_1/actions", data=h5py.Empty("f4")), "shape None"),
        (replace("episode_1/actions", shape=(11, 1), dtype=h5py.vlen_dtype(np.float32)), "actions holds object"),
        (replace("episode_1/actions", shape=(11, 1), dtype=h5py.string_dtype()), "actions holds object"),
        (replace("episode_1/actions", shape=(11, 1), dtype=np.complex64), "actions holds complex64"),
        (replace("episode_1/actions", shape=(11, 1), dtype=np.longdouble), "expected numbers of at most 8 bytes"),
        (replace("episode_1/actions", shape=(10**12, 1), dtype="f4", chunks=(1024, 1)), "claims 4000000000000 bytes"),
        (replace("episode_1/actions", shape=(11, 60_000), dtype="f8", chunks=True), "claims 5280000 bytes"),
        (replace("episode_1/terminations", data=np.full(11, 3)), "terminations holds numbers other than 0 and 1"),
        (lambda file: file["episode_1"].__delitem__("actions"), "/episode_1/actions is missing"),
        (lambda file: [file.__delitem__(name) for name in list(file)], "holds no episodes"),
        (lambda file: file.__delitem__("episode_2"), "says total_episodes = 3, main_data.hdf5 holds 2"),
        (
            lambda file: file["episode_1"].__delitem__("actions") or file["episode_1"].create_group("actions"),
            "is a group",
        ),
        (lambda file: file.__delitem__("episode_1") or file.create_dataset("episode_1", data=1.0), "is no group"),
        (external_link, "episode_1/actions is a ExternalLink"),
        (linked_episode, "episode_1 is a ExternalLink"),
        (soft_link, "episode_1/actions is a SoftLink"),
        (virtual, "virtual or external"),
        (external_storage, "virtual or external"),
        (
            lambda file: file.create_dataset("episode_1/infos/teacher_action", data=np.zeros((5, 1))),
            r"infos/teacher_action has shape \(5, 1\), expected \(11, 1\)",
        ),
    ],
)
def test_hostile_data_is_refused_in_one_line(tmp_path: Path, edit: Callable[[h5py.File], None], message: str) -> None:
    with pytest.raises(DistillError, match=message) as caught:
        read_dataset(foreign(tmp_path / "set", edit))
    assert "\n" not in str(caught.value)
    assert str(tmp_path / "set") in str(caught.value)


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"observation_space": json.dumps({"type": "Dict", "subspaces": {}})}, "got observation space Dict"),
        ({"observation_space": json.dumps(BOX | {"shape": [84, 84, 3]})}, r"Box of shape \[84, 84, 3\]"),
        ({"action_space": json.dumps({"type": "Discrete", "n": 4})}, "got action space Discrete"),
        ({"observation_space": "{"}, "'observation_space' is no JSON object"),
        ({"observation_space": json.dumps(BOX | {"shape": [7]})}, "has 3 inputs and 1 actions, expected 7 and 1"),
        ({"env_spec": "[]"}, "'env_spec' is no JSON object"),
        ({"total_steps": 18}, "says total_steps = 18"),
        ({"data_format": "arrow"}, "got data format 'arrow'"),
    ],
)
def test_metadata_that_cannot_serve(tmp_path: Path, metadata: dict, message: str) -> None:
    folder = foreign(tmp_path / "set", **metadata)
    if metadata.get("data_format") == "arrow":
        (folder / "main_data.hdf5").unlink()
    with pytest.raises(DistillError, match=message) as caught:
        read_dataset(folder)
    assert "\n" not in str(caught.value)


def test_metadata_may_leave_the_spaces_to_the_environment(tmp_path: Path) -> None:
    folder = foreign(tmp_path / "set", observation_space=None, action_space=None, env_spec=None, total_steps=None)
    dataset = read_dataset(folder)
    assert dataset.environment == ""
    assert dataset.transitions.observations.shape == (17, 3)


@pytest.mark.parametrize("keep", [0.0, 0.3, 0.7, 0.98])
def test_truncated_hdf5_is_refused(tmp_path: Path, keep: float) -> None:
    folder = foreign(tmp_path / "set")
    data = (folder / "main_data.hdf5").read_bytes()
    (folder / "main_data.hdf5").write_bytes(data[: int(keep * len(data))])
    with pytest.raises(DistillError, match=r"main_data\.hdf5: not a readable HDF5 file") as caught:
        read_dataset(folder)
    assert "\n" not in str(caught.value)


def test_flipped_bytes_are_refused_or_harmless(tmp_path: Path) -> None:
    folder = foreign(tmp_path / "set")
    path = folder / "main_data.hdf5"
    data = path.read_bytes()
    generator = np.random.default_rng(0)
    refused = harmless = 0
    for _ in range(60):
        damaged = bytearray(data)
        for place in generator.integers(0, len(data), 40):
            damaged[place] = int(generator.integers(0, 256))
        path.write_bytes(damaged)
        try:
            rows = read_dataset(folder).transitions
        except DistillError as error:
            refused += "\n" not in str(error)
        else:
            harmless += bool(np.isfinite(rows.observations).all())
    assert refused + harmless == 60
    assert refused > 0


def test_folders_and_files_that_are_no_dataset(tmp_path: Path) -> None:
    with pytest.raises(DistillError, match=r"is no Minari dataset.*distill collect"):
        read_dataset(tmp_path)
    folder = foreign(tmp_path / "set")
    with pytest.raises(DistillError, match="name the folder that holds it"):
        read_dataset(folder / "main_data.hdf5")
    (folder / "metadata.json").write_text("[1")
    with pytest.raises(DistillError, match="not JSON"):
        read_dataset(folder)


def test_failed_write_keeps_the_previous_dataset(tmp_path: Path) -> None:
    rows = played(4, 7)
    folder = written(tmp_path / "set", rows)
    before = (folder / "data/main_data.hdf5").read_bytes()

    def parts() -> object:
        yield rows
        raise OSError(28, "No space left on device")

    origin = Origin(PENDULUM, "", 0, 0, (0.0,) * 4)
    with pytest.raises(DistillError, match=r"No space left on device; an earlier dataset there is unchanged"):
        write_minari(folder / "data", folder / "scratch", parts(), sway, origin)
    assert (folder / "data/main_data.hdf5").read_bytes() == before
    assert [path.name for path in folder.iterdir()] == ["data"]


def test_a_folder_with_something_else_is_not_replaced(tmp_path: Path) -> None:
    replaceable(tmp_path / "none")
    replaceable(written(tmp_path / "set", played(2)) / "data")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "thesis.tex").write_text("years of work")
    with pytest.raises(DistillError, match=r"holds thesis\.tex"):
        replaceable(tmp_path / "data")


def test_a_disk_that_fills_at_any_point_ends_in_one_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = played(4, 7, 30)
    origin = Origin(PENDULUM, "", 0, 0, (0.0,) * 4)
    pwrite = os.pwrite
    calls, room = 0, 10**9

    def filling(descriptor: int, data: memoryview, offset: int) -> int:
        nonlocal calls, room
        calls += 1
        if room <= 0:
            raise OSError(28, "No space left on device")
        part = data[: max(1, room)]  # as a disk does: what still fits is written
        room -= len(part)
        return pwrite(descriptor, part, offset)

    monkeypatch.setattr("os.pwrite", filling)
    whole = tmp_path / "whole"
    write_minari(whole / "data", whole / "scratch", [rows], sway, origin)
    size = (whole / "data/main_data.hdf5").stat().st_size
    assert calls > 30  # HDF5 does write through here
    for share in range(20):
        room = size * share // 20
        with pytest.raises(DistillError, match=r"cannot write .*: No space left on device"):
            write_minari(tmp_path / "set/data", tmp_path / "set/scratch", [rows], sway, origin)
        assert list((tmp_path / "set").iterdir()) == []
    room = 10**9
    write_minari(tmp_path / "set/data", tmp_path / "set/scratch", [rows], sway, origin)
    assert (tmp_path / "set/data/main_data.hdf5").read_bytes() == (whole / "data/main_data.hdf5").read_bytes()


def test_what_could_not_be_written_is_still_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Hdf5Stream(tmp_path / "file") as stream:
        stream.write(b"0123456789")
        stream.check()

        def full(*_: object) -> int:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patched:
            patched.setattr("os.pwrite", full)
            stream.seek(8)
            stream.write(b"abcd")
            stream.seek(9)
            stream.write(b"X")
        stream.seek(6)
        assert stream.read(8) == b"67aXcd\0\0"
        assert stream.seek(0, os.SEEK_END) == 12
        for _ in range(2):
            with pytest.raises(OSError, match="No space left"):
                stream.check()
    assert (tmp_path / "file").read_bytes() == b"0123456789"


def test_an_interrupt_waits_until_hdf5_is_not_being_called(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT)
    with Hdf5Stream(tmp_path / "file") as stream:
        signal.raise_signal(signal.SIGINT)
        assert stream.write(b"kept") == 4
        with pytest.raises(KeyboardInterrupt):
            stream.check()
    assert signal.getsignal(signal.SIGINT) is before
    assert (tmp_path / "file").read_bytes() == b"kept"
