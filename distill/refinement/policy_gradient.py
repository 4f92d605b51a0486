"""The last stage of a student of any size: up the gradient of the return itself, at its mask.

Proximal policy optimisation (Schulman et al. 2017): what an error costs is learned from where it led, so a student too
small to copy its teacher may act in a way of its own. Every round plays whole training episodes from seeded resets.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from export.student_file import Student

from ..environment import Array, EnvironmentSpec
from ..plant import Plant
from ..rollout import longest_episode
from ..training.adam import Tracked, adam_step, corrections
from ..training.critic import CriticForm, critic_backward, critic_forward
from ..training.sparse_network import SparseNetwork, forward, masked_gradient
from ..training.student import Form
from .variables import Float64

LOOKS = 8  # at the student on the way; every one costs selection episodes
_ROUND_STEPS = 10_000  # of the environment, at least, where episodes last as long as they may
_MOST_ROUNDS = 200
_SIDE_BY_SIDE = 25  # plants that are open at once, however short an environment's episodes are
_WARM_UP = 10  # rounds of the values alone: until then they say nothing
_EPOCHS = 5  # times that a round's rows are used
_BATCH = 1_000
_CLIP = 0.2  # of the ratio of probabilities
_LARGEST_LOG_RATIO = 20.0  # beyond, exp would overflow, and infinity times nothing is no number
_SMOOTHING = 0.95  # lambda of generalised advantages (Schulman et al. 2016)
_LEARNING_RATE = 1e-4  # first; falls in a line to a twentieth
_VALUE_LEARNING_RATE = 1e-3
_VALUE_WIDTHS = (128, 128)


@dataclass(frozen=True)
class GradientNumbers:
    """How long, and how far from the student its actions are drawn."""

    episodes: int
    """Training episodes in all, at most."""
    spread: float
    """Standard deviation of the actions, as a share of half their range."""
    gamma: float
    """Discount."""

    def round_episodes(self, spec: EnvironmentSpec) -> int:
        """What one round plays."""
        return max(4, math.ceil(_ROUND_STEPS / longest_episode(spec)))


@dataclass(frozen=True)
class _Episode:
    """What was played: rows (n, ...) and where the last one led."""

    observations: Array  # (n, inputs)
    actions: Array  # (n, actions), as they were drawn: shares of half their range, some beyond 1
    rewards: Float64  # (n,)
    final_observation: Array  # (inputs,)
    terminated: bool


class PolicyGradient:
    """One ascent; goes on from its `state()` after as many rounds as have their returns in `played`."""

    def __init__(
        self, spec: EnvironmentSpec, student: Student, numbers: GradientNumbers, *, seed: int, first_seed: int
    ) -> None:
        """Episodes are seeded `first_seed`, `first_seed` + 1, ..."""
        self.returns: list[list[float]] = []  # of each round's episodes
        self._spec, self._student, self._numbers = spec, student, numbers
        self._first_seed = first_seed
        self._each = numbers.round_episodes(spec)
        self.generations = min(_MOST_ROUNDS, numbers.episodes // self._each)
        form = Form(student.widths)
        weight = torch.cat([torch.from_numpy(layer.weight).flatten() for layer in student.layers])
        bias = torch.cat([torch.from_numpy(layer.bias) for layer in student.layers])
        self._network = SparseNetwork(form, weight, bias, (weight != 0.0).float())
        self._lives = (self._network.values != 0.0).float()  # biases that are 0 stay 0: no parameter is added
        self._policy = Tracked.start(self._network.values)
        self._value_form = CriticForm((student.widths[0], *_VALUE_WIDTHS, 1))
        self._generator = torch.Generator().manual_seed(seed)
        self._value = Tracked.start(self._value_form.fresh(self._generator))
        self._steps = torch.zeros(2, dtype=torch.int32)  # of the policy, of the values
        self._scale = torch.zeros(1)  # of rewards: the values' network sees numbers near 10
        self._mean = np.tile(student.observation_mean, student.history)
        self._unit = np.tile(student.observation_scale, student.history)

    def state(self) -> dict[str, torch.Tensor]:
        """Everything that `restore` needs, beside the returns."""
        names = "values", "first", "second"
        tensors = {f"policy_{name}": value for name, value in zip(names, self._policy.tensors(), strict=True)}
        tensors |= {f"value_{name}": value for name, value in zip(names, self._value.tensors(), strict=True)}
        return tensors | {"steps": self._steps, "scale": self._scale, "generator": self._generator.get_state()}

    def restore(self, state: dict[str, torch.Tensor]) -> None:
        """Go back to a `state()`."""
        for name, tensor in self.state().items():
            tensor.copy_(state[name])
        self._generator.set_state(state["generator"])

    def run(self, on_round: Callable[[], None], played: list[list[float]], looked: int) -> Iterator[Student]:
        """Play and climb; yields the student at `LOOKS` times, evenly spread, but for the first `looked` of them.

        Raises:
            DistillError: as `Plant`.
        """
        due = sorted({self.generations * part // LOOKS for part in range(1, LOOKS + 1)} - {0})
        self.returns = list(played)
        plants = [Plant(self._spec) for _ in range(min(self._each, _SIDE_BY_SIDE))]
        try:
            for done in range(len(played), self.generations + 1):
                if done in due[looked:]:  # first: what was saved just before a look is looked at
                    yield self.student()
                if done < self.generations:
                    self._round(plants, done)
                    on_round()
        finally:
            for plant in plants:
                plant.close()

    def student(self) -> Student:
        """The student as it is now: the mean of its actions."""
        layers = tuple(
            dataclasses.replace(layer, weight=weight.numpy(), bias=bias.numpy(), mean=None, log_alpha=None)
            for layer, (weight, bias) in zip(self._student.layers, self._network.layers(), strict=True)
        )
        return dataclasses.replace(self._student, layers=layers, threshold=None, evaluation={})

    @torch.no_grad()
    def _round(self, plants: Sequence[Plant], done: int) -> None:
        first = self._first_seed + done * self._each
        seeds = range(first, first + self._each)
        blocks = (seeds[start : start + len(plants)] for start in range(0, len(seeds), len(plants)))
        episodes = [episode for block in blocks for episode in self._play(plants[: len(block)], block)]
        self.returns.append([float(episode.rewards.sum()) for episode in episodes])
        if not self._scale:
            typical = float(np.mean(np.abs(np.concatenate([episode.rewards for episode in episodes]))))
            self._scale.fill_(10.0 * (1.0 - self._numbers.gamma) / (typical or 1.0))
        pairs = [self._advantages(episode) for episode in episodes]
        advantages, targets = (torch.from_numpy(np.concatenate(each)).float() for each in zip(*pairs, strict=True))
        advantages = (advantages - advantages.mean()) / (advantages.std(correction=0) + 1e-8)
        observations = self._normalised(np.concatenate([episode.observations for episode in episodes]))
        actions = torch.from_numpy(np.concatenate([episode.actions for episode in episodes]))
        before = self._log_probability(actions, self._network.act(observations))
        rate = _LEARNING_RATE * max(0.05, 1.0 - done / self.generations)
        for _ in range(_EPOCHS):
            for rows in torch.split(torch.randperm(len(actions), generator=self._generator), _BATCH):
                self._learn_values(observations[rows], targets[rows])
                if done >= min(_WARM_UP, self.generations // 4):
                    self._climb(observations[rows], actions[rows], advantages[rows], before[rows], rate)

    def _play(self, plants: Sequence[Plant], seeds: Sequence[int]) -> list[_Episode]:
        """One episode on each plant, side by side; noise belongs to the episode's seed."""
        low, high = plants[0].action_low, plants[0].action_high
        middle, half = (low + high) / 2, (high - low) / 2
        generators = [np.random.default_rng((seed, 0x505047)) for seed in seeds]
        current = np.stack([plant.reset(seed) for plant, seed in zip(plants, seeds, strict=True)])
        rows: list[list[tuple[Array, Array, float]]] = [[] for _ in plants]
        ended: list[_Episode | None] = [None] * len(plants)
        playing = list(range(len(plants)))
        while playing:
            means = self._network.act(self._normalised(current[playing])).numpy()
            following = []
            for mean, index in zip(means, playing, strict=True):
                noise = generators[index].standard_normal(mean.shape).astype(np.float32)
                action = mean + np.float32(self._numbers.spread) * noise
                executed = middle + half * np.minimum(np.maximum(action, -1.0), 1.0)
                observation, reward, terminated, truncated, _ = plants[index].step(executed.astype(np.float32))
                rows[index].append((current[index].copy(), action, reward))
                current[index] = observation
                if terminated or truncated:
                    seen, drawn, rewards = zip(*rows[index], strict=True)
                    ended[index] = _Episode(np.stack(seen), np.stack(drawn), np.array(rewards), observation, terminated)
                else:
                    following.append(index)
            playing = following
        return [episode for episode in ended if episode is not None]

    def _advantages(self, episode: _Episode) -> tuple[Float64, Float64]:
        """Generalised advantages and targets of the values (n,); a time limit is no end of what was going on."""
        numbers = self._numbers
        places = np.concatenate((episode.observations, episode.final_observation[None]))
        values = self._values(self._normalised(places)).numpy().astype(np.float64)
        if episode.terminated:
            values[-1] = 0.0
        surprise = episode.rewards * float(self._scale) + numbers.gamma * values[1:] - values[:-1]
        advantages, running = np.zeros_like(surprise), 0.0
        for row in range(len(surprise) - 1, -1, -1):
            running = surprise[row] + numbers.gamma * _SMOOTHING * running
            advantages[row] = running
        return advantages, advantages + values[:-1]

    def _learn_values(self, observations: torch.Tensor, targets: torch.Tensor) -> None:
        steps = critic_forward(self._value_form, self._value.values, observations, slice(0, 2))
        upstream = (steps[-1] - targets[None, :, None]) * (2.0 / len(targets))
        gradient = critic_backward(self._value_form, self._value.values, steps, upstream)
        self._steps[1] += 1
        adam_step(self._value, gradient, torch.tensor(corrections(int(self._steps[1]), _VALUE_LEARNING_RATE)))

    def _climb(
        self,
        observations: torch.Tensor,
        actions: torch.Tensor,
        advantages: torch.Tensor,
        before: torch.Tensor,
        rate: float,
    ) -> None:
        network = self._network
        hidden = forward(network.form, network.values, observations)
        ratio = (self._log_probability(actions, hidden[-1]) - before).clamp(max=_LARGEST_LOG_RATIO).exp()
        # the clipped objective is flat where the ratio has left its bounds on the side that the advantage wants
        counts = torch.where(advantages > 0.0, ratio < 1.0 + _CLIP, ratio > 1.0 - _CLIP)
        pull = (advantages * ratio * counts / len(advantages))[:, None]
        upstream = pull * (hidden[-1] - actions) / self._numbers.spread**2
        gradient = masked_gradient(network.form, network.values, hidden, upstream, network.mask) * self._lives
        self._steps[0] += 1
        adam_step(self._policy, gradient, torch.tensor(corrections(int(self._steps[0]), rate)))

    def _log_probability(self, actions: torch.Tensor, means: torch.Tensor) -> torch.Tensor:
        """(batch,), but for a constant."""
        return -((actions - means) ** 2).sum(dim=-1) / (2.0 * self._numbers.spread**2)

    def _values(self, observations: torch.Tensor) -> torch.Tensor:
        """Mean of both networks (batch,), in the scale of the rewards that they see."""
        steps = critic_forward(self._value_form, self._value.values, observations, slice(0, 2))
        return steps[-1].squeeze(-1).mean(dim=-2)

    def _normalised(self, observations: Array) -> torch.Tensor:
        return torch.from_numpy(((observations - self._mean) / self._unit).astype(np.float32))
