"""Transitions to sample from: held once, raw, as they are in memory or in a mapped file; normalised when drawn."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..environment import Array
from ..training.objective import Batch, FollowedBatch
from .transitions import EPISODE_FIELDS, FIELDS, Transitions, reserve

_LABELLED = ("observations", "teacher_actions")
_TRANSITION = (*_LABELLED, "executed_actions", "rewards", "next_observations", "terminated")
_FOLLOWED = (*_TRANSITION, "next_teacher_actions", "known")
_WEIGHTS = "error_weights"
_BLOCK = 2**19  # numbers: statistics never hold more of a dataset in float64

Weigh = Callable[[Array, Array], Array]
"""Observations (n, observation) and the teacher's actions (n, action), physical units -> weights (n, action)."""


@dataclass(frozen=True)
class Normaliser:
    """Statistics of one frame (base,), tied over the stacked frames: z = (observation - mean) / scale."""

    mean: Array
    scale: Array

    @staticmethod
    def fit(observations: Array, history: int) -> Normaliser:
        """Mean and standard deviation + 1e-3 (TD3+BC) of the newest frame of each row (n, history * base)."""
        base = observations.shape[1] // history
        newest = observations[:, base * (history - 1) :]
        block = max(1, _BLOCK // base)
        blocks = [newest[start : start + block] for start in range(0, len(newest), block)]
        mean = sum((block.sum(axis=0, dtype=np.float64) for block in blocks), np.zeros(base)) / len(newest)
        squares = sum(
            (np.square(block.astype(np.float64) - mean).sum(axis=0) for block in blocks),
            np.zeros(base),
        )
        scale = np.sqrt(squares / len(newest)) + 1e-3
        return Normaliser(mean.astype(np.float32), scale.astype(np.float32))


class Replay:
    """Sampled uniformly; observations normalised, actions as shares of half their range.

    The transitions of the first `extend` are used where they lie and never copied. What comes later is copied into
    arrays of its own that double when they are full.
    """

    def __init__(
        self, normaliser: Normaliser, history: int, low: Array, high: Array, weigh: Weigh | None = None
    ) -> None:
        """`low` and `high` (action,) bound the actions; `weigh` gives each squared error its weight (None: 1)."""
        mean, scale = np.tile(normaliser.mean, history), np.tile(normaliser.scale, history)
        middle, half = ((low + high) / 2).astype(np.float32), ((high - low) / 2).astype(np.float32)
        self._statistics: tuple[Array, Array, Array, Array] = mean, scale, middle, half
        self._tile: _Tile | None = None
        self._weigh = weigh
        self._base: _Rows | None = None
        self._grown: _Rows | None = None

    def __len__(self) -> int:
        return self._base_rows + (0 if self._grown is None else self._grown.count)

    @property
    def _base_rows(self) -> int:
        return 0 if self._base is None else self._base.count

    def extend(self, rows: Transitions) -> None:
        """Append whole episodes."""
        weights = None if self._weigh is None else self._weigh(rows.observations, rows.teacher_actions)
        if self._base is None:
            self._base = _Rows(rows, len(rows), len(rows.lengths), weights)
            return
        if self._grown is None:
            sizes = rows.observations.shape[1], rows.executed_actions.shape[1]
            self._grown = _Rows(reserve(0, 0, *sizes), 0, 0, None if weights is None else weights[:0])
        self._grown.append(rows, weights)

    def sample(self, size: int, generator: torch.Generator, *, transitions: bool, newest: int | None = None) -> Batch:
        """Draw `size` rows with replacement, from the `newest` ones only where that is given.

        Without `transitions` the fields only a critic reads are empty. Rows come in the order in which they are stored:
        it does not matter to a mean, and memory likes it.
        """
        names = _TRANSITION if transitions else _LABELLED
        drawn = self._draw(size, names, generator, newest)
        empty = torch.empty(0)
        return Batch(**{field.name: drawn.get(field.name, empty) for field in dataclasses.fields(Batch)})

    def sample_followed(self, size: int, generator: torch.Generator, *, newest: int | None = None) -> FollowedBatch:
        """The same with all fields, and the teacher's action at the next observation."""
        return FollowedBatch(**self._draw(size, _FOLLOWED, generator, newest))

    def _draw(
        self, size: int, names: tuple[str, ...], generator: torch.Generator, newest: int | None
    ) -> dict[str, torch.Tensor]:
        oldest = 0 if newest is None else max(0, len(self) - newest)
        index = torch.randint(oldest, len(self), (size,), generator=generator).numpy()
        index.sort()
        tile = self._tiled(size)
        rows = {"observations": tile.mean, "actions": tile.half}
        single = np.empty(size, np.float32)
        drawn: dict[str, Array] = {name: np.empty_like(rows.get(name.split("_")[-1], single)) for name in names}
        if self._weigh is not None:
            drawn[_WEIGHTS] = np.empty_like(tile.half)
        split = size if self._grown is None else int(np.searchsorted(index, self._base_rows))
        if split and self._base is not None:
            self._base.take(index[:split], drawn, slice(0, split))
        if split < size and self._grown is not None:
            self._grown.take(index[split:] - self._base_rows, drawn, slice(split, size))
        for name, array in drawn.items():
            if name.endswith("observations"):
                np.subtract(array, tile.mean, out=array)
                np.divide(array, tile.scale, out=array)
            elif name.endswith("actions"):
                np.subtract(array, tile.middle, out=array)
                np.divide(array, tile.half, out=array)
        if "known" in drawn:
            drawn["next_teacher_actions"] *= drawn["known"][:, None]
        drawn.setdefault(_WEIGHTS, tile.ones)
        return {name: torch.from_numpy(array) for name, array in drawn.items()}

    def _tiled(self, size: int) -> _Tile:
        """The four statistics, repeated for every row of a minibatch: broadcasting would cost more than the sums."""
        if self._tile is None or len(self._tile.mean) != size:
            mean, scale, middle, half = (np.tile(vector, (size, 1)) for vector in self._statistics)
            self._tile = _Tile(mean, scale, middle, half, np.ones_like(half))
        return self._tile


@dataclass(frozen=True)
class _Tile:
    """Statistics (batch, observation) and (batch, action)."""

    mean: Array
    scale: Array
    middle: Array
    half: Array
    ones: Array


class _Rows:
    """Transitions of which the first `count` rows are valid, and the weights of their errors."""

    def __init__(self, rows: Transitions, count: int, episodes: int, weights: Array | None) -> None:
        self._arrays = _arrays(rows, weights)
        self.count, self._episodes = count, episodes
        self._ends = rows.ends

    def append(self, rows: Transitions, weights: Array | None) -> None:
        """Copy behind what is there, into twice the room where it is full: each row is moved about once."""
        count, episodes = self.count + len(rows), self._episodes + len(rows.lengths)
        for name, added in _arrays(rows, weights).items():
            used, needed = (self._episodes, episodes) if name in EPISODE_FIELDS else (self.count, count)
            array = self._arrays[name]
            if needed > len(array):
                # array by array, so that only one of them is held twice
                self._arrays[name] = np.empty((max(needed, 2 * len(array)), *array.shape[1:]), array.dtype)
                self._arrays[name][:used] = array[:used]
            self._arrays[name][used:needed] = added
        self._ends = np.concatenate((self._ends[: self._episodes], self.count + rows.ends))
        self.count, self._episodes = count, episodes

    def take(self, index: NDArray[np.int64], drawn: dict[str, Array], place: slice) -> None:
        """Copy the rows `index` (k,), sorted, into `place` of the arrays `drawn`."""
        arrays = self._arrays
        for name, target in drawn.items():
            if name == "next_observations":
                following = target[place]
                _gather(arrays["observations"], np.minimum(index + 1, self.count - 1), following)
                episode = np.searchsorted(self._ends[: self._episodes], index)
                (last,) = np.nonzero(self._ends[episode] == index)
                following[last] = arrays["final_observations"][episode[last]]
            elif name == "next_teacher_actions":
                _gather(arrays["teacher_actions"], np.minimum(index + 1, self.count - 1), target[place])
            elif name == "known":
                episode = np.searchsorted(self._ends[: self._episodes], index)
                target[place] = self._ends[episode] != index
            elif name == "terminated":
                target[place] = arrays[name][index]
            else:
                _gather(arrays[name], index, target[place])


def _arrays(rows: Transitions, weights: Array | None) -> dict[str, NDArray[Any]]:
    arrays: dict[str, NDArray[Any]] = {name: getattr(rows, name) for name in FIELDS}
    return arrays if weights is None else arrays | {_WEIGHTS: weights}


def _gather(source: Array, index: NDArray[np.int64], target: Array) -> None:
    # every index is valid; without "clip" numpy would gather into a buffer first
    source.take(index, axis=0, out=target, mode="clip")
