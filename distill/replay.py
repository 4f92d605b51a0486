"""Transitions as torch tensors, normalised once, growing without copies until the reserved rows are full."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from .objective import Batch
from .rollout import Array, Transitions


@dataclass(frozen=True)
class Normaliser:
    """Statistics of one frame (base,), tied over the stacked frames: z = (observation - mean) / scale."""

    mean: Array
    scale: Array

    @staticmethod
    def fit(observations: Array, history: int) -> Normaliser:
        """Mean and standard deviation + 1e-3 (TD3+BC) of the newest frame of each row (n, history * base)."""
        newest = observations[:, observations.shape[1] // history * (history - 1) :].astype(np.float64)
        return Normaliser(newest.mean(axis=0).astype(np.float32), (newest.std(axis=0) + 1e-3).astype(np.float32))


class Replay:
    """Sampled uniformly; observations normalised, actions as shares of half their range."""

    def __init__(self, normaliser: Normaliser, history: int, low: Array, high: Array, capacity: int) -> None:
        self._mean = np.tile(normaliser.mean, history)
        self._scale = np.tile(normaliser.scale, history)
        self._middle, self._half = (low + high) / 2, (high - low) / 2
        self._capacity = capacity
        self._count = 0
        inputs, actions = len(self._mean), len(low)
        self._observations = torch.empty(capacity, inputs)
        self._next_observations = torch.empty(capacity, inputs)
        self._executed = torch.empty(capacity, actions)
        self._teacher = torch.empty(capacity, actions)
        self._rewards = torch.empty(capacity)
        self._terminated = torch.empty(capacity)

    def __len__(self) -> int:
        return self._count

    def extend(self, rows: Transitions) -> None:
        """Append transitions.

        Raises:
            ValueError: more rows than were reserved.
        """
        start, stop = self._count, self._count + len(rows)
        if stop > self._capacity:
            raise ValueError(f"replay: got {stop} rows, reserved {self._capacity}")
        self._observations[start:stop] = torch.from_numpy((rows.observations - self._mean) / self._scale)
        self._next_observations[start:stop] = torch.from_numpy((rows.next_observations - self._mean) / self._scale)
        self._executed[start:stop] = torch.from_numpy((rows.executed_actions - self._middle) / self._half)
        self._teacher[start:stop] = torch.from_numpy((rows.teacher_actions - self._middle) / self._half)
        self._rewards[start:stop] = torch.from_numpy(rows.rewards)
        self._terminated[start:stop] = torch.from_numpy(rows.terminated.astype(np.float32))
        self._count = stop

    def rewind(self, count: int) -> None:
        """Forget everything after the first `count` rows."""
        self._count = min(count, self._count)

    def sample(self, size: int, generator: torch.Generator, *, transitions: bool) -> Batch:
        """Draw `size` rows with replacement; without `transitions` the fields only a critic reads are empty."""
        index = torch.randint(self._count, (size,), generator=generator)
        empty = torch.empty(0)
        return Batch(
            observations=self._observations[index],
            teacher_actions=self._teacher[index],
            executed_actions=self._executed[index] if transitions else empty,
            rewards=self._rewards[index] if transitions else empty,
            next_observations=self._next_observations[index] if transitions else empty,
            terminated=self._terminated[index] if transitions else empty,
        )
