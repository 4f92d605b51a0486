"""One training step as a function of tensors alone, which it changes in place: what is compiled and captured."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from .adam import Tracked, adam_step
from .objective import Batch, Objective, critic_gradient, student_gradient


@dataclass(frozen=True)
class CriticUpdate:
    """One step of both critics."""

    objective: Objective

    def __call__(self, *tensors: torch.Tensor) -> torch.Tensor:
        """Critics (values and moments), their target, the student's target, a batch's fields, bits, rates (2,)."""
        critic, target, student_target = Tracked(*tensors[:3]), tensors[3], tensors[4]
        batch, bits, rates = Batch(*tensors[5:-2]), tensors[-2], tensors[-1]
        gradient = critic_gradient(self.objective, critic.values, target, student_target, batch, bits=bits)
        adam_step(critic, gradient, rates)
        return rates


@dataclass(frozen=True)
class StudentUpdate:
    """One step of the student and, with critics, of both targets."""

    objective: Objective
    tau: float

    def __call__(self, *tensors: torch.Tensor) -> torch.Tensor:
        """Student (values and moments), observations, teacher's actions, weights of errors, bits, rates (3,): Adam's
        and the KL's weight.

        With critics also: critics' values, their target, the student's target. Returns the squared error (...,).
        """
        student, labelled, (bits, rates), critics = Tracked(*tensors[:3]), tensors[3:6], tensors[6:8], tensors[8:]
        gradient, error = student_gradient(
            self.objective,
            student.values,
            *labelled,
            bits=bits,
            kl_weight=rates[2],
            critic_values=critics[0] if critics else None,
        )
        adam_step(student, gradient, rates[:2])
        if critics:  # Polyak averaging: target += tau (source - target)
            critic, critic_target, student_target = critics
            critic_target.lerp_(critic, self.tau)
            student_target.lerp_(student.values, self.tau)
        return error
