"""Twin critics of a pseudo-reward: how it reaches a student whose actions are continuous (Silver et al. 2014; TD3)."""

from __future__ import annotations

import torch

from ..training.adam import Tracked, adam_step, corrections
from ..training.critic import CriticForm, critic_backward, critic_forward, first_by_action

_WIDTHS = (256, 256)
_LEARNING_RATE = 3e-4
_TAU = 0.005  # of the targets' Polyak averages


class PseudoCritic:
    """Learns Qhat(s, a), the discounted sum of pseudo-rewards that follows; observations normalised, actions shares."""

    def __init__(self, observation_size: int, action_size: int, *, gamma: float, seed: int) -> None:
        """`gamma` 0: only the pseudo-reward of the step itself (the table's one-step row)."""
        self.steps = 0
        self._gamma = gamma
        self._actions = action_size
        self._form = CriticForm((observation_size + action_size, *_WIDTHS, 1))
        self._tracked = Tracked.start(self._form.fresh(torch.Generator().manual_seed(seed)))
        self._target = self._tracked.values.clone()

    def step(
        self,
        pairs: torch.Tensor,
        next_pairs: torch.Tensor,
        rewards: torch.Tensor,
        terminated: torch.Tensor,
        known: torch.Tensor,
    ) -> None:
        """One step on rows (batch, observation + action) and what followed; rows that are not `known` count for 0."""
        both = slice(0, 2)
        following = critic_forward(self._form, self._target, next_pairs, both)[-1].squeeze(-1).amin(dim=-2)
        target = rewards + self._gamma * (1.0 - terminated) * following
        values = self._tracked.values
        steps = critic_forward(self._form, values, pairs, both)
        difference = (steps[-1] - target[None, :, None]) * known[None, :, None]
        gradient = critic_backward(self._form, values, steps, difference * (2.0 / len(pairs)))
        self.steps += 1
        adam_step(self._tracked, gradient, torch.tensor(corrections(self.steps, _LEARNING_RATE)))
        self._target.lerp_(values, _TAU)

    def values(self, pairs: torch.Tensor) -> torch.Tensor:
        """Qhat (batch,) of the first critic."""
        return critic_forward(self._form, self._tracked.values, pairs, slice(0, 1))[-1].squeeze(-3).squeeze(-1)

    def by_action(self, pairs: torch.Tensor) -> torch.Tensor:
        """dQhat/da (batch, actions) of the first critic."""
        return first_by_action(self._form, self._tracked.values, pairs, self._actions)[1]

    def state(self) -> dict[str, torch.Tensor]:
        """Everything that `restore` needs."""
        names = "values", "first", "second"
        return dict(zip(names, self._tracked.tensors(), strict=True)) | {"target": self._target}

    def restore(self, state: dict[str, torch.Tensor], steps: int) -> None:
        """Go back to a `state()` taken after so many steps."""
        self.steps = steps
        for name, tensor in self.state().items():
            tensor.copy_(state[name])
