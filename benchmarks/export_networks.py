"""The two networks that exporters are compared on, made from a seed: a dense teacher and a sparse student.

    python -m benchmarks.export_networks --out build/bench_export

writes teacher.safetensors and student.safetensors, which `python -m export compile` reads.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from export.squash import Float32, Float64
from export.student_file import Layer, Student, write_student

BASE_SIZE, HISTORY = 5, 5
_SPREAD_SAMPLES = 10_000
_BIAS_SPREAD = 0.1


@dataclass(frozen=True)
class Shape:
    """Widths from input to output, and the nonzero weights of every layer; None: dense."""

    widths: tuple[int, ...]
    nonzeros: tuple[int, ...] | None


SHAPES = {
    "teacher": Shape((BASE_SIZE * HISTORY, 256, 256, 1), None),
    "student": Shape((BASE_SIZE * HISTORY, 128, 128, 1), (300, 680, 128)),
}


def place(rows: int, columns: int, count: int, random: np.random.Generator) -> NDArray[np.bool_]:
    """Choose `count` cells of a (rows, columns) matrix so that no row and no column is empty.

    Uniformly random cells would leave most units without a path to the output, and what remained would be no test.

    Raises:
        ValueError: too few cells to reach every row and column, or more than there are.
    """
    cover = max(rows, columns)
    if not cover <= count <= rows * columns:
        raise ValueError(f"{count} nonzeros in {rows} x {columns}, expected {cover} to {rows * columns}")
    chosen = np.zeros((rows, columns), np.bool_)
    steps = np.arange(cover)
    chosen[random.permutation(rows)[steps % rows], random.permutation(columns)[steps % columns]] = True
    free = np.flatnonzero(~chosen.ravel())
    chosen.ravel()[random.choice(free, count - cover, replace=False)] = True
    return chosen


def network(name: str, seed: int = 0) -> Student:
    """Return one of the networks: He-scaled weights, output before tanh of mean 0 and deviation 1 on N(0, 1).

    Every row behind a ReLU has a weight above 0: one without would be 0 for every input.
    """
    shape = SHAPES[name]
    random = np.random.default_rng([seed, list(SHAPES).index(name)])
    layers: list[Layer] = []
    values = random.standard_normal((_SPREAD_SAMPLES, shape.widths[0]))
    for index, (inputs, outputs) in enumerate(pairwise(shape.widths)):
        count = inputs * outputs if shape.nonzeros is None else shape.nonzeros[index]
        chosen = place(outputs, inputs, count, random)
        weight = random.standard_normal((outputs, inputs)) * np.sqrt(2.0 / chosen.sum(axis=1, keepdims=True))
        if index:
            row, largest = np.arange(outputs), np.argmax(np.abs(weight) * chosen, axis=1)
            weight[row, largest] = np.abs(weight[row, largest])
        bias = random.normal(0.0, _BIAS_SPREAD, outputs)
        weight *= chosen
        last = index + 2 == len(shape.widths)
        if last:
            outcome = values @ weight.T
            weight /= outcome.std(axis=0)[:, None]
            bias = -outcome.mean(axis=0) / outcome.std(axis=0)
        layer = Layer(weight.astype(np.float32), bias.astype(np.float32), "tanh" if last else "relu")
        values = np.maximum(values @ layer.weight.astype(np.float64).T + layer.bias, 0.0)
        layers.append(layer)
    ones: Float32 = np.ones(BASE_SIZE, np.float32)
    return Student(
        layers=tuple(layers),
        observation_mean=np.zeros(BASE_SIZE, np.float32),
        observation_scale=ones,
        action_low=-ones[:1],
        action_high=ones[:1],
        history=HISTORY,
        environment="benchmark",
        control_period_s=0.02,
        observation_names=tuple(f"observation_{index}" for index in range(BASE_SIZE)),
        action_names=("action",),
        role=name,
        seed=seed,
    )


def observations(count: int, seed: int) -> Float64:
    """Return stacked observations (count, 25) from N(0, 1) that float32 holds exactly."""
    random = np.random.default_rng([seed, len(SHAPES)])
    return random.standard_normal((count, BASE_SIZE * HISTORY)).astype(np.float32).astype(np.float64)


def main() -> None:
    """Write both networks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("build/bench_export"))
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name in SHAPES:
        write_student(arguments.out / f"{name}.safetensors", network(name, arguments.seed))


if __name__ == "__main__":
    main()
