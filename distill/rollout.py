"""Play episodes: many environments side by side, so that the policy sees one batch per control period."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .datasets.transitions import FIELDS, Transitions, fill, join, reserve
from .environment import Array, EnvironmentSpec
from .plant import Plant
from .time_limit import time_limit

__all__ = ["Array", "Episodes", "Policy", "Transitions", "longest_episode", "play"]

Policy = Callable[[Array], Array]  # observations (n, observation) -> actions (n, action), physical units


@dataclass(frozen=True)
class Episodes:
    """What was played: undiscounted returns, lengths, and whether each held upright over its last 3 s."""

    returns: NDArray[np.float64]  # (episodes,)
    lengths: NDArray[np.int64]  # (episodes,)
    held: NDArray[np.bool_] | None  # None where the environment reports no "upright"
    transitions: Transitions | None


def play(
    spec: EnvironmentSpec,
    policy: Policy,
    seeds: Sequence[int],
    *,
    label: Policy | None = None,
    noise: Sequence[float] | None = None,
    width: int = 25,
    on_step: Callable[[int], None] | None = None,
) -> Episodes:
    """Play one whole episode for each seed.

    Args:
        spec: the environment.
        policy: drives the plant.
        seeds: one per episode; each seeds the environment's reset and the episode's exploration noise.
        label: where given, transitions are kept and `label` (the teacher) gives their clean actions.
        noise: per-episode standard deviation of Gaussian exploration noise, as a share of half the action range.
        width: how many environments run side by side; part of what makes a run repeatable to the bit.
        on_step: called with the number of environment steps of each batch, for progress bars.

    Raises:
        DistillError: when the environment raises, or gives a wrong shape or a non-finite observation or reward.
    """
    plants = [Plant(spec) for _ in range(min(width, len(seeds)))]
    low, high = plants[0].action_low, plants[0].action_high
    half = (high - low) / 2
    hold = round(3.0 / plants[0].control_period_s)
    count = len(seeds)
    returns, lengths = np.zeros(count), np.zeros(count, dtype=np.int64)
    upright_run = np.zeros(count, dtype=np.int64)
    reports_upright = False
    finished: list[Transitions | None] = [None] * count
    recordings = [_Recording() for _ in plants] if label is not None else []
    generators = [np.random.default_rng((seed, 0x6E6F697365)) for seed in seeds]
    waiting = list(range(count))[::-1]
    active: list[tuple[int, int]] = []  # episode, and the plant that plays it
    current: dict[int, Array] = {}
    try:
        for slot, plant in enumerate(plants):
            episode = waiting.pop()
            current[episode] = plant.reset(seeds[episode])
            active.append((episode, slot))
        while active:
            batch = np.stack([current[episode] for episode, _ in active]).astype(np.float32)
            actions = policy(batch)
            labels = actions if label is None or label is policy else label(batch)
            following: list[tuple[int, int]] = []
            for row, (episode, slot) in enumerate(active):
                plant = plants[slot]
                action = actions[row]
                if noise is not None and noise[episode] > 0.0:
                    sample = generators[episode].standard_normal(action.shape).astype(np.float32)
                    action = action + np.float32(noise[episode]) * half * sample
                action = np.minimum(np.maximum(action, low), high).astype(np.float32)  # np.clip is slower
                observation, reward, terminated, truncated, info = plant.step(action)
                returns[episode] += reward
                lengths[episode] += 1
                if "upright" in info:
                    reports_upright = True
                    upright_run[episode] = upright_run[episode] + 1 if info["upright"] else 0
                if label is not None:
                    recordings[slot].add(
                        batch[row], action, labels[row], reward, terminated=terminated, truncated=truncated
                    )
                    if terminated or truncated:
                        finished[episode] = recordings[slot].finish(observation)
                if not (terminated or truncated):
                    current[episode] = observation
                    following.append((episode, slot))
                    continue
                del current[episode]
                if waiting:
                    fresh = waiting.pop()
                    current[fresh] = plant.reset(seeds[fresh])
                    following.append((fresh, slot))
            if on_step is not None:
                on_step(len(active))
            active = following
    finally:
        for plant in plants:
            plant.close()
    held = (upright_run >= hold) if reports_upright else None
    rows = [episode for episode in finished if episode is not None]
    finished.clear()
    return Episodes(returns, lengths, held, join(rows) if label is not None else None)


def longest_episode(spec: EnvironmentSpec) -> int:
    """Steps after which the environment's time limit cuts an episode; 1000 where it has none."""
    environment = spec.make()
    limit = time_limit(environment)
    environment.close()
    return limit or 1_000


class _Recording:
    """The episode that one environment plays: arrays that are kept from episode to episode and double when full."""

    def __init__(self) -> None:
        self._rows: Transitions | None = None
        self._count = 0

    def add(
        self, observation: Array, executed: Array, clean: Array, reward: float, *, terminated: bool, truncated: bool
    ) -> None:
        """Append one transition; what it led to is the next one's observation."""
        row = self._count
        if self._rows is None:
            self._rows = reserve(1024, 1, len(observation), len(executed))
        elif row == len(self._rows):
            grown = reserve(2 * row, 1, len(observation), len(executed))
            fill(grown, 0, 0, self._rows)
            self._rows = grown
        rows = self._rows
        rows.observations[row], rows.executed_actions[row], rows.teacher_actions[row] = observation, executed, clean
        rows.rewards[row], rows.terminated[row], rows.truncated[row] = reward, terminated, truncated
        self._count = row + 1

    def finish(self, final_observation: Array) -> Transitions:
        """The episode as arrays of its own; the next one starts."""
        rows, count = self._rows, self._count
        assert rows is not None
        rows.final_observations[0], rows.lengths[0] = final_observation, count
        episode = reserve(count, 1, rows.observations.shape[1], rows.executed_actions.shape[1])
        for name in FIELDS:
            target = getattr(episode, name)
            target[:] = getattr(rows, name)[: len(target)]
        self._count = 0
        return episode
