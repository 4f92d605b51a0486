"""Several students of one teacher, one seed each, a process a seed; no byte depends on how many run at a time."""

from __future__ import annotations

import dataclasses
import sys
from typing import Any

import numpy as np

from .config import TrainConfig
from .errors import DistillError
from .processes import run_all
from .result_file import replace_with_copy, writable, write_json
from .train_options import check_config

_SHOWN = ("seed", "kept_weights", "kept_parameters", "bytes", "return_iqm", "target_held", "cpu_seconds")


def distil_seeds(config: TrainConfig) -> dict[str, Any]:
    """Train `config.seeds` students into OUT/seed0, ..., and put the best one into OUT; returns what distill.json says.

    The best is the smallest that holds the target on the selection episodes, else the one with the best return there.

    Raises:
        DistillError: as `distil`; seeds that had finished stay, and --resume goes on with the others.
    """
    check_config(config)
    writable(config.out)
    if config.device == "cuda":
        train_together(config, config.device)
        config = dataclasses.replace(config, resume=True, device="cpu")  # each goes on from the end of training
    runs = [
        dataclasses.replace(config, seed=seed, seeds=1, jobs=1, out=config.out / f"seed{seed}")
        for seed in range(config.seed, config.seed + config.seeds)
    ]

    def say(run: TrainConfig, result: dict[str, Any]) -> None:
        figures = f"{result['kept_weights']} weights, return {result['return_iqm']:.1f}"
        print(f"seed {run.seed}: {figures}", file=sys.stderr)

    found = run_all(_distil, runs, config.jobs, say)
    results = {run.seed: result for run, result in zip(runs, found, strict=True)}
    best = min(results, key=lambda seed: _order(results[seed]))
    for name in ("student.safetensors", "dataset.safetensors"):
        source = config.out / f"seed{best}" / name
        if source.is_file():
            replace_with_copy(source, config.out / name)
    result = {
        **results[best],
        "student": str(config.out / "student.safetensors"),
        "best_seed": best,
        "seeds": [{key: {**results[seed], "seed": seed}[key] for key in _SHOWN} for seed in sorted(results)],
        "return_iqm_mean": float(np.mean([result["return_iqm"] for result in results.values()])),
        "cpu_seconds": sum(result["cpu_seconds"] for result in results.values()),
    }
    if config.dataset is None:
        result["dataset"] = str(config.out / "dataset.safetensors")
    write_json(config.out / "distill.json", result)
    return result


def train_together(config: TrainConfig, device: str) -> None:
    """Bayesian training of all seeds as one stack; leaves each one's checkpoint in its folder, as if trained alone.

    Raises:
        DistillError: no such device, or as `distil`.
    """
    import torch

    from .distillation import Distillation, cpu_seconds
    from .progress import TrainingProgress
    from .training.bayesian_training import BayesianTraining
    from .training.learner import hyperparameters

    if device == "cuda" and not torch.cuda.is_available():
        raise DistillError("--device cuda: found no accelerator, expected one that torch can use; leave --device out")
    seeds = range(config.seed, config.seed + config.seeds)
    started = cpu_seconds()
    with TrainingProgress() as progress:
        runs = []
        for seed in seeds:
            options = dataclasses.replace(config, seed=seed, seeds=1, jobs=1, out=config.out / f"seed{seed}")
            runs.append(Distillation(options, progress))
            runs[-1].prepare()
        sizes = (runs[0].facts.observation_size, *config.hidden, len(runs[0].facts.action_low))
        training = BayesianTraining(sizes, hyperparameters(config, runs[0].facts), list(seeds), device)
        progress.stage(f"train {config.seeds}", config.iterations)
        while training.iteration < config.iterations:
            training.step(*(run.replay for run in runs))
            progress.advance(1)
            boundary = training.iteration % config.round_iterations == 0
            if not boundary and training.iteration < config.iterations:
                continue
            for index, run in enumerate(runs):
                run.learner.restore(training.alone(index), training.iteration, float(training.errors[index]))
                run.steps = training.iteration
                if boundary:
                    run.between_rounds()
        spent = (cpu_seconds() - started) / len(runs)
        for run in runs:
            run.charge(spent)
            run.save()


def _distil(config: TrainConfig) -> dict[str, Any]:
    from .distillation import distil

    return distil(config)


def _order(result: dict[str, Any]) -> tuple[bool, float, float]:
    held = bool(result["target_held"])
    chosen = result["chosen"]
    return not held, result["kept_parameters"] if held else 0.0, -float(chosen["selection"]["iqm"])
