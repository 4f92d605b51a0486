"""The dataset file: transitions of a teacher as safetensors (docs/formats.md)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from export.errors import FileFormatError
from export.replace_files import replace_files
from export.tensor_file import TensorFile, encode_tensors

from .errors import DistillError
from .rollout import Transitions

FORMAT = "bpd-dataset"
_NEXT_STEP = "make one with: python -m distill collect"


@dataclass(frozen=True)
class Dataset:
    """Transitions and where they come from."""

    transitions: Transitions
    environment: str
    teacher_sha256: str
    seed: int


def write_dataset(path: Path, dataset: Dataset) -> None:
    """Write the file whole or not at all; the same rows give the same bytes."""
    rows = dataset.transitions
    if len(rows) == 0:
        raise DistillError(f"dataset {path}: got no rows, expected at least one transition; collect more episodes")
    tensors = {name: getattr(rows, name) for name in rows.__dataclass_fields__}
    metadata = {
        "format": FORMAT,
        "format_version": "1",
        "environment": dataset.environment,
        "parents": json.dumps({"teacher": dataset.teacher_sha256}),
        "seed": str(dataset.seed),
    }
    replace_files(path.parent, {path.name: encode_tensors(tensors, metadata)})


def read_dataset(path: Path) -> Dataset:
    """Read and validate a dataset file.

    Raises:
        DistillError: missing, truncated, another format, shapes that disagree, no rows, or non-finite numbers.
    """
    try:
        file = TensorFile(path, FORMAT, _NEXT_STEP)
        observations = file.array("observations", (None, None))
        count, width = observations.shape
        actions = file.array("executed_actions", (count, None))
        transitions = Transitions(
            observations=observations,
            executed_actions=actions,
            teacher_actions=file.array("teacher_actions", actions.shape),
            rewards=file.array("rewards", (count,)),
            next_observations=file.array("next_observations", (count, width)),
            terminated=file.array("terminated", (count,), ("uint8",)),
            truncated=file.array("truncated", (count,), ("uint8",)),
        )
        teacher = str(file.json("parents", dict).get("teacher", ""))
        return Dataset(transitions, file.text("environment"), teacher, file.integer("seed", 0, 2**63))
    except FileFormatError as error:
        raise DistillError(f"dataset {error}") from error
