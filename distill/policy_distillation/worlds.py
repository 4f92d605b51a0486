"""Many small worlds at once, in a compact form: grid worlds of the paper's appendix A, and corridors.

Every world has cells that are numbered so that a move changes the number by at most `reach`. A move is a direction;
with probability `noise` a random one is taken instead. After each move the episode ends with probability `death` and
no reward; otherwise the reward of the cell that is reached is paid, and a terminal cell ends the episode. A move into
a wall or over the edge leaves the agent where it is (which pays that cell's reward again).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_banded

from .finite_mdp import Array, FiniteMDP

Integers = NDArray[np.int64]

SIDE = 20
NOISE, DEATH = 0.1, 0.01
_PLAIN, _WALL = 0.0, np.nan
# (what a cell is, how often), as read off the paper's figure 7; the rest is plain
_KINDS = ((_WALL, 0.09), (10.0, 0.008), (5.0, 0.005), (-10.0, 0.018), (-5.0, 0.01), (-1.0, 0.11))
_TERMINAL = (10.0, 5.0, -10.0, -5.0)


@dataclass(frozen=True)
class Worlds:
    """W worlds of S cells and D directions each."""

    next_cell: Integers
    """(W, S, D) where a move leads."""
    arrival_reward: Array
    """(W, S)."""
    terminal: NDArray[np.bool_]
    """(W, S)."""
    start: Integers
    """(W,) first cell."""
    reach: int
    """Largest change of the cell's number by a move."""
    noise: float = NOISE
    """Probability of a random direction."""
    death: float = DEATH
    """Probability that a move ends the episode."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """(W, S, D)."""
        worlds, cells, directions = self.next_cell.shape
        return worlds, cells, directions

    def taken(self, policy: Array) -> Array:
        """(..., D) probability that a direction is taken, of the probabilities that it is chosen."""
        evenly: Array = policy.sum(axis=-1, keepdims=True) / policy.shape[-1]
        return (1.0 - self.noise) * policy + self.noise * evenly

    def move(
        self, world: Integers, cell: Integers, direction: Integers, rng: np.random.Generator
    ) -> tuple[Integers, Array, NDArray[np.bool_]]:
        """One sampled step of n agents.

        Args:
            world: (n,) which world each is in.
            cell: (n,) where.
            direction: (n,) chosen.
            rng: three numbers an agent are drawn from it.

        Returns:
            (n,) cells, (n,) rewards, (n,) whether the episode is over.
        """
        directions = self.next_cell.shape[2]
        noisy, any_direction, fate = rng.random((3, len(cell)))
        direction = np.where(noisy < self.noise, (any_direction * directions).astype(np.int64), direction)
        reached = self.next_cell[world, cell, direction]
        dies = fate < self.death
        return reached, np.where(dies, 0.0, self.arrival_reward[world, reached]), dies | self.terminal[world, reached]


def grid_worlds(seeds: Sequence[int]) -> Worlds:
    """The paper's random grids of SIDE x SIDE cells, one a seed; directions are left, right, up, down.

    Cells are drawn one by one with the frequencies of the paper's figure 7. The start, in the centre, is a plain cell.
    """
    cells = np.stack([_grid(seed) for seed in seeds])  # (W, SIDE, SIDE) rewards, NaN for walls
    wall = np.isnan(cells)
    numbers = np.arange(SIDE * SIDE).reshape(SIDE, SIDE)
    following = np.empty((*cells.shape, 4), dtype=np.int64)
    for direction, (rows, columns) in enumerate(((0, -1), (0, 1), (-1, 0), (1, 0))):
        row = np.clip(np.arange(SIDE) + rows, 0, SIDE - 1)[:, None]
        column = np.clip(np.arange(SIDE) + columns, 0, SIDE - 1)[None, :]
        following[..., direction] = np.where(wall[:, row, column], numbers, numbers[row, column])
    worlds = len(seeds)
    rewards = np.nan_to_num(cells).reshape(worlds, -1)
    start = np.full(worlds, numbers[SIDE // 2, SIDE // 2])
    return Worlds(following.reshape(worlds, -1, 4), rewards, np.isin(rewards, _TERMINAL), start, SIDE)


def _grid(seed: int) -> Array:
    rng = np.random.default_rng([seed, 1902])
    kinds = [*(kind for kind, _ in _KINDS), _PLAIN]
    shares = [share for _, share in _KINDS]
    drawn = rng.choice(len(kinds), size=(SIDE, SIDE), p=[*shares, 1.0 - sum(shares)])
    cells: Array = np.array(kinds)[drawn]
    cells[SIDE // 2, SIDE // 2] = _PLAIN
    return cells


def corridors(count: int, cells: int, left: float, right: float) -> Worlds:
    """`count` equal corridors without noise; directions are left and right, the start is in the middle.

    Args:
        count: how many (they differ in the random numbers that agents meet).
        cells: length, both ends included, which are terminal.
        left: reward of the left end.
        right: reward of the right end.
    """
    numbers = np.arange(cells)
    following = np.stack([np.maximum(numbers - 1, 0), np.minimum(numbers + 1, cells - 1)], axis=1)
    rewards = np.zeros(cells)
    rewards[0], rewards[-1] = left, right
    return Worlds(
        np.repeat(following[None], count, axis=0),
        np.repeat(rewards[None], count, axis=0),
        np.repeat((rewards != 0.0)[None], count, axis=0),
        np.full(count, cells // 2),
        1,
        noise=0.0,
    )


def expected_reward(worlds: Worlds, world: int, policy: Array) -> Array:
    """(S,) expected reward of a step from each cell under `policy` (S, D); 0 at terminal cells."""
    following = worlds.arrival_reward[world][worlds.next_cell[world]]
    reward: Array = (1.0 - worlds.death) * (worlds.taken(policy) * following).sum(axis=1)
    return np.where(worlds.terminal[world], 0.0, reward)


def expected_sums(worlds: Worlds, world: int, policy: Array, of_cells: Array, discount: float) -> Array:
    """Expected discounted sums along episodes, exactly: (I - discount P)^-1 of_cells.

    Args:
        worlds: of S cells and D directions.
        world: which of them.
        policy: (S, D) probabilities of choosing a direction.
        of_cells: (S, n) what a step from a cell adds to each of n sums.
        discount: of a step.

    Returns:
        (S, n), by the cell that an episode starts in.
    """
    cells, reach = policy.shape[0], worlds.reach
    banded = np.zeros((2 * reach + 1, cells))  # as LAPACK stores it: [reach + row - column, column]
    banded[reach] = 1.0
    taken = worlds.taken(policy)
    rows = np.arange(cells)
    for direction in range(policy.shape[1]):
        column = worlds.next_cell[world, :, direction]
        goes_on = ~(worlds.terminal[world] | worlds.terminal[world][column])
        probability = (1.0 - worlds.death) * np.where(goes_on, taken[:, direction], 0.0)
        np.add.at(banded, (reach + rows - column, column), -discount * probability)
    sums: Array = solve_banded((reach, reach), banded, of_cells, check_finite=False)
    return sums


def values(worlds: Worlds, world: int, policy: Array, discount: float) -> Array:
    """(S,) V of `policy` (S, D); 0 at terminal cells."""
    return expected_sums(worlds, world, policy, expected_reward(worlds, world, policy)[:, None], discount)[:, 0]


def as_finite_mdp(worlds: Worlds, world: int) -> FiniteMDP:
    """The same world as full tables (S, D, S), terminal cells leading nowhere."""
    _, cells, directions = worlds.shape
    transition = np.zeros((cells, directions, cells))
    reward = np.zeros((cells, directions))
    for direction in range(directions):
        chosen = np.broadcast_to(np.eye(directions)[direction], (cells, directions))
        reward[:, direction] = expected_reward(worlds, world, chosen)
        for way, probability in enumerate(worlds.taken(np.eye(directions)[direction])):
            column = worlds.next_cell[world, :, way]
            goes_on = ~(worlds.terminal[world] | worlds.terminal[world][column])
            step = np.where(goes_on, (1.0 - worlds.death) * probability, 0.0)
            np.add.at(transition[:, direction], (np.arange(cells), column), step)
    return FiniteMDP(transition, reward, np.eye(cells)[worlds.start[world]])
