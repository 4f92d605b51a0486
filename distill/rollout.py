"""Play episodes: many environments side by side, so that the policy sees one batch per control period."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import gymnasium
import numpy as np
from numpy.typing import NDArray

from .environment import EnvironmentSpec
from .errors import DistillError

Array = NDArray[np.float32]
Policy = Callable[[Array], Array]  # observations (n, observation) -> actions (n, action), physical units


@dataclass(frozen=True)
class Transitions:
    """Rows in time order, episode after episode; all float32 except the two flags (uint8)."""

    observations: Array  # (n, observation)
    executed_actions: Array  # (n, action) what the plant received
    teacher_actions: Array  # (n, action) the teacher's clean answer at that observation
    rewards: Array  # (n,)
    next_observations: Array  # (n, observation)
    terminated: NDArray[np.uint8]  # (n,)
    truncated: NDArray[np.uint8]  # (n,)

    def __len__(self) -> int:
        return len(self.observations)


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
        DistillError: when the environment gives a non-finite observation or reward.
    """
    environments = [spec.make() for _ in range(min(width, len(seeds)))]
    space = environments[0].action_space
    assert isinstance(space, gymnasium.spaces.Box)
    low, high = space.low, space.high
    half = (high - low) / 2
    hold = round(3.0 / float(environments[0].metadata.get("control_period_s", 0.02)))
    count = len(seeds)
    returns, lengths = np.zeros(count), np.zeros(count, dtype=np.int64)
    upright_run = np.zeros(count, dtype=np.int64)
    reports_upright = False
    rows: list[list[tuple[Array, Array, Array, float, Array, bool, bool]]] = [[] for _ in seeds]
    generators = [np.random.default_rng((seed, 0x6E6F697365)) for seed in seeds]
    waiting = list(range(count))[::-1]
    active: list[tuple[int, gymnasium.Env[Array, Array]]] = []
    current: dict[int, Array] = {}
    try:
        for environment in environments:
            episode = waiting.pop()
            current[episode] = environment.reset(seed=seeds[episode])[0]
            active.append((episode, environment))
        while active:
            batch = np.stack([current[episode] for episode, _ in active]).astype(np.float32)
            actions = policy(batch)
            labels = label(batch) if label is not None else actions
            following: list[tuple[int, gymnasium.Env[Array, Array]]] = []
            for row, (episode, environment) in enumerate(active):
                action = actions[row]
                if noise is not None and noise[episode] > 0.0:
                    sample = generators[episode].standard_normal(action.shape).astype(np.float32)
                    action = action + np.float32(noise[episode]) * half * sample
                action = np.clip(action, low, high).astype(np.float32)
                observation, reward, terminated, truncated, info = environment.step(action)
                if not (np.all(np.isfinite(observation)) and np.isfinite(float(reward))):
                    raise DistillError(
                        f"environment {spec.environment!r}: got a non-finite observation or reward at step "
                        f"{lengths[episode]} of seed {seeds[episode]}, expected finite numbers; check the environment"
                    )
                returns[episode] += float(reward)
                lengths[episode] += 1
                if "upright" in info:
                    reports_upright = True
                    upright_run[episode] = upright_run[episode] + 1 if info["upright"] else 0
                if label is not None:
                    rows[episode].append(
                        (batch[row], action, labels[row], float(reward), observation, terminated, truncated)
                    )
                if not (terminated or truncated):
                    current[episode] = observation
                    following.append((episode, environment))
                elif waiting:
                    fresh = waiting.pop()
                    current[fresh] = environment.reset(seed=seeds[fresh])[0]
                    following.append((fresh, environment))
            if on_step is not None:
                on_step(len(active))
            active = following
    finally:
        for environment in environments:
            environment.close()
    held = (upright_run >= hold) if reports_upright else None
    return Episodes(returns, lengths, held, _stack(rows) if label is not None else None)


def _stack(rows: list[list[tuple[Array, Array, Array, float, Array, bool, bool]]]) -> Transitions:
    flat = [row for episode in rows for row in episode]
    return Transitions(
        observations=np.stack([row[0] for row in flat]),
        executed_actions=np.stack([row[1] for row in flat]),
        teacher_actions=np.stack([row[2] for row in flat]).astype(np.float32),
        rewards=np.array([row[3] for row in flat], dtype=np.float32),
        next_observations=np.stack([row[4] for row in flat]).astype(np.float32),
        terminated=np.array([row[5] for row in flat], dtype=np.uint8),
        truncated=np.array([row[6] for row in flat], dtype=np.uint8),
    )
