"""Read Minari datasets, also somebody else's: nothing in them is executed, sizes are checked before allocation.

The layout (Minari 0.5): `metadata.json` (spaces, environment spec, counts) and `main_data.hdf5` with one group an
episode: observations (T + 1, n), actions (T, m), rewards, terminations, truncations (T,), and where recorded infos.
This project's sets keep the teacher's clean actions in `infos/teacher_action` (T + 1, m), one an observation.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import DistillError
from .credible import check_finite
from .dataset import (
    UNLABELLED,
    Dataset,
    available_memory_bytes,
    flat_layout,
    flat_metadata,
    read_dataset,
    write_flat,
)
from .minari_survey import DATA_FILE, METADATA_FILE, TEACHER_ACTION, StoredEpisode, survey
from .transitions import Transitions, fill, reserve

if TYPE_CHECKING:
    import h5py

OWN_METADATA = "bayesian_policy_distillation"  # this project's part of metadata.json
_FLAT_COPY_VERSION = 1  # a change of the flat file makes new copies
_LARGEST_METADATA = 64 * 2**20  # bytes; the bounds of a large space are written out in it


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
            episodes = survey(folder, file, metadata, sizes)
            rows, labelled = sum(episode.rows for episode in episodes), all(episode.labelled for episode in episodes)
            width, actions = episodes[0].observation_size, episodes[0].action_size
            layout = flat_layout(rows, len(episodes), width, actions, labelled=labelled)
            needed = sum(
                int(np.prod(shape, dtype=np.int64)) * np.dtype(kind).itemsize for shape, kind in layout.values()
            )
            parts = _episodes(folder, file, episodes, labelled)
            notes = () if labelled else (UNLABELLED,)
            if (some := sum(episode.labelled for episode in episodes)) and not labelled:
                notes = (
                    f"only {some} of {len(episodes)} episodes hold a teacher's clean actions, they are not used",
                    *notes,
                )
            if needed <= memory_share * available_memory_bytes():
                return Dataset(_loaded(parts, rows, episodes, labelled), environment, teacher, seed, notes)
            if cache is None:
                raise DistillError(
                    f"dataset {folder}: needs {needed} bytes, more than {memory_share:.0%} of the available memory; "
                    "name a folder for its flat copy (--out)"
                )
            status = path.stat()
            key = f"{path.resolve()} {status.st_size} {status.st_mtime_ns} {_FLAT_COPY_VERSION}"
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


def _episodes(folder: Path, file: h5py.File, episodes: list[StoredEpisode], labelled: bool) -> Iterator[Transitions]:
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


def _loaded(parts: Iterator[Transitions], rows: int, episodes: list[StoredEpisode], labelled: bool) -> Transitions:
    """All episodes in arrays allocated once."""
    whole = reserve(rows, len(episodes), episodes[0].observation_size, episodes[0].action_size)
    if not labelled:
        whole = Transitions(**{**vars(whole), "teacher_actions": whole.executed_actions})
    row = 0
    for index, part in enumerate(parts):
        fill(whole, row, index, part)
        row += len(part)
    return whole
