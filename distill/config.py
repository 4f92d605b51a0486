"""The verbs' options; each field's docstring is its --help text."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from .environment import EnvironmentSpec
from .errors import DistillError

SHIPPED_TEACHER = Path("teachers/cart_rail.safetensors")


def in_range(option: str, value: float | None, low: float, high: float) -> None:
    """Refuse NaN and numbers outside [low, high]; None means that the option was left out.

    Raises:
        DistillError: names the option, what it got and what is possible.
    """
    if value is not None and not low <= value <= high:
        raise DistillError(f"{option}: got {value}, expected {low:g} to {high:g}")


def environment_spec(environment: str, arguments: str) -> EnvironmentSpec:
    """Combine --env and --env-kwargs.

    Raises:
        DistillError: the keyword arguments are not a JSON object.
    """
    try:
        parsed: Any = json.loads(arguments)
    except ValueError as error:
        raise DistillError(f"--env-kwargs: got {arguments!r}, expected a JSON object ({error})") from error
    if not isinstance(parsed, dict):
        raise DistillError(f"--env-kwargs: got {arguments!r}, expected a JSON object such as '{{\"history\": 5}}'")
    return EnvironmentSpec(environment, parsed)


@dataclass(frozen=True)
class SourceConfig:
    """The teacher and the environment it acts in."""

    teacher: Path = SHIPPED_TEACHER
    """A .safetensors network of this project or a Stable-Baselines3 .zip (SAC, TQC, TD3, DDPG, PPO, A2C, TRPO)."""
    env: str = "hardware:CartRail-v0"
    """Gymnasium id, `module:Id` where importing a module registers it."""
    env_kwargs: str = "{}"
    """Keyword arguments of the environment as a JSON object."""
    activation: Literal["relu", "tanh"] | None = None
    """Hidden activation of a zip that does not state one readably."""


@dataclass(frozen=True)
class CollectConfig(SourceConfig):
    """Roll the teacher out with exploration noise and write dataset.safetensors."""

    out: Path = Path("build/distill")
    """Folder for dataset.safetensors."""
    episodes: int = 50
    """Whole episodes; a third without noise."""
    noise: float = 0.6
    """Largest noise of an episode, as a share of half the action range."""
    seed: int = 0
    """Seeds starts and noise."""
    json: bool = False
    """Print one JSON object on stdout."""


@dataclass(frozen=True)
class TrainConfig(SourceConfig):
    """Distil the teacher into a sparse Bayesian student and write student.safetensors."""

    out: Path = Path("build/distill")
    """Folder for student.safetensors, dataset.safetensors and distill.json."""
    dataset: Path | None = None
    """Train on this dataset.safetensors; without it the teacher is rolled out first."""
    states: Literal["student", "dataset"] = "student"
    """Whose states: `student` lets the pruned student drive and the teacher label; `dataset` is the offline setting."""
    hidden: tuple[int, ...] = (32, 32)
    """Widths of the student's hidden layers, before pruning."""
    iterations: int = 60_000
    """Steps of Bayesian training."""
    data_weight: float = 2e4
    """|D| of the loss: larger keeps more weights."""
    value_weight: float | None = None
    """h, the weight of the value term; default 0.5 with --states dataset and 0 (no critic) with --states student."""
    threshold: float | None = None
    """Prune at this log alpha; without it 1, 2 and 3 are tried and the smallest that holds is kept."""
    target_return: float = 0.99
    """Share of the teacher's return that the chosen student must hold on the selection episodes."""
    fine_tune_iterations: int = 10_000
    """Steps of deterministic training at the fixed mask; 0 leaves it out."""
    episodes: int = 50
    """Teacher episodes to start from (ignored with --dataset)."""
    noise: float = 0.6
    """Largest exploration noise of a collected episode, as a share of half the action range."""
    round_iterations: int = 2_000
    """Iterations between two student-driven rounds."""
    round_steps: int = 4_000
    """Environment steps of a student-driven round, rounded up to whole episodes."""
    observation_noise: float = 0.01
    """Gaussian noise on the normalised observations in training: keeps the gain low that amplifies sensor noise and
    float32 rounding alike."""
    batch: int = 256
    """Minibatch."""
    learning_rate: float = 1e-3
    """Adam's step size in Bayesian training."""
    fine_tune_learning_rate: float = 1e-3
    """Adam's first step size in fine-tuning; falls along a cosine."""
    gamma: float = 0.99
    """Discount of the critics."""
    selection_episodes: int = 100
    """Episodes on which threshold and fine-tuning are chosen; never those of the report."""
    evaluation_episodes: int = 100
    """Held-out episodes for the reported returns of teacher and student."""
    seed: int = 0
    """Seeds everything; the same seed on the same machine gives the same bytes."""
    json: bool = False
    """Print one JSON object on stdout."""


@dataclass(frozen=True)
class EvaluateConfig(SourceConfig):
    """Play teacher and student on the same held-out episodes."""

    student: Path = Path("build/distill/student.safetensors")
    """The student file."""
    episodes: int = 100
    """Held-out episodes."""
    json: bool = False
    """Print one JSON object on stdout."""


@dataclass(frozen=True)
class TeacherConfig(SourceConfig):
    """Say what a teacher file holds and what it scores."""

    episodes: int = 100
    """Held-out episodes."""
    json: bool = False
    """Print one JSON object on stdout."""
