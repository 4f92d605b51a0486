"""A run's state on disk, so that it can be cut off at any moment and go on to the same bytes.

    checkpoint/rows_00000.safetensors ...   what each student-driven round saw, written once
    checkpoint/state.safetensors            tensors and figures at the newest boundary between two rounds

The state is replaced last and counts the rounds, so a cut between two files is harmless.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from export.errors import FileFormatError
from export.replace_files import replace_files
from export.tensor_file import TensorFile, encode_tensors

from .datasets.transitions import FIELDS, Transitions, from_arrays
from .errors import DistillError

_FORMAT = "bpd-checkpoint"
_STATE = "state.safetensors"
_NEXT_STEP = "start over without --resume"
_OWN = ("rows_*.safetensors", "dataset.safetensors", "sizes/*.safetensors", ".*.part", "sizes/.*.part")


class Checkpoint:
    """The checkpoint folder of one run; `configuration` says what was asked for and must agree on resuming."""

    def __init__(self, folder: Path, configuration: dict[str, Any]) -> None:
        self.folder = folder
        self._configuration = json.dumps(configuration, sort_keys=True)
        self._rounds = 0
        self.begun = False  # whether what is there is this run's

    def exists(self) -> bool:
        """Whether a run was cut off here."""
        return (self.folder / _STATE).is_file()

    def clear(self) -> None:
        """Remove what a run left: when a new one begins, and after the results are written.

        The state goes first, so that half of a checkpoint is never taken for a whole one; what is no run's stays.
        """
        (self.folder / _STATE).unlink(missing_ok=True)
        for pattern in _OWN:
            for path in self.folder.glob(pattern):
                path.unlink(missing_ok=True)
        for folder in (self.folder / "sizes", self.folder):
            with contextlib.suppress(OSError):  # not there, or somebody else's files in it
                folder.rmdir()
        self._rounds = 0

    def add_rows(self, rows: Transitions) -> None:
        """Keep one round's transitions."""
        arrays = {name: getattr(rows, name) for name in FIELDS}
        name = f"rows_{self._rounds:05d}.safetensors"
        replace_files(self.folder, {name: encode_tensors(arrays, {"format": _FORMAT, "format_version": "1"})})
        self._rounds += 1

    def save(self, tensors: dict[str, torch.Tensor], figures: dict[str, Any]) -> None:
        """Replace the state; `tensors` float32, or uint8 for the state of generators, `figures` anything JSON holds."""
        metadata = {
            "format": _FORMAT,
            "format_version": "1",
            "configuration": self._configuration,
            "figures": json.dumps({**figures, "rounds": self._rounds}),
        }
        arrays = {name: tensor.detach().cpu().numpy() for name, tensor in tensors.items()}
        replace_files(self.folder, {_STATE: encode_tensors(arrays, metadata)})
        self.begun = True

    def load(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]] | None:
        """Tensors and figures; None where nothing was saved.

        Raises:
            DistillError: damaged files, or a run with other options.
        """
        if not (self.folder / _STATE).is_file():
            return None
        try:
            file = TensorFile(self.folder / _STATE, _FORMAT, _NEXT_STEP)
            saved = json.loads(file.text("configuration"))
            wanted = json.loads(self._configuration)
            changed = sorted(key for key in saved.keys() | wanted.keys() if saved.get(key) != wanted.get(key))
            if changed:
                name = changed[0]
                raise DistillError(
                    f"--resume: the run in {self.folder.parent} has {name} = {saved.get(name)!r}, got "
                    f"{wanted.get(name)!r}; give the same options, or {_NEXT_STEP}"
                )
            figures: dict[str, Any] = file.json("figures", dict)
            self._rounds = figures["rounds"]
            tensors = {name: np.array(array) for name, array in file.tensors.items()}
            broken = [name for name, array in tensors.items() if array.dtype.kind == "f" and np.isnan(array).any()]
            if broken or not isinstance(self._rounds, int):
                raise self.damaged(f"NaN in {broken[0]}" if broken else f"{self._rounds!r} rounds")
        except FileFormatError as error:
            raise DistillError(f"--resume: {error}") from error
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise self.damaged(repr(error)) from error
        self.begun = True
        return {name: torch.from_numpy(array) for name, array in tensors.items()}, figures

    def damaged(self, got: str) -> DistillError:
        """What to raise where the state is readable, but not what a run writes."""
        return DistillError(
            f"--resume: {self.folder / _STATE}: got {got}, expected what a run of these options saves; {_NEXT_STEP}"
        )

    def rounds(self, like: Transitions) -> Iterator[Transitions]:
        """Every round's rows, in order, after `load`; of the widths of `like`.

        Raises:
            DistillError: damaged files, or those of another run.
        """
        for index in range(self._rounds):
            path = self.folder / f"rows_{index:05d}.safetensors"
            try:
                file = TensorFile(path, _FORMAT, _NEXT_STEP)
            except FileFormatError as error:
                raise DistillError(f"--resume: {error}") from error
            yield from_arrays(file.tensors, like)
