"""What an error of an action costs, by the teacher's own critics: weights of the squared errors.

A student too small to copy every action has to choose where to be wrong. The squared error holds all errors to be
equal; the teacher's critics know better (cost-sensitive imitation: Ross and Bagnell 2014, AggreVaTe). To second order
an error e of action k costs c_k e^2, and c_k is what Q falls by where action k moves away from the teacher's, divided
by how far squared. The critics' layers are piecewise linear, so derivatives would not show it: the action really moves.
"""

from __future__ import annotations

import numpy as np
import torch

from ..environment import Array
from ..errors import DistillError
from .critics import FrozenCritics

_MOVE = 0.3  # of half the action range: about twice the error of a student that is as small as can be
_LEAST, _MOST = 0.2, 10.0  # shares of the mean cost: every label keeps a say, and none drowns the others
_ROWS = 4096  # at a time


class ErrorCosts:
    """Weights of squared errors; their scale is that of the first rows that it is asked about."""

    def __init__(self, critics: FrozenCritics, low: Array, high: Array) -> None:
        """`low` and `high` (action,) bound the actions."""
        self._critics = critics
        self._middle, self._half = (low + high) / 2, (high - low) / 2
        self._scale: float | None = None

    def __call__(self, observations: Array, actions: Array) -> Array:
        """Weights (n, action) of errors of the teacher's `actions` (n, action) at `observations` (n, observation).

        Raises:
            DistillError: critics to whom no error costs anything, or whose values are no finite numbers.
        """
        shares = ((actions - self._middle) / self._half).astype(np.float32)
        starts = range(0, len(shares), _ROWS)
        blocks = ((np.array(observations[row : row + _ROWS]), shares[row : row + _ROWS]) for row in starts)
        costs = np.concatenate([self._costs(*map(torch.from_numpy, block)) for block in blocks])
        if self._scale is None:
            self._scale = float(costs.mean(dtype=np.float64))
        if not np.isfinite(costs).all() or self._scale <= 0.0:
            raise DistillError(
                f"teacher's critics: got costs of errors between {costs.min():g} and {costs.max():g}, expected finite "
                "ones, some above 0; leave them out with --cost-sensitive False"
            )
        share = np.minimum(costs / self._scale, _MOST)
        return (_LEAST + (1.0 - _LEAST) * share).astype(np.float32)

    def _costs(self, observations: torch.Tensor, actions: torch.Tensor) -> Array:
        """(n, action): what Q falls by, both ways together, for each unit of the squared distance; never below 0."""
        here = self._critics.values(observations, actions)
        found = []
        for action in range(actions.shape[1]):
            fall, square = torch.zeros_like(here), torch.zeros_like(here)
            for move in (-_MOVE, _MOVE):
                moved = actions.clone()
                moved[:, action] = (moved[:, action] + move).clamp(-1.0, 1.0)
                fall += here - self._critics.values(observations, moved)
                square += (moved[:, action] - actions[:, action]) ** 2
            found.append((fall / square).clamp_min(0.0))
        costs: Array = torch.stack(found, dim=1).numpy()
        return costs
