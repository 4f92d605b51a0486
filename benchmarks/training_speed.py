"""Training iterations per CPU second: this toolkit's step against a plain autograd loop, and against the arithmetic.

    python -m benchmarks.training_speed

    plain      modules, autograd, torch.optim.Adam, targets updated in a loop over parameters (plain_loop.py)
    eager      the toolkit's step as it is
    compiled   the same, compiled
    bfloat16   compiled, factors of matrix products rounded to bfloat16
    floor      the step's matrix products alone, at the rate of one core's 256 x 256 x 256 product

One thread, one core; CPU seconds, so that other programs on the machine disturb less; variants take turns and the
median counts. Minibatches come from the same `Replay` in all of them. Writes docs/results/training_speed.json.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.plain_loop import PlainTraining
from benchmarks.provenance import provenance, refuse_dirty
from distill.datasets.replay import Normaliser, Replay
from distill.datasets.transitions import Transitions
from distill.training.bayesian_training import BayesianTraining, Hyperparameters

ROOT = Path(__file__).resolve().parent.parent
ROWS, EPISODE = 50_000, 500
OFFICIAL = Hyperparameters(
    hidden=(128, 128),
    iterations=1_000_000,
    batch=256,
    learning_rate=3e-4,
    data_weight=1e6,
    value_weight=0.5,
    gamma=0.99,
    tau=0.005,
    noise="official",
)
DRIVEN = Hyperparameters(
    hidden=(64, 64),
    iterations=60_000,
    batch=256,
    learning_rate=1e-3,
    data_weight=2e4,
    value_weight=0.0,
    gamma=0.99,
    tau=0.005,
    observation_noise=0.01,
)
SETTINGS = {
    "official mathematics, with critics": ((11, 128, 128, 3), OFFICIAL),
    "student-driven, no critic": ((17, 64, 64, 6), DRIVEN),
}
STACK = 16


def replay(inputs: int, actions: int) -> Replay:
    """Random transitions."""
    random = np.random.default_rng(0)
    observations = random.standard_normal((ROWS, inputs)).astype(np.float32)
    labels = np.tanh(observations[:, :actions])
    flags, episodes = np.zeros(ROWS, np.uint8), ROWS // EPISODE
    rows = Transitions(
        observations=observations,
        executed_actions=np.tanh(labels + random.standard_normal(labels.shape).astype(np.float32)),
        teacher_actions=labels,
        rewards=labels[:, 0],
        terminated=flags,
        truncated=flags,
        final_observations=observations[:episodes],
        lengths=np.full(episodes, EPISODE, np.uint32),
    )
    bound = np.ones(actions, np.float32)
    answer = Replay(Normaliser(np.zeros(inputs, np.float32), np.ones(inputs, np.float32)), 1, -bound, bound)
    answer.extend(rows)
    return answer


def cpu_seconds() -> float:
    """CPU time of this process and of the compilers it has started and awaited."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def product_rate(precision: torch.dtype) -> float:
    """Floating-point operations per CPU second of one core in a 256 x 256 x 256 product."""
    left, right = (torch.randn(256, 256).to(precision) for _ in range(2))
    started = time.process_time()
    for _ in range(200):
        torch.mm(left, right)
    return 200 * 2 * 256**3 / (time.process_time() - started)


def operations(sizes: tuple[int, ...], numbers: Hyperparameters) -> float:
    """Floating-point operations of an iteration's matrix products, averaged over the actor's every second step."""

    def layer(widths: tuple[int, ...]) -> list[float]:
        return [2.0 * numbers.batch * a * b for a, b in itertools.pairwise(widths)]

    student = layer(sizes)
    # means and variances: forward, gradient of the weights, and of the inputs except the observations
    actor = 2 * (3 * sum(student) - student[0])
    if numbers.value_weight == 0.0:
        return actor
    critic = layer((sizes[0] + sizes[-1], 256, 256, 1))
    trained = 2 * (3 * sum(critic) - critic[0]) + 2 * sum(critic) + 2 * sum(student)
    probed = 2 * sum(critic)  # the first critic's value and its slope by the action
    return trained + (actor + probed) / 2


def measured(variants: dict[str, Callable[[], None]], rounds: int, seconds: float) -> dict[str, list[float]]:
    """CPU seconds of an iteration, every variant `rounds` times in turn."""
    repeats = {}
    for name, step in variants.items():
        started = time.process_time()
        for _ in range(20):
            step()
        repeats[name] = max(20, round(20 * seconds / (time.process_time() - started)) // 2 * 2)
    taken: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(rounds):
        for name, step in variants.items():
            started = time.process_time()
            for _ in range(repeats[name]):
                step()
            taken[name].append((time.process_time() - started) / repeats[name])
    return taken


def compare(name: str, rounds: int, seconds: float) -> list[dict[str, Any]]:
    """Rows of one setting."""
    sizes, numbers = SETTINGS[name]
    rows = replay(sizes[0], sizes[-1])
    fast = dataclasses.replace(numbers, compiled=True)
    trainings: dict[str, Any] = {
        "plain": PlainTraining(sizes, numbers),
        "eager": BayesianTraining(sizes, numbers, 0),
        "compiled": BayesianTraining(sizes, fast, 0),
        "bfloat16": BayesianTraining(sizes, dataclasses.replace(fast, precision="bfloat16"), 0),
    }
    starts = {}
    for variant, training in trainings.items():
        started = cpu_seconds()
        for _ in range(2):
            training.step(rows)
        starts[variant] = cpu_seconds() - started
    steps = {variant: (lambda training=training: training.step(rows)) for variant, training in trainings.items()}
    taken = measured(steps, rounds, seconds)
    plain = statistics.median(taken["plain"])
    answer = [
        {
            "setting": name,
            "variant": variant,
            "iterations_per_cpu_second": 1.0 / statistics.median(times),
            "slowest": 1.0 / max(times),
            "fastest": 1.0 / min(times),
            "times_plain": plain / statistics.median(times),
            "first_two_iterations_cpu_seconds": starts[variant],
        }
        for variant, times in taken.items()
    ]
    for variant, precision in (("floor float32", torch.float32), ("floor bfloat16", torch.bfloat16)):
        rate = statistics.median(product_rate(precision) for _ in range(rounds)) / operations(sizes, numbers)
        answer.append(
            {"setting": name, "variant": variant, "iterations_per_cpu_second": rate, "times_plain": rate * plain}
        )
    return answer


def stacked_on_accelerator(seconds: float) -> dict[str, Any] | str:
    """Iterations per second, summed over stacked students, of one CUDA graph; or why there is no figure."""
    if not torch.cuda.is_available():
        return "not measured: no accelerator"
    name = "official mathematics, with critics"
    sizes, numbers = SETTINGS[name]
    training = BayesianTraining(sizes, numbers, range(STACK), device="cuda")
    rows = replay(sizes[0], sizes[-1])
    for _ in range(20):
        training.step(rows)
    torch.cuda.synchronize()
    started, count = time.perf_counter(), 0
    while time.perf_counter() - started < 5 * seconds:
        for _ in range(20):
            training.step(rows)
        torch.cuda.synchronize()
        count += 20
    rate = count * STACK / (time.perf_counter() - started)
    return {"device": torch.cuda.get_device_name(), "setting": name, "students": STACK, "iterations_per_second": rate}


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=1.0, help="CPU seconds a variant and round")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "results" / "training_speed.json")
    parser.add_argument("--allow-dirty", action="store_true", help="measure uncommitted changes")
    arguments = parser.parse_args()
    refuse_dirty(allowed=arguments.allow_dirty)
    torch.set_num_threads(1)
    rows = [row for name in SETTINGS for row in compare(name, arguments.rounds, arguments.seconds)]
    result = {
        **provenance(),
        "rows": rows,
        "stacked_on_accelerator": stacked_on_accelerator(arguments.seconds),
    }
    arguments.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    for row in rows:
        print(
            f"{row['setting']:36s} {row['variant']:15s} {row['iterations_per_cpu_second']:8.1f} iterations per CPU "
            f"second, {row['times_plain']:5.2f} x plain"
        )
    print(f"stacked on an accelerator: {result['stacked_on_accelerator']}", file=sys.stderr)


if __name__ == "__main__":
    main()
