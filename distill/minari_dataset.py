"""Read Minari datasets, also somebody else's: nothing in them is executed, sizes are checked before allocation.

The layout (Minari 0.5): `metadata.json` (spaces, environment spec, counts) and `main_data.hdf5` with one group an
episode: observations (T + 1, n), actions (T, m), rewards, terminations, truncations (T,), and where recorded infos.
This project's sets keep the teacher's clean actions in `infos/teacher_action` (T + 1, m), one an observation.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .dataset import (
    UNLABELLED,
    Dataset,
    available_memory_bytes,
    check_finite,
    flat_layout,
    flat_metadata,
    read_dataset,
    write_flat,
)
from .errors import DistillError
from .transitions import Transitions, fill, reserve

if TYPE_CHECKING:
    import h5py

DATA_FILE, METADATA_FILE = "main_data.hdf5", "metadata.json"
TEACHER_ACTION = "teacher_action"
OWN_METADATA = "bayesian_policy_distillation"  # this project's part of metadata.json
_LARGEST_METADATA = 64 * 2**20  # bytes; the bounds of a large space are written out in it
_LARGEST_CHUNK = 256 * 2**20  # bytes; a chunk is decompressed as a whole
_LARGEST_SIZE = 65_536  # numbers in one observation or action
_LARGEST_RATIO = 2_000  # of the size in memory to the stored one; deflate reaches 1032


@dataclass(frozen=True)
class _Episode:
    name: str
    rows: int
    observation_size: int
    action_size: int
    labelled: bool


def minari_folder(path: Path) -> Path:
    """The folder with the data inside `path`: itself, or its `data` as in Minari's own cache.

    Raises:
        DistillError: neither holds a Minari dataset.
    """
    for folder in (path, path / "data"):
        if (folder / METADATA_FILE).is_file() and (folder / DATA_FILE).is_file():
            return folder
        if (folder / METADATA_FILE).is_file() and _metadata(folder).get("data_format", "hdf5") != "hdf5":
            raise DistillError(
                f"dataset {path}: got data format {_metadata(folder)['data_format']!r}, expected 'hdf5'; convert it "
                "with Minari"
            )
    raise DistillError(
        f"dataset {path}: is no Minari dataset, expected {METADATA_FILE} and {DATA_FILE} in it or in its data folder; "
        "make one with: python -m distill collect"
    )


def local_minari(dataset_id: str) -> Path | None:
    """The folder of a dataset in Minari's local cache; None where there is none of that id."""
    if not re.fullmatch(r"[-_\w]+(/[-_\w]+)*", dataset_id):
        return None
    root = os.environ.get("MINARI_DATASETS_PATH")
    folder = (Path(root) if root else Path.home() / ".minari" / "datasets") / dataset_id / "data"
    return minari_folder(folder) if folder.is_dir() else None


def read_minari(folder: Path, cache: Path | None, memory_share: float) -> Dataset:
    """Read a Minari folder into memory, or where it does not fit, into a flat file under `cache` that is mapped.

    Raises:
        DistillError: damaged or hostile files, spaces other than flat boxes, no rows, non-finite numbers.
    """
    import h5py

    metadata = _metadata(folder)
    own = metadata.get(OWN_METADATA)
    own = own if isinstance(own, dict) else {}
    environment = str(own.get("environment", "")) or _environment_id(folder, metadata)
    sizes = [_box_size(folder, metadata, name) for name in ("observation", "action")]
    teacher, seed = str(own.get("teacher", "")), own.get("seed", 0)
    seed = seed if isinstance(seed, int) and 0 <= seed < 2**63 else 0
    path = folder / DATA_FILE
    try:
        with h5py.File(path, "r") as file:
            episodes = _survey(folder, file, metadata, sizes)
            rows, labelled = sum(episode.rows for episode in episodes), all(episode.labelled for episode in episodes)
            width, actions = episodes[0].observation_size, episodes[0].action_size
            layout = flat_layout(rows, len(episodes), width, actions, labelled=labelled)
            needed = sum(
                int(np.prod(shape, dtype=np.int64)) * np.dtype(kind).itemsize for shape, kind in layout.values()
            )
            parts = _episodes(folder, file, episodes, labelled)
            notes = () if labelled else (UNLABELLED,)
            if needed <= memory_share * available_memory_bytes():
                return Dataset(_loaded(parts, rows, episodes, labelled), environment, teacher, seed, notes)
            if cache is None:
                raise DistillError(
                    f"dataset {folder}: needs {needed} bytes, more than {memory_share:.0%} of the available memory; "
                    "name a folder for its flat copy (--out)"
                )
            status = path.stat()
            key = f"{path.resolve()} {status.st_size} {status.st_mtime_ns} {FLAT_COPY_VERSION}"
            copy = cache / f"minari-{hashlib.sha256(key.encode()).hexdigest()[:16]}.safetensors"
            if not copy.is_file():
                write_flat(copy, layout, flat_metadata(environment, teacher, seed), parts)
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, AttributeError) as error:
        # what HDF5 raises for truncated and damaged files
        raise DistillError(
            f"dataset {path}: not a readable HDF5 file ({' '.join(str(error).split())[:200]}); get it or collect it "
            "anew"
        ) from error
    mapped = read_dataset(copy)
    return Dataset(mapped.transitions, environment, teacher, seed, notes)


FLAT_COPY_VERSION = 1


def _metadata(folder: Path) -> dict[str, Any]:
    path = folder / METADATA_FILE
    if path.stat().st_size > _LARGEST_METADATA:
        raise DistillError(
            f"dataset {path}: got {path.stat().st_size} bytes, expected at most {_LARGEST_METADATA}; get it anew"
        )
    try:
        metadata = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise DistillError(f"dataset {path}: not JSON ({str(error).splitlines()[0]}); get it anew") from error
    if not isinstance(metadata, dict):
        raise DistillError(f"dataset {path}: got a JSON {type(metadata).__name__}, expected an object; get it anew")
    return metadata


def _inner_json(folder: Path, metadata: dict[str, Any], key: str) -> dict[str, Any]:
    """A JSON object that Minari keeps as text inside the JSON; empty where it is left out."""
    value = metadata.get(key)
    try:
        value = json.loads(value) if isinstance(value, str) else value
    except (ValueError, RecursionError):
        value = "damaged"
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise DistillError(f"dataset {folder / METADATA_FILE}: {key!r} is no JSON object; get it anew")
    return value


def _environment_id(folder: Path, metadata: dict[str, Any]) -> str:
    return str(_inner_json(folder, metadata, "env_spec").get("id", ""))


def _box_size(folder: Path, metadata: dict[str, Any], name: str) -> int | None:
    """Size of a one-dimensional Box; None where the metadata leaves the space to the environment."""
    space = _inner_json(folder, metadata, f"{name}_space")
    if not space:
        return None
    shape = space.get("shape")
    if space.get("type") != "Box" or not isinstance(shape, list) or len(shape) != 1 or not isinstance(shape[0], int):
        what = f"{space.get('type')}" + (f" of shape {shape}" if space.get("type") == "Box" else "")
        raise DistillError(
            f"dataset {folder}: got {name} space {what}, expected a one-dimensional Box; Dict, Tuple, discrete and "
            "image spaces have no student, choose another dataset"
        )
    return shape[0]


def _survey(folder: Path, file: h5py.File, metadata: dict[str, Any], sizes: list[int | None]) -> list[_Episode]:
    """Sizes of all episodes, checked against each other and the metadata before anything is read."""
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


def _episode(folder: Path, file: h5py.File, name: str) -> _Episode:
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
    return _Episode(name, rows, observations[1], actions[1], labelled)


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


def _episodes(folder: Path, file: h5py.File, episodes: list[_Episode], labelled: bool) -> Iterator[Transitions]:
    """Read episode by episode into float32, whatever the file holds, and check every number."""
    for episode in episodes:
        group = file[episode.name]
        rows, where = episode.rows, f"dataset {folder}: {episode.name}"
        observations = np.empty((rows + 1, episode.observation_size), np.float32)
        part = reserve(rows, 1, episode.observation_size, episode.action_size)
        with np.errstate(over="ignore"):  # too large for float32 becomes infinite and is refused below
            group["observations"].read_direct(observations)
            group["actions"].read_direct(part.executed_actions)
            group["rewards"].read_direct(part.rewards)
            if labelled:
                group["infos"][TEACHER_ACTION].read_direct(part.teacher_actions, np.s_[:rows])
        check_finite(f"{where}/observations", observations)
        check_finite(f"{where}/actions", part.executed_actions)
        check_finite(f"{where}/rewards", part.rewards)
        if labelled:
            check_finite(f"{where}/infos/{TEACHER_ACTION}", part.teacher_actions)
        for key, target in (("terminations", part.terminated), ("truncations", part.truncated)):
            flags = group[key][:]
            if not np.isin(flags, (0, 1)).all():
                raise DistillError(f"{where}/{key} holds numbers other than 0 and 1; it is damaged, get it anew")
            target[:] = flags
        part.lengths[0] = rows
        part.final_observations[0] = observations[-1]
        yield Transitions(
            observations[:-1],
            part.executed_actions,
            part.teacher_actions if labelled else part.executed_actions,
            part.rewards,
            part.terminated,
            part.truncated,
            part.final_observations,
            part.lengths,
        )


def _loaded(parts: Iterator[Transitions], rows: int, episodes: list[_Episode], labelled: bool) -> Transitions:
    """All episodes in arrays allocated once."""
    whole = reserve(rows, len(episodes), episodes[0].observation_size, episodes[0].action_size)
    if not labelled:
        whole = Transitions(**{**vars(whole), "teacher_actions": whole.executed_actions})
    row = 0
    for index, part in enumerate(parts):
        fill(whole, row, index, part)
        row += len(part)
    return whole
