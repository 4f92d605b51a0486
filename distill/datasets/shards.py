"""Finished shards of a collection in a folder, so that an interrupted one goes on where it stopped."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

from ..errors import DistillError
from ..result_file import write_json
from .collect import SHARD_EPISODES, Collection
from .dataset import Dataset, read_dataset, write_dataset
from .transitions import Transitions

_MANIFEST = "manifest.json"


class ShardFolder:
    """Context manager; holds the folder for this process alone while it is open."""

    def __init__(self, folder: Path, collection: Collection, configuration: dict[str, Any]) -> None:
        """`configuration` is whatever else decides the bytes: a rerun must bring the same."""
        self.folder, self.collection = folder, collection
        plan = {
            **dataclasses.asdict(collection.spec),
            "episodes": collection.episodes,
            "first_seed": collection.first_seed,
            "exploration_noise": collection.exploration_noise,
            "shard_episodes": SHARD_EPISODES,
        }
        self._manifest: dict[str, Any] = json.loads(json.dumps(configuration | plan, default=str))

    def __enter__(self) -> ShardFolder:
        """Take the folder; empty it of what is not finished.

        Raises:
            DistillError: another process holds it, it was begun with other options, or it cannot be written.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock = (self.folder / "lock").open("w")
        except OSError as error:
            raise DistillError(f"cannot write {self.folder}: {error.strerror}; choose another --out") from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.close()
            raise DistillError(
                f"collect: another process is collecting into {self.folder.parent}; wait for it, or choose "
                "another --out"
            ) from None
        try:
            self._continue()
        except BaseException:
            self._lock.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None and self.folder.is_dir() and not list(self.folder.glob("shard_*.safetensors")):
            self.remove()  # nothing to go on with: what is asked for next may differ
        self._lock.close()

    def _continue(self) -> None:
        manifest = self.folder / _MANIFEST
        with contextlib.suppress(FileNotFoundError, ValueError):
            found = json.loads(manifest.read_text())
            if found != self._manifest:
                keys = sorted(found.keys() | self._manifest.keys()) if isinstance(found, dict) else []
                changed = [
                    f"{key} {found.get(key)!r}, now {self._manifest.get(key)!r}"
                    for key in keys
                    if found.get(key) != self._manifest.get(key)
                ]
                raise DistillError(
                    f"collect: {self.folder} was begun with other options ({'; '.join(changed) or 'unreadable'}); give "
                    f"the same ones to go on, or delete {self.folder} to start over"
                )
        for leftover in self.folder.glob(".*.part"):
            leftover.unlink(missing_ok=True)
        write_json(manifest, self._manifest)

    def path(self, shard: int) -> Path:
        """The file of one shard."""
        return self.folder / f"shard_{shard:06d}.safetensors"

    def unfinished(self) -> list[int]:
        """Shards that are still to be played; what is there but damaged counts as not played."""
        missing = []
        for shard in range(self.collection.shards):
            try:
                self.read(shard)
            except DistillError:
                missing.append(shard)
        return missing

    def read(self, shard: int) -> Transitions:
        """One finished shard, mapped.

        Raises:
            DistillError: it is missing or damaged.
        """
        return read_dataset(self.path(shard)).transitions

    def parts(self) -> Iterator[Transitions]:
        """All shards in order."""
        return (self.read(shard) for shard in range(self.collection.shards))

    def remove(self) -> None:
        """Delete the folder once its content lives elsewhere."""
        shutil.rmtree(self.folder)


def write_shard(folder: Path, shard: int, rows: Transitions) -> None:
    """Keep one finished shard, whole or not at all."""
    write_dataset(folder / f"shard_{shard:06d}.safetensors", Dataset(rows, "", "", shard))
