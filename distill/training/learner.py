"""What trains a student from scratch, behind one face: Bayesian training or one of its rivals."""

from __future__ import annotations

from typing import Protocol

import torch

from ..config import TrainConfig
from ..datasets.replay import Replay
from ..environment import EnvironmentFacts
from ..shrink import Ranked
from .bayesian_training import BayesianTraining, Hyperparameters
from .plain_training import PlainTraining
from .sparse_network import SparseNetwork
from .student import Form

_WORTH_COMPILING = 15_000  # iterations


class Learner(Protocol):
    """A training run that can say at any time which network it would prune to."""

    @property
    def iteration(self) -> int:
        """Steps done."""

    @property
    def error(self) -> float:
        """Squared error of the newest minibatch, shares of half the action range."""

    def step(self, replay: Replay) -> None:
        """One iteration on one minibatch."""

    def pruned(self, threshold: float) -> tuple[SparseNetwork, Ranked | None]:
        """The deterministic network left at a threshold of log alpha, and what ranked it; the run goes on unharmed."""

    def state(self) -> dict[str, torch.Tensor]:
        """Everything that `restore` needs."""

    def restore(self, state: dict[str, torch.Tensor], iteration: int, error: float) -> None:
        """Go back to a `state()` taken after `iteration` iterations, the newest with this `error`."""

    def skip(self, iteration: int) -> None:
        """Count as having done `iteration` steps: a resumed run is past them and needs their weights no more."""


class _Around:
    """Hands through what both trainings have."""

    _training: BayesianTraining | PlainTraining

    @property
    def iteration(self) -> int:
        """Steps done."""
        return self._training.iteration

    @property
    def error(self) -> float:
        """Squared error of the newest minibatch."""
        return self._training.error

    def step(self, replay: Replay) -> None:
        """One iteration on one minibatch."""
        self._training.step(replay)

    def state(self) -> dict[str, torch.Tensor]:
        """Trained numbers, moments and random streams."""
        return self._training.state()

    def restore(self, state: dict[str, torch.Tensor], iteration: int, error: float) -> None:
        """Go back to a `state()`."""
        self._training.restore(state, iteration, error)

    def skip(self, iteration: int) -> None:
        """Count as having done `iteration` steps."""
        self._training.iteration = iteration


class BayesianLearner(_Around):
    """Bayesian Policy Distillation."""

    def __init__(self, training: BayesianTraining) -> None:
        self._training: BayesianTraining = training

    def pruned(self, threshold: float) -> tuple[SparseNetwork, Ranked | None]:
        """Keeps log alpha < threshold."""
        student = self._training.student
        log_alpha = torch.cat([matrix.reshape(-1) for matrix in student.log_alphas()])
        mask = (log_alpha < threshold).float()
        return SparseNetwork(student.form, student.mean, student.bias, mask), Ranked(student.mean.clone(), log_alpha)


class PlainLearner(_Around):
    """A rival: proximal L1, gradual magnitude pruning, or a dense student."""

    def __init__(self, training: PlainTraining) -> None:
        self._training: PlainTraining = training

    def pruned(self, threshold: float) -> tuple[SparseNetwork, Ranked | None]:
        """What has survived; there is no posterior, so the threshold means nothing."""
        network = self._training.network
        return SparseNetwork(network.form, network.weight, network.bias, self._training.mask()), None


def compiled(config: TrainConfig) -> bool:
    """Whether steps are compiled: as asked for, else where a run is long enough for compiling to pay."""
    return config.iterations >= _WORTH_COMPILING if config.compiled is None else config.compiled


def hyperparameters(config: TrainConfig, facts: EnvironmentFacts) -> Hyperparameters:
    """The numbers of the method that the options ask for."""
    value_weight = config.value_weight
    if value_weight is None:
        value_weight = 0.5 if config.states == "dataset" and config.critic is not False else 0.0
    return Hyperparameters(
        hidden=config.hidden,
        iterations=config.iterations,
        batch=config.batch,
        learning_rate=config.learning_rate,
        data_weight=config.data_weight,
        value_weight=value_weight,
        gamma=config.gamma,
        tau=0.005,
        observation_noise=config.observation_noise,
        noise=config.noise,
        prior=config.prior,
        prior_scale=config.prior_scale,
        annealing=config.annealing,
        critic=config.critic,
        precision=config.precision,
        compiled=compiled(config),
        action_range=(tuple(facts.action_low.tolist()), tuple(facts.action_high.tolist())),
    )


def make_learner(config: TrainConfig, facts: EnvironmentFacts) -> Learner:
    """The learner that the options ask for, with fresh weights."""
    sizes = (facts.observation_size, *config.hidden, len(facts.action_low))
    numbers = hyperparameters(config, facts)
    if config.method == "bayesian":
        return BayesianLearner(BayesianTraining(sizes, numbers, config.seed))
    weights = Form(sizes).weights
    final_density = max(config.kept_weights) / weights if config.kept_weights else 0.3
    training = PlainTraining(sizes, numbers, config.seed, penalty=config.method, final_density=min(final_density, 1.0))
    return PlainLearner(training)
