"""The dataset file: transitions of a teacher as safetensors (docs/formats.md)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import save

from export.replace_files import replace_files

from .errors import DistillError
from .rollout import Transitions

FORMAT = "bpd-dataset"
FORMAT_VERSION = "1"
_FLAGS = ("terminated", "truncated")
_ROWS = ("observations", "executed_actions", "teacher_actions", "rewards", "next_observations")


@dataclass(frozen=True)
class Dataset:
    """Transitions and where they come from."""

    transitions: Transitions
    environment: str
    teacher_sha256: str
    seed: int


def write_dataset(path: Path, dataset: Dataset) -> None:
    """Write the file whole or not at all."""
    rows = dataset.transitions
    tensors = {name: np.ascontiguousarray(getattr(rows, name)) for name in (*_ROWS, *_FLAGS)}
    metadata = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "environment": dataset.environment,
        "parents": json.dumps({"teacher": dataset.teacher_sha256}),
        "seed": str(dataset.seed),
    }
    replace_files(path.parent, {path.name: save(tensors, metadata)})


def read_dataset(path: Path) -> Dataset:
    """Read and validate a dataset file.

    Raises:
        DistillError: missing, truncated, another format, shapes that disagree, no rows, or non-finite numbers.
    """
    from safetensors import safe_open

    hint = "make one with: python -m distill collect"
    if not path.is_file():
        raise DistillError(f"dataset {path}: no such file; {hint}")
    try:
        with safe_open(path, framework="numpy") as stored:
            metadata = stored.metadata() or {}
            tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118  # not a dict
    except (SafetensorError, OSError, ValueError) as error:
        raise DistillError(f"dataset {path}: not a readable safetensors file ({error}); {hint}") from error
    if metadata.get("format") != FORMAT or metadata.get("format_version") != FORMAT_VERSION:
        got = (metadata.get("format"), metadata.get("format_version"))
        raise DistillError(f"dataset {path}: got format {got}, expected {(FORMAT, FORMAT_VERSION)}; {hint}")
    missing = [name for name in (*_ROWS, *_FLAGS) if name not in tensors]
    if missing:
        raise DistillError(f"dataset {path}: tensors {missing} are missing; {hint}")
    count = len(tensors["observations"])
    if count == 0:
        raise DistillError(f"dataset {path}: holds no rows, expected at least one transition; {hint}")
    for name, tensor in tensors.items():
        if len(tensor) != count:
            raise DistillError(f"dataset {path}: {name} has {len(tensor)} rows, observations {count}; {hint}")
        if name in _ROWS and (tensor.dtype != np.float32 or not np.all(np.isfinite(tensor))):
            raise DistillError(f"dataset {path}: {name} must be finite float32 numbers, got {tensor.dtype}; {hint}")
    try:
        teacher = str(json.loads(metadata["parents"])["teacher"])
        seed = int(metadata["seed"])
        environment = metadata["environment"]
    except (KeyError, ValueError, TypeError) as error:
        raise DistillError(f"dataset {path}: metadata is incomplete ({error!r}); {hint}") from error
    columns = {name: tensors[name] for name in (*_ROWS, *_FLAGS)}
    return Dataset(Transitions(**columns), environment, teacher, seed)


def concatenate(parts: list[Transitions]) -> Transitions:
    """Join transitions, oldest first."""
    names = (*_ROWS, *_FLAGS)
    return Transitions(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})
