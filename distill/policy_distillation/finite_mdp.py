"""Small Markov decision processes as full tables, for exact expectations."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class FiniteMDP:
    """States from which an action leads on; what a row of `transition` lacks to 1 is the probability of the end."""

    transition: Array
    """(states, actions, states) probability of the next state."""
    reward: Array
    """(states, actions) expected reward of a step."""
    start: Array
    """(states,) probability of being the first state."""

    def step_matrix(self, policy: Array) -> Array:
        """(states, states) probability of the next state under `policy` (states, actions)."""
        matrix: Array = np.einsum("sa,sat->st", policy, self.transition)
        return matrix

    def occupancy(self, policy: Array, discount: float = 1.0) -> Array:
        """(states,) expected (discounted) number of visits in an episode under `policy` (states, actions)."""
        states = len(self.start)
        visits = np.linalg.solve(np.eye(states) - discount * self.step_matrix(policy).T, self.start)
        return visits.astype(np.float64, copy=False)

    def action_values(self, policy: Array, reward: Array, discount: float = 1.0) -> Array:
        """(states, actions) expected sum of `reward` (states, actions) from a step on, then following `policy`."""
        states = len(self.start)
        now = (policy * reward).sum(axis=1)
        values = np.linalg.solve(np.eye(states) - discount * self.step_matrix(policy), now)
        following: Array = reward + discount * self.transition @ values
        return following

    def values(self, policy: Array, discount: float = 1.0) -> Array:
        """(states,) V of `policy` (states, actions)."""
        result: Array = (policy * self.action_values(policy, self.reward, discount)).sum(axis=1)
        return result


def best_values(mdp: FiniteMDP, discount: float = 1.0) -> Array:
    """(states,) V of the best policy, by policy iteration."""
    states, actions = mdp.reward.shape
    policy = np.full((states, actions), 1.0 / actions)
    values = mdp.values(policy, discount)
    while True:
        greedy = np.argmax(mdp.action_values(policy, mdp.reward, discount), axis=1)
        policy = np.eye(actions)[greedy]
        better = mdp.values(policy, discount)
        if np.max(better - values) < 1e-12:
            return better
        values = better


def random_mdp(seed: int, states: int = 5, actions: int = 3, end: float = 0.2) -> FiniteMDP:
    """Dense random transitions, standard normal rewards, starts anywhere; every step ends the episode with `end`."""
    rng = np.random.default_rng(seed)
    transition = (1.0 - end) * rng.dirichlet(np.full(states, 0.5), size=(states, actions))
    return FiniteMDP(transition, rng.normal(size=(states, actions)), rng.dirichlet(np.ones(states)))


def chain_mdp(states: int, left: float = -10.0, right: float = 10.0, death: float = 0.01) -> FiniteMDP:
    """A corridor: action 0 steps left, 1 right; leaving it at either end pays and ends the episode.

    Args:
        states: cells of the corridor; the episode starts in the middle one.
        left: reward for leaving on the left.
        right: reward for leaving on the right.
        death: probability that a step ends the episode instead, with no reward.
    """
    transition, reward = np.zeros((states, 2, states)), np.zeros((states, 2))
    for state in range(states):
        for action, following in enumerate((state - 1, state + 1)):
            if 0 <= following < states:
                transition[state, action, following] = 1.0 - death
    reward[0, 0], reward[-1, 1] = (1.0 - death) * left, (1.0 - death) * right
    return FiniteMDP(transition, reward, np.eye(states)[states // 2])


def figure_2_mdp() -> FiniteMDP:
    """Figure 2 of the paper: s0 leads to sL or sR (states 0, 1, 2; actions L, R), and these to four ends.

    Rewards at sL: L -1, R -2; at sR: L 0, R -3; at s0: 0.
    """
    transition = np.zeros((3, 2, 3))
    transition[0, 0, 1] = transition[0, 1, 2] = 1.0
    return FiniteMDP(transition, np.array([[0.0, 0.0], [-1.0, -2.0], [0.0, -3.0]]), np.eye(3)[0])
