"""Checks of `distill train`'s options, and what of them a student file records."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from export.student_file import LAYER_LIMIT, student_digest

from .config import ShrinkConfig, TrainConfig, in_range, refuse_inside
from .errors import DistillError
from .evaluate import LARGEST_EPISODES
from .refine_config import RefineConfig

_LARGEST_THRESHOLD = 20.0  # of log alpha: keeps everything
# where files lie, and how a run is carried out, must change neither the bytes nor the right to resume
_NOT_RECORDED = (
    *("out", "teacher", "vecnormalize", "dataset", "json", "tensorboard"),
    *("resume", "jobs", "seeds", "device"),
)


def check_config(config: TrainConfig) -> None:
    """Refuse impossible numbers before anything is computed.

    Raises:
        DistillError: names the option, what it got and what is possible.
    """
    ranges: dict[str, tuple[float, float]] = {
        "iterations": (1, 1e9),
        "data_weight": (1e-6, 1e12),
        "prior_scale": (1e-12, 1e12),
        "batch": (1, 1_000_000),
        "learning_rate": (1e-9, 1.0),
        "fine_tune_learning_rate": (1e-9, 1.0),
        "fine_tune_iterations": (0, 1e9),
        "fine_tune_doublings": (0, 10),
        "shrink": (0.01, 0.999),
        "round_iterations": (1, 1e9),
        "round_steps": (1, 1e7),
        "recent_rows": (1, 1e12),
        "episodes": (1, LARGEST_EPISODES),
        "selection_episodes": (1, LARGEST_EPISODES),  # beyond, choosing and reporting would share episodes
        "evaluation_episodes": (1, LARGEST_EPISODES),
        "exploration_noise": (0.0, 10.0),
        "observation_noise": (0.0, 10.0),
        "value_weight": (0.0, 1e6),
        "threshold": (-_LARGEST_THRESHOLD, _LARGEST_THRESHOLD),
        "target_return": (0.01, 2.0),
        "gamma": (0.0, 0.999999),
        "seed": (0, 10_000),  # a seed moves the training episodes by a million
        "seeds": (1, 1_000),
        "jobs": (1, 1_024),
    }
    for name, (low, high) in ranges.items():
        in_range(f"--{name.replace('_', '-')}", getattr(config, name), low, high)
    refuse_inside(config.out, teacher=config.teacher, vecnormalize=config.vecnormalize, dataset=config.dataset)
    if len(config.hidden) >= LAYER_LIMIT or any(not 1 <= width <= 65_535 for width in config.hidden):
        raise DistillError(
            f"--hidden: got {config.hidden}, expected at most {LAYER_LIMIT - 1} widths from 1 to 65535; leave some out"
        )
    if any(size < 1 for size in config.kept_weights):
        raise DistillError(f"--kept-weights: got {config.kept_weights}, expected numbers of weights from 1")
    in_range("--seed + --seeds", config.seed + config.seeds - 1, 0, 10_000)
    _refuse_without_effect(config)
    if config.fine_tune_iterations == 0 and config.kept_weights:
        raise DistillError(
            "--kept-weights: got sizes to visit and --fine-tune-iterations 0, expected steps to shrink with; "
            "leave one of the two out"
        )
    if config.device == "cuda" and (config.resume or config.method != "bayesian"):
        raise DistillError(
            "--device cuda: got --resume or another --method than bayesian, expected neither; it trains Bayesian "
            "students from the start, leave --device out for the others"
        )
    if config.method != "bayesian":
        if config.ranking == "posterior":
            raise DistillError(
                f"--ranking: got posterior with --method {config.method}, which has none, expected saliency or "
                "magnitude"
            )
        if config.value_weight or config.critic:
            raise DistillError(
                f"--method {config.method}: got a critic or a value weight, expected neither; only bayesian uses them"
            )


def _refuse_without_effect(config: TrainConfig) -> None:
    """Refuse options that the chosen method never reads, where they differ from their defaults."""
    unread: dict[str, tuple[str, ...]] = {
        "bayesian": (),
        "l1": ("prior", "prior_scale", "noise", "threshold", "precision"),
        "magnitude": ("prior", "prior_scale", "noise", "threshold", "precision", "annealing", "data_weight"),
        "dense": ("prior", "prior_scale", "noise", "threshold", "precision", "annealing", "data_weight"),
    }
    defaults = TrainConfig()
    for name in unread[config.method]:
        if getattr(config, name) != getattr(defaults, name):
            raise DistillError(
                f"--{name.replace('_', '-')}: got {getattr(config, name)} with --method {config.method}, which has "
                "no use for it; leave one of the two out"
            )


def recorded_options(config: ShrinkConfig) -> dict[str, Any]:
    """The options that make a student what it is, as JSON values; a student to begin with by its sha256.

    Raises:
        ExportError: that student cannot be read.
    """
    recorded = {
        key: str(value) if isinstance(value, Path) else list(value) if isinstance(value, tuple) else value
        for key, value in dataclasses.asdict(config).items()
        if key not in _NOT_RECORDED
    }
    if isinstance(config, RefineConfig):
        recorded["student"] = student_digest(config.student)
    return recorded
