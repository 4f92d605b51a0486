"""Bayesian Policy Distillation: the numbers of the method and the state of one training run.

`replay.Replay` holds transitions, `objective` gives the gradients, `update` is one step, `BayesianTraining` takes them;
`distillation.py` says what comes before and after.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import get_args

import torch

from ..config import AnnealingName, NoiseName, Precision, PriorName
from ..datasets.replay import Replay
from ..errors import DistillError
from ..priors import prior
from .accelerator import Captured, DeviceBits
from .adam import Tracked, corrections
from .annealing import annealed
from .compiled import Compiled
from .critic import CriticForm
from .noise import RandomBits
from .objective import Batch, Objective
from .student import BayesianStudent, Form
from .update import CriticUpdate, StudentUpdate

_CRITIC_WIDTHS = (256, 256)
_CRITIC_LEARNING_RATE = 3e-4


@dataclass(frozen=True)
class Hyperparameters:
    """Numbers of the method; the command line's `TrainConfig` carries them with their help."""

    hidden: tuple[int, ...]
    iterations: int
    batch: int
    learning_rate: float
    data_weight: float
    value_weight: float
    gamma: float
    tau: float
    observation_noise: float = 0.0
    noise: NoiseName = "correct"
    """official: the published code's noise, initial means and raw actions in the loss."""
    prior: PriorName = "log-uniform"
    prior_scale: float | None = None
    annealing: AnnealingName = "linear"
    critic: bool | None = None
    """Whether critics are trained; None: where value_weight > 0. With critics the student moves every second step."""
    precision: Precision = "float32"
    compiled: bool = False
    """Compile the step: seconds to a minute at the start, a faster iteration, other rounding."""
    action_range: tuple[tuple[float, ...], tuple[float, ...]] | None = None
    """(low, high) in the environment's units, read with official noise only; None: the actions are within +-1."""


def objective_of(sizes: tuple[int, ...], numbers: Hyperparameters) -> Objective:
    """The objective that the numbers describe.

    Raises:
        DistillError: an unknown name (the message lists the valid ones), or options that contradict each other.
    """
    for option, got, valid in (
        ("noise", numbers.noise, get_args(NoiseName)),
        ("precision", numbers.precision, get_args(Precision)),
    ):
        if got not in valid:
            raise DistillError(f"{option}: got {got!r}, expected one of {', '.join(valid)}")
    annealed(0, 1, numbers.annealing)
    with_critic = numbers.value_weight > 0.0 if numbers.critic is None else numbers.critic
    if numbers.value_weight > 0.0 and not with_critic:
        raise DistillError(
            f"value weight: got {numbers.value_weight} without a critic, expected 0; leave the critic in or set it to 0"
        )
    middle = half = None
    if numbers.noise == "official" and numbers.action_range is not None:
        low, high = numbers.action_range
        middle = tuple((a + b) / 2 for a, b in zip(low, high, strict=True))
        half = tuple((b - a) / 2 for a, b in zip(low, high, strict=True))
    critic_sizes = (sizes[0] + sizes[-1], *_CRITIC_WIDTHS, 1)
    return Objective(
        student=Form(sizes, numbers.noise, numbers.precision),
        prior=prior(numbers.prior, numbers.prior_scale, clipped=numbers.noise == "official"),
        critic=CriticForm(critic_sizes, numbers.precision) if with_critic else None,
        value_weight=numbers.value_weight,
        gamma=numbers.gamma,
        observation_noise=numbers.observation_noise,
        middle=middle,
        half=half,
    )


class BayesianTraining:
    """State of one training run: student, critics, optimisers and the random streams that drive them.

    With several seeds as many students train as one, stacked on a leading axis. Each has the random streams of its own
    seed, so a student sees the same minibatches and the same noise as alone and comes out the same up to the rounding
    of batched products (on an accelerator the noise is the device's own).
    """

    def __init__(
        self, sizes: tuple[int, ...], numbers: Hyperparameters, seed: int | Sequence[int], device: str = "cpu"
    ) -> None:
        self.numbers = numbers
        self.objective = objective_of(sizes, numbers)
        self.iteration = 0
        self._device = torch.device(device)
        self._stacked = not isinstance(seed, int)
        seeds = [seed] if isinstance(seed, int) else list(seed)
        self._seeds = seeds
        self._generators = [torch.Generator().manual_seed(each) for each in seeds]
        on_cpu = self._device.type == "cpu"
        self._bits = [RandomBits(each) if on_cpu else DeviceBits(each, self._device) for each in seeds]
        form, critic_form = self.objective.student, self.objective.critic
        students = [BayesianStudent.fresh(form, generator).values for generator in self._generators]
        self.student = BayesianStudent(form, self._stack(students))
        self._tracked_student = Tracked.start(self.student.values)
        self._errors = torch.zeros(())
        self.critic: torch.Tensor | None = None
        if critic_form is not None:
            self.critic = self._stack([critic_form.fresh(generator) for generator in self._generators])
            self._tracked_critic = Tracked.start(self.critic)
            self.critic_target = self.critic.clone()
            self.student_target = self.student.copy()
        self._update_student: Callable[..., torch.Tensor] = StudentUpdate(self.objective, numbers.tau)
        self._update_critic: Callable[..., torch.Tensor] = CriticUpdate(self.objective)
        if not on_cpu or numbers.compiled:
            wrap = Compiled if on_cpu else Captured
            self._update_student, self._update_critic = wrap(self._update_student), wrap(self._update_critic)

    @property
    def error(self) -> float:
        """Squared error of the student's newest step; the mean over stacked students."""
        return float(self._errors.mean())

    @property
    def errors(self) -> torch.Tensor:
        """Squared error of each stacked student's newest step (students,), or () of the only one."""
        return self._errors

    @torch.no_grad()
    def step(self, *replays: Replay) -> None:
        """One iteration on one minibatch a student; stacked ones draw from a replay each, or all from one."""
        numbers, objective = self.numbers, self.objective
        batch = self._sample(replays)
        self.iteration += 1
        steps = self.iteration
        critics: tuple[torch.Tensor, ...] = ()
        if self.critic is not None:
            fields = (getattr(batch, field.name) for field in dataclasses.fields(Batch))
            targets = self.critic_target, self.student_target.values
            bits = self._draw(objective.target_bits(numbers.batch))
            rates = self._tensor(corrections(steps, _CRITIC_LEARNING_RATE))
            self._update_critic(*self._tracked_critic.tensors(), *targets, *fields, bits, rates)
            if self.iteration % 2:  # TD3: the student and the targets move every second step
                return
            steps, critics = steps // 2, (self.critic, *targets)
        kl_weight = annealed(self.iteration, numbers.iterations, numbers.annealing) / numbers.data_weight
        rates = self._tensor((*corrections(steps, numbers.learning_rate), kl_weight))
        bits = self._draw(objective.bits(numbers.batch))
        labelled = batch.observations, batch.teacher_actions, batch.error_weights
        self._errors = self._update_student(*self._tracked_student.tensors(), *labelled, bits, rates, *critics)

    def state(self) -> dict[str, torch.Tensor]:
        """Everything that `restore` needs: float32, and uint8 for the random streams."""
        state = {f"generator.{index}": each.get_state() for index, each in enumerate(self._generators)}
        state |= {f"bits.{index}": each.state() for index, each in enumerate(self._bits)}
        return state | self._tensors()

    @torch.no_grad()
    def restore(self, state: dict[str, torch.Tensor], iteration: int, error: float = 0.0) -> None:
        """Go back to a `state()` taken after `iteration` iterations of a run with the same numbers and this `error`."""
        self.iteration, self._errors = iteration, torch.tensor(error)
        for index, (generator, stream) in enumerate(zip(self._generators, self._bits, strict=True)):
            generator.set_state(state[f"generator.{index}"])
            stream.restore(state[f"bits.{index}"])
        for name, tensor in self._tensors().items():
            tensor.copy_(state[name])

    def alone(self, index: int) -> dict[str, torch.Tensor]:
        """What `restore` of a run with one student takes to go on, on the host, as stacked student `index`.

        The device's own noise is not carried over: on the host it starts anew.
        """
        stream = self._bits[index]
        bits = stream.state() if isinstance(stream, RandomBits) else RandomBits(self._seeds[index]).state()
        state = {"generator.0": self._generators[index].get_state(), "bits.0": bits}
        return state | {name: tensor[index].cpu().clone() for name, tensor in self._tensors().items()}

    def _tensors(self) -> dict[str, torch.Tensor]:
        tensors = {f"student.{name}": tensor for name, tensor in vars(self._tracked_student).items()}
        if self.critic is not None:
            tensors |= {f"critic.{name}": tensor for name, tensor in vars(self._tracked_critic).items()}
            tensors |= {"critic_target": self.critic_target, "student_target": self.student_target.values}
        return tensors

    def _tensor(self, numbers: tuple[float, ...]) -> torch.Tensor:
        return torch.tensor(numbers, device=self._device)

    def _stack(self, tensors: list[torch.Tensor]) -> torch.Tensor:
        return (torch.stack(tensors) if self._stacked else tensors[0]).to(self._device)

    def _draw(self, count: int) -> torch.Tensor:
        return self._stack([stream.draw(count) for stream in self._bits])

    def _sample(self, replays: tuple[Replay, ...]) -> Batch:
        transitions = self.critic is not None
        sources = replays if len(replays) > 1 else replays * len(self._generators)
        batches = [
            source.sample(self.numbers.batch, each, transitions=transitions)
            for source, each in zip(sources, self._generators, strict=True)
        ]
        if not self._stacked and self._device.type == "cpu":
            return batches[0]
        return Batch(
            *(self._stack([getattr(batch, field.name) for batch in batches]) for field in dataclasses.fields(Batch))
        )
