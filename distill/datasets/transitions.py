"""Transitions of whole episodes: every observation stored once, what follows a row found by its index."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..environment import Array
from ..errors import DistillError


@dataclass(frozen=True)
class Transitions:
    """Rows in time order, episode after episode; physical units; arrays may be mapped files and are never written to.

    What follows row t is row t + 1 or, at the end of an episode, that episode's `final_observations`. Where the clean
    actions of a teacher are unknown, `teacher_actions` is `executed_actions` itself.
    """

    observations: Array  # (n, observation)
    executed_actions: Array  # (n, action) what the plant received: for the critics
    teacher_actions: Array  # (n, action) the teacher's clean answer at that observation: for cloning
    rewards: Array  # (n,)
    terminated: NDArray[np.uint8]  # (n,) ended for good
    truncated: NDArray[np.uint8]  # (n,) cut by a time limit
    final_observations: Array  # (episodes, observation) what the last action of each episode led to
    lengths: NDArray[np.uint32]  # (episodes,) rows of each episode

    def __len__(self) -> int:
        return len(self.observations)

    @cached_property
    def ends(self) -> NDArray[np.int64]:
        """Last row of each episode (episodes,)."""
        return np.cumsum(self.lengths, dtype=np.int64) - 1

    @property
    def next_observations(self) -> Array:
        """What followed each row (n, observation): a copy, made anew at every call."""
        following = np.empty_like(self.observations)
        following[:-1] = self.observations[1:]
        following[self.ends] = self.final_observations
        return following

    def episodes(self) -> Iterator[Transitions]:
        """Each episode by itself, as views."""
        start = 0
        for episode, length in enumerate(self.lengths.tolist()):
            yield self._slice(slice(start, start + length), slice(episode, episode + 1))
            start += length

    def first(self, rows: int) -> Transitions:
        """The episodes that make up the first `rows` rows, as views.

        Raises:
            ValueError: an episode would be cut.
        """
        episodes = int(np.searchsorted(self.ends, rows - 1))
        if rows and (episodes == len(self.ends) or self.ends[episodes] != rows - 1):
            raise ValueError(f"transitions: row {rows} is inside an episode, expected the end of one")
        return self._slice(slice(0, rows), slice(0, episodes + 1 if rows else 0))

    def _slice(self, rows: slice, episodes: slice) -> Transitions:
        return Transitions(
            observations=self.observations[rows],
            executed_actions=self.executed_actions[rows],
            teacher_actions=self.teacher_actions[rows],
            rewards=self.rewards[rows],
            terminated=self.terminated[rows],
            truncated=self.truncated[rows],
            final_observations=self.final_observations[episodes],
            lengths=self.lengths[episodes],
        )


FIELDS = tuple(field.name for field in dataclasses.fields(Transitions))
EPISODE_FIELDS = ("final_observations", "lengths")  # one row an episode, the others one a transition


def reserve(rows: int, episodes: int, observation_size: int, action_size: int) -> Transitions:
    """Uninitialised arrays to be filled; memory is taken as they are written to."""
    return Transitions(
        observations=np.empty((rows, observation_size), np.float32),
        executed_actions=np.empty((rows, action_size), np.float32),
        teacher_actions=np.empty((rows, action_size), np.float32),
        rewards=np.empty(rows, np.float32),
        terminated=np.empty(rows, np.uint8),
        truncated=np.empty(rows, np.uint8),
        final_observations=np.empty((episodes, observation_size), np.float32),
        lengths=np.empty(episodes, np.uint32),
    )


def fill(target: Transitions, rows: int, episodes: int, part: Transitions) -> None:
    """Copy `part` into `target`, its first row to `rows` and its first episode to `episodes`."""
    for name in FIELDS:
        start = episodes if name in EPISODE_FIELDS else rows
        source = getattr(part, name)
        getattr(target, name)[start : start + len(source)] = source


def join(parts: list[Transitions]) -> Transitions:
    """All parts in order, as one; empties the list on the way, so that rows are not held twice.

    Raises:
        ValueError: no parts.
    """
    if not parts:
        raise ValueError("transitions: got no parts to join, expected at least one")
    if len(parts) == 1:
        return parts.pop()
    first = parts[0]
    total, ends = sum(len(part) for part in parts), sum(len(part.lengths) for part in parts)
    joined = reserve(total, ends, first.observations.shape[1], first.executed_actions.shape[1])
    parts.reverse()
    rows = episodes = 0
    while parts:
        part = parts.pop()
        fill(joined, rows, episodes, part)
        rows, episodes = rows + len(part), episodes + len(part.lengths)
    return joined


def from_arrays(arrays: Mapping[str, NDArray[Any]], like: Transitions) -> Transitions:
    """Transitions out of a checkpoint's named arrays, with the widths and kinds of `like`.

    Raises:
        DistillError: arrays are missing, their shapes disagree or their numbers are not finite.
    """
    count, episodes = len(arrays.get("observations", ())), len(arrays.get("lengths", ()))
    for name in FIELDS:
        model = getattr(like, name)
        expected = (episodes if name in EPISODE_FIELDS else count, *model.shape[1:])
        array = arrays.get(name)
        if array is None or array.shape != expected or array.dtype != model.dtype or not np.isfinite(array).all():
            got = "nothing" if array is None else f"{array.dtype} {array.shape}"
            raise DistillError(
                f"checkpoint: got {got} as {name!r}, expected finite {model.dtype} {expected}; it belongs to another "
                "run, start over without --resume"
            )
    if int(arrays["lengths"].sum(dtype=np.int64)) != count or not np.all(arrays["lengths"]):
        raise DistillError(
            f"checkpoint: got episodes of {int(arrays['lengths'].sum(dtype=np.int64))} rows in all, expected {count}; "
            "it is damaged, start over without --resume"
        )
    return Transitions(**{name: arrays[name] for name in FIELDS})
