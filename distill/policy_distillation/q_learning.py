"""Tabular teachers: Q-learning in many worlds at once, and policies made of Q."""

from __future__ import annotations

import numpy as np

from .expected_update import softmax
from .finite_mdp import Array
from .worlds import Worlds

STEPS = 30_000
# ours, since the paper gives the number of steps only: so short a run sees more of a grid when it wanders at random
_LEARNING_RATE, _EXPLORATION = 0.3, 1.0


def learn(worlds: Worlds, discount: float, seed: int, steps: int = STEPS) -> Array:
    """(W, S, D) Q after so many steps of one epsilon-greedy agent a world, from Q = 0."""
    rng = np.random.default_rng([seed, 7])
    count, _, directions = worlds.shape
    each = np.arange(count)
    q, cell = np.zeros(worlds.shape), worlds.start.copy()
    for _ in range(steps):
        explores, anywhere = rng.random((2, count))
        greedy = np.argmax(q[each, cell], axis=1)
        direction = np.where(explores < _EXPLORATION, (anywhere * directions).astype(np.int64), greedy)
        reached, reward, over = worlds.move(each, cell, direction, rng)
        target = reward + discount * np.where(over, 0.0, q[each, reached].max(axis=1))
        q[each, cell, direction] += _LEARNING_RATE * (target - q[each, cell, direction])
        cell = np.where(over, worlds.start, reached)
    return q


def policy_of(q: Array, temperature: float) -> Array:
    """Softmax of Q / temperature, of any shape (..., D); at 0 the best action, the first of equal ones."""
    if temperature == 0.0:
        best: Array = np.eye(q.shape[-1])[np.argmax(q, axis=-1)]
        return best
    return softmax(q / temperature)


def with_noisy_actions(teacher: Array, share: float) -> Array:
    """A teacher (..., D) that takes a random action with this probability, everywhere alike."""
    noisy: Array = (1.0 - share) * teacher + share / teacher.shape[-1]
    return noisy


def with_faulty_cells(teacher: Array, share: float, seed: int) -> Array:
    """A teacher (W, S, D) that is certain of one random action in this share of the cells, and itself elsewhere."""
    rng = np.random.default_rng([seed, 25])
    faulty = rng.random(teacher.shape[:2]) < share
    wrong = np.eye(teacher.shape[2])[rng.integers(teacher.shape[2], size=teacher.shape[:2])]
    result: Array = np.where(faulty[..., None], wrong, teacher)
    return result
