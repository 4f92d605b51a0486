"""Datasets: the flat file (docs/formats.md) written and mapped, and `read_dataset`, which tells the formats apart."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..environment import EnvironmentFacts
from ..errors import DistillError
from ..file_kind import no_file
from .credible import check_bounds, check_finite, check_moving
from .mapped_tensors import Layout, TensorWriter, map_tensors
from .transitions import EPISODE_FIELDS, FIELDS, Transitions

FORMAT, FORMAT_VERSION = "bpd-dataset", "2"
UNLABELLED = "no clean action of a teacher for every transition, so the executed ones are cloned, noise included"
_NEXT_STEP = "make one with: python -m distill collect"
_BLOCK = 65_536  # rows copied at a time
_HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"


@dataclass(frozen=True)
class Dataset:
    """Transitions and where they come from."""

    transitions: Transitions
    environment: str  # Gymnasium id, with its module where one registers it; empty where the file names none
    teacher_sha256: str
    seed: int
    notes: tuple[str, ...] = ()  # what a person must know of it, one line each

    def digest(self) -> str:
        """sha256 of all rows: the same for the same transitions, whatever file they come from."""
        digest = hashlib.sha256()
        for name in FIELDS:
            array = getattr(self.transitions, name)
            for start in range(0, len(array), _BLOCK):
                digest.update(array[start : start + _BLOCK].tobytes())
        return digest.hexdigest()

    def check_environment(self, path: Path, environment: str, facts: EnvironmentFacts) -> None:
        """Refuse a dataset that belongs to another environment; ids are compared without their module.

        Raises:
            DistillError: another id, other sizes, actions beyond the bounds, or one observation throughout.
        """
        if self.environment and self.environment.rpartition(":")[2] != environment.rpartition(":")[2]:
            raise DistillError(
                f"dataset {path}: was collected in {self.environment!r}, --env is {environment!r}; "
                "collect one there or name its environment"
            )
        width = self.transitions.observations.shape[1], self.transitions.executed_actions.shape[1]
        if width != (facts.observation_size, len(facts.action_low)):
            raise DistillError(
                f"dataset {path}: got {width[0]} inputs and {width[1]} actions, the environment has "
                f"{facts.observation_size} and {len(facts.action_low)}; check --env-kwargs"
            )
        for name in ("executed_actions", "teacher_actions"):
            check_bounds(f"dataset {path}: {name}", getattr(self.transitions, name), facts)
        check_moving(f"dataset {path}: observations", self.transitions.observations)


def flat_layout(rows: int, episodes: int, observation_size: int, action_size: int, *, labelled: bool) -> Layout:
    """Tensors of the flat file; without labels (a teacher's clean actions) that tensor is left out."""
    layout: Layout = {
        "observations": ((rows, observation_size), "float32"),
        "executed_actions": ((rows, action_size), "float32"),
        "teacher_actions": ((rows, action_size), "float32"),
        "rewards": ((rows,), "float32"),
        "terminated": ((rows,), "uint8"),
        "truncated": ((rows,), "uint8"),
        "final_observations": ((episodes, observation_size), "float32"),
        "lengths": ((episodes,), "uint32"),
    }
    if not labelled:
        del layout["teacher_actions"]
    return layout


def flat_metadata(environment: str, teacher_sha256: str, seed: int) -> dict[str, str]:
    """Strings of the flat file."""
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "environment": environment,
        "parents": json.dumps({"teacher": teacher_sha256}),
        "seed": str(seed),
    }


def write_flat(path: Path, layout: Layout, metadata: dict[str, str], parts: Iterable[Transitions]) -> None:
    """Write `parts` one behind the other, whole or not at all; only one of them need be in memory.

    Raises:
        DistillError: the file cannot be written.
        ValueError: the parts do not fill the layout.
    """
    rows = episodes = 0
    with TensorWriter(path, layout, metadata) as writer:
        for part in parts:
            for name in layout:
                array, start = getattr(part, name), episodes if name in EPISODE_FIELDS else rows
                for first in range(0, len(array), _BLOCK):
                    writer.put(name, start + first, array[first : first + _BLOCK])
            rows, episodes = rows + len(part), episodes + len(part.lengths)
        if (rows, episodes) != (layout["rewards"][0][0], layout["lengths"][0][0]):
            raise ValueError(f"flat dataset: got {rows} rows in {episodes} episodes, the layout holds {layout}")


def write_dataset(path: Path, dataset: Dataset) -> None:
    """Write the flat file whole or not at all; the same rows give the same bytes.

    Raises:
        DistillError: no rows, or the file cannot be written.
    """
    rows = dataset.transitions
    if len(rows) == 0:
        raise DistillError(f"dataset {path}: got no rows, expected at least one transition; collect more episodes")
    layout = flat_layout(
        len(rows),
        len(rows.lengths),
        rows.observations.shape[1],
        rows.executed_actions.shape[1],
        labelled=rows.teacher_actions is not rows.executed_actions,
    )
    write_flat(path, layout, flat_metadata(dataset.environment, dataset.teacher_sha256, dataset.seed), [rows])


def read_dataset(path: Path, *, cache: Path | None = None, memory_share: float = 0.5) -> Dataset:
    """Read a dataset: a flat file, a Minari folder, or the id of a Minari dataset in the local cache.

    Args:
        path: what it is is seen there: a file is a flat one, a folder is Minari's, anything else is an id.
        cache: folder for the flat copy of a Minari dataset that does not fit into memory.
        memory_share: largest share of the available memory that a Minari dataset may take.

    Raises:
        DistillError: missing, damaged or hostile files, another format, no rows, or non-finite numbers.
    """
    if path.is_file():
        return _read_flat(path)
    from .minari_dataset import local_minari, minari_folder, read_minari

    if path.is_dir():
        return read_minari(minari_folder(path), cache, memory_share)
    if path.exists():
        raise DistillError(f"dataset {path}: {no_file(path)}, expected a file or a folder; {_NEXT_STEP}")
    found = local_minari(str(path))
    if found is None:
        looks_like_id = re.fullmatch(r"[-_\w/]+-v\d+", str(path)) is not None and not path.is_absolute()
        advice = f"or get it with: minari download {path}" if looks_like_id else "or name a Minari folder or id"
        raise DistillError(f"dataset {path}: no such file, folder or local Minari dataset; {_NEXT_STEP}, {advice}")
    return read_minari(found, cache, memory_share)


def _read_flat(path: Path) -> Dataset:
    """Map the flat file and check every number in it."""

    def refused(what: str) -> DistillError:
        return DistillError(f"dataset {path}: {what}; {_NEXT_STEP}")

    with path.open("rb") as stream:
        if stream.read(len(_HDF5_SIGNATURE)) == _HDF5_SIGNATURE:
            raise DistillError(f"dataset {path}: is one file of a Minari dataset; name the folder that holds it")
    metadata, tensors = map_tensors(path)
    found = metadata.get("format"), metadata.get("format_version")
    if found != (FORMAT, FORMAT_VERSION):
        raise refused(f"format and version are {found}, expected {(FORMAT, FORMAT_VERSION)}")

    def array(name: str, shape: tuple[int | None, ...], kind: str = "float32") -> NDArray[Any]:
        tensor = tensors.get(name)
        if tensor is None:
            raise refused(f"tensor {name!r} is missing")
        fits = len(shape) == tensor.ndim and all(
            got > 0 if wanted is None else got == wanted for got, wanted in zip(tensor.shape, shape, strict=True)
        )
        if tensor.dtype != kind or not fits:
            wanted_text = "(" + ", ".join("n" if size is None else str(size) for size in shape) + ")"
            raise refused(f"tensor {name!r} is {tensor.dtype} {tensor.shape}, expected {kind} {wanted_text}")
        check_finite(f"dataset {path}: tensor {name!r}", tensor)
        return tensor

    observations = array("observations", (None, None))
    count, width = observations.shape
    executed = array("executed_actions", (count, None))
    labelled = "teacher_actions" in tensors
    lengths = array("lengths", (None,), "uint32")
    total = int(lengths.sum(dtype=np.int64))
    if total != count or not lengths.all():
        raise refused(f"episodes of {total} rows in all, the shortest of {lengths.min()}, expected {count} rows")
    transitions = Transitions(
        observations=observations,
        executed_actions=executed,
        teacher_actions=array("teacher_actions", executed.shape) if labelled else executed,
        rewards=array("rewards", (count,)),
        terminated=array("terminated", (count,), "uint8"),
        truncated=array("truncated", (count,), "uint8"),
        final_observations=array("final_observations", (len(lengths), width)),
        lengths=lengths,
    )
    if max(int(transitions.terminated.max()), int(transitions.truncated.max())) > 1:
        raise refused("flags other than 0 and 1")
    try:
        parents, seed = json.loads(metadata.get("parents", "{}")), int(metadata.get("seed", "0"))
    except (ValueError, RecursionError):
        parents, seed = None, -1
    if not isinstance(parents, dict) or not 0 <= seed < 2**63:
        raise refused("metadata 'parents' or 'seed' is damaged, expected a JSON object and a number")
    notes = () if labelled else (UNLABELLED,)
    return Dataset(transitions, metadata.get("environment", ""), str(parents.get("teacher", "")), seed, notes)


def available_memory_bytes() -> int:
    """Memory that can be had without swapping, within the limit of the process's control group."""
    meminfo = Path("/proc/meminfo")
    if meminfo.is_file():
        found = re.search(r"^MemAvailable:\s+(\d+) kB", meminfo.read_text(), re.MULTILINE)
        available = int(found[1]) * 1024 if found else 0
    else:
        available = 0
    if not available:
        available = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit, used = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")
    if limit.is_file() and used.is_file() and (text := limit.read_text().strip()).isdigit():
        available = min(available, max(0, int(text) - int(used.read_text())))
    return available
