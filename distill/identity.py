"""What makes a run what it is: its teacher, environment, dataset and options, whatever the files are called."""

from __future__ import annotations

import hashlib
import json
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from .config import ShrinkConfig, SourceConfig
from .datasets.dataset import read_dataset
from .source import read_source
from .train_options import recorded_options

_ROOM = Path(__file__).resolve().parent


class Identities:
    """Identities of many runs; looks into each teacher and dataset once."""

    def __init__(self) -> None:
        self._sources: dict[tuple[Any, ...], dict[str, Any]] = {}
        self._datasets: dict[Path, str] = {}

    def source(self, config: SourceConfig) -> dict[str, Any]:
        """{teacher: sha256 of all its files, environment: what makes it again}.

        Raises:
            DistillError: as `read_source`.
        """
        key = (
            *(config.teacher, config.vecnormalize, config.activation),
            *(config.env, config.env_kwargs, config.wrapper, config.frame_stack),
        )
        if key not in self._sources:
            spec, _, teacher = read_source(config, say_notes=False)
            self._sources[key] = {"teacher": teacher.sha256, "environment": spec.record()}
        return self._sources[key]

    def run(self, config: ShrinkConfig) -> dict[str, Any]:
        """A training run's: its source, the options a student records, and the rows it is given, as JSON values.

        Raises:
            DistillError: as `read_source` and `read_dataset`.
            ExportError: the student to begin with cannot be read.
        """
        dataset = None if config.dataset is None else self._dataset(config.dataset, config.out)
        return as_json({**self.source(config), "options": recorded_options(config), "dataset": dataset})

    def _dataset(self, path: Path, cache: Path) -> str:
        if path not in self._datasets:
            self._datasets[path] = read_dataset(path, cache=cache).digest()
        return self._datasets[path]


def as_json(record: dict[str, Any]) -> dict[str, Any]:
    """`record` as it is read back from a file: tuples are lists."""
    read: dict[str, Any] = json.loads(json.dumps(record))
    return read


def digest(record: dict[str, Any]) -> str:
    """A name for a record: 12 hexadecimal digits."""
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()[:12]


@cache
def sources(part: str = "", *, without: tuple[str, ...] = ()) -> str:
    """Which code computes: the package's version and a digest of this room's sources as they were first asked for.

    `part`: a folder of the room, where nothing else decides what comes out; `without` these of its files.
    """
    hashed = hashlib.sha256()
    for path in sorted(path for path in (_ROOM / part).rglob("*.py") if path.name not in without):
        hashed.update(f"{path.relative_to(_ROOM)}\n".encode() + path.read_bytes())
    return f"{version('bayesian-policy-distillation')} {hashed.hexdigest()[:12]}"
