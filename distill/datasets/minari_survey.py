"""Look through a Minari HDF5 file before anything is read: sizes, kinds of numbers, and that nothing lies elsewhere."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import DistillError

if TYPE_CHECKING:
    import h5py

DATA_FILE, METADATA_FILE = "main_data.hdf5", "metadata.json"
TEACHER_ACTION = "teacher_action"
_LARGEST_CHUNK = 256 * 2**20  # bytes; a chunk is decompressed as a whole
_LARGEST_SIZE = 65_536  # numbers in one observation or action
_LARGEST_RATIO = 2_000  # of the size in memory to the stored one; deflate reaches 1032


@dataclass(frozen=True)
class StoredEpisode:
    """One episode's group and sizes; `labelled` where it holds a teacher's clean actions."""

    name: str
    rows: int
    observation_size: int
    action_size: int
    labelled: bool


def survey(folder: Path, file: h5py.File, metadata: dict[str, Any], sizes: list[int | None]) -> list[StoredEpisode]:
    """Sizes of all episodes, checked against each other and the metadata.

    Raises:
        DistillError: names what is damaged, hostile or of a kind that cannot be used.
    """
    numbers = {int(found[1]): name for name in file if (found := re.fullmatch(r"episode_(0|[1-9]\d{0,8})", name))}
    episodes = [_episode(folder, file, numbers[number]) for number in sorted(numbers)]
    if not episodes:
        raise DistillError(f"dataset {folder}: holds no episodes, expected at least one; collect it anew")
    totals = {"total_episodes": len(episodes), "total_steps": sum(episode.rows for episode in episodes)}
    for key, held in totals.items():
        if metadata.get(key, held) != held:
            raise DistillError(
                f"dataset {folder}: {METADATA_FILE} says {key} = {metadata[key]}, {DATA_FILE} holds {held}; "
                "it was cut short, get it anew"
            )
    for episode in episodes:
        got = episode.observation_size, episode.action_size
        expected = sizes[0] or episodes[0].observation_size, sizes[1] or episodes[0].action_size
        if got != expected:
            raise DistillError(
                f"dataset {folder}: {episode.name} has {got[0]} inputs and {got[1]} actions, expected {expected[0]} "
                f"and {expected[1]}; it is damaged, get it anew"
            )
    return episodes


def _episode(folder: Path, file: h5py.File, name: str) -> StoredEpisode:
    group = _member(folder, file, name)
    actions = _numbers(folder, group, "actions", 2, "fiu")
    rows = actions[0]
    observations = _numbers(folder, group, "observations", 2, "fiu")
    expected = {"observations": rows + 1, "rewards": rows, "terminations": rows, "truncations": rows}
    scalars = {key: _numbers(folder, group, key, 1, "fiub") for key in ("rewards", "terminations", "truncations")}
    for key, shape in {"observations": observations, **scalars}.items():
        if shape[0] != expected[key]:
            raise DistillError(
                f"dataset {folder}: {name}/{key} has {shape[0]} rows, expected {expected[key]}; it is damaged, "
                "get it anew"
            )
    if rows == 0:
        raise DistillError(f"dataset {folder}: {name} holds no steps, expected at least one; remove it with Minari")
    labelled = False
    if "infos" in group and TEACHER_ACTION in (infos := _member(folder, group, "infos")):
        clean = _numbers(folder, infos, TEACHER_ACTION, 2, "fiu")
        if clean[0] not in (rows, rows + 1) or clean[1] != actions[1]:
            raise DistillError(
                f"dataset {folder}: {name}/infos/{TEACHER_ACTION} has shape {clean}, expected {actions}; "
                "it is damaged, get it anew"
            )
        labelled = True
    return StoredEpisode(name, rows, observations[1], actions[1], labelled)


def _member(folder: Path, group: Any, name: str) -> Any:
    """A group or dataset that lies in this very file: no link that leads elsewhere is followed."""
    import h5py

    link = group.get(name, getlink=True)
    if link is None:
        raise DistillError(f"dataset {folder}: {group.name}/{name} is missing; it is damaged, get it anew")
    if not isinstance(link, h5py.HardLink):
        raise DistillError(
            f"dataset {folder}: {group.name}/{name} is a {type(link).__name__}, expected data inside the file; copy "
            "what it points to into it"
        )
    return group[name]


def _numbers(folder: Path, group: Any, name: str, dimensions: int, kinds: str) -> tuple[int, ...]:
    """Shape of a dataset of plain numbers whose claimed size the file can really hold."""
    import h5py

    if not isinstance(group, h5py.Group):
        raise DistillError(f"dataset {folder}: {group.name} is no group, expected one; it is damaged, get it anew")
    dataset = _member(folder, group, name)
    if isinstance(dataset, h5py.Group):
        raise DistillError(
            f"dataset {folder}: {dataset.name} is a group (a Dict or Tuple space), expected one array; choose another"
        )
    if not isinstance(dataset, h5py.Dataset) or dataset.is_virtual or dataset.external:
        raise DistillError(
            f"dataset {folder}: {group.name}/{name} takes its data from elsewhere (virtual or external), expected "
            "numbers inside the file; copy them into it"
        )
    shape, kind = dataset.shape, dataset.dtype
    if kind.kind not in kinds or kind.itemsize > 8:
        raise DistillError(
            f"dataset {folder}: {dataset.name} holds {kind}, expected numbers of at most 8 bytes; choose another"
        )
    if shape is None or len(shape) != dimensions or (dimensions == 2 and not 0 < shape[1] <= _LARGEST_SIZE):
        expected = f"(steps, at most {_LARGEST_SIZE})" if dimensions == 2 else "(steps,)"
        raise DistillError(f"dataset {folder}: {dataset.name} has shape {shape}, expected {expected}; choose another")
    claimed, stored, chunks = math.prod(shape) * kind.itemsize, dataset.id.get_storage_size(), dataset.chunks
    chunk = math.prod(chunks) * kind.itemsize if chunks else 0
    if claimed > _LARGEST_RATIO * stored + 65_536 or chunk > _LARGEST_CHUNK:
        raise DistillError(
            f"dataset {folder}: {dataset.name} claims {claimed} bytes in chunks of {chunk} but stores {stored}; "
            "it is damaged, get it anew"
        )
    return tuple(shape)
