"""Adam (Kingma and Ba 2015) on flat tensors, in place: a few lines that fuse with what comes before them."""

from __future__ import annotations

from dataclasses import dataclass

import torch

_FIRST, _SECOND = 0.9, 0.999
_FLOOR = 1e-8


@dataclass(frozen=True)
class Tracked:
    """Trained numbers with the running means of their gradient and of its square, all of one shape."""

    values: torch.Tensor
    first: torch.Tensor
    second: torch.Tensor

    @staticmethod
    def start(values: torch.Tensor) -> Tracked:
        """Moments of zero."""
        return Tracked(values, torch.zeros_like(values), torch.zeros_like(values))

    def tensors(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Values, first moment, second moment."""
        return self.values, self.first, self.second


def corrections(step: int, learning_rate: float) -> tuple[float, float]:
    """Bias corrections of the step-th step, from 1: (learning rate / (1 - b1^t), 1 / sqrt(1 - b2^t))."""
    return learning_rate / (1.0 - _FIRST**step), (1.0 - _SECOND**step) ** -0.5


def step_divisor(second: torch.Tensor, root: torch.Tensor) -> torch.Tensor:
    """sqrt(v_hat) + eps, what a step is divided by: the diagonal metric of Adam; `root` is the second correction."""
    return second.sqrt().mul_(root).add_(_FLOOR)


def adam_step(tracked: Tracked, gradient: torch.Tensor, rates: torch.Tensor) -> None:
    """Change values and moments in place; `rates` (2,) are the step's `corrections`."""
    values, first, second = tracked.tensors()
    rate, root = rates.unbind()
    first.lerp_(gradient, 1.0 - _FIRST)
    second.mul_(_SECOND).addcmul_(gradient, gradient, value=1.0 - _SECOND)
    values.sub_(first / step_divisor(second, root) * rate)
