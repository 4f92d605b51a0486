"""Synthetic students, policies compiled from them, and the command line in this process."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from export.__main__ import main
from export.compile import Compiled, compile_student
from export.student_file import Layer, Student, write_student

MakeStudent = Callable[..., Student]


def synthetic_student(
    widths: tuple[int, ...] = (25, 64, 64, 1),
    density: float | tuple[float, ...] = 1.0,
    *,
    seed: int = 0,
    history: int = 5,
    activations: tuple[str, ...] | None = None,
    posterior: bool = False,
    low: float = -1.0,
    high: float = 1.0,
) -> Student:
    """A student with random weights of trained size; a `density` of them is nonzero, spread so that most units live."""
    generator = np.random.default_rng(seed)
    names = activations or ("relu",) * (len(widths) - 2) + ("tanh",)
    layers = []
    densities = density if isinstance(density, tuple) else (density,) * len(names)
    for inputs, outputs, name, share in zip(widths[:-1], widths[1:], names, densities, strict=True):
        keep = generator.random((outputs, inputs)) < share
        fan_in = max(1.0, share * inputs)
        weight = (generator.standard_normal((outputs, inputs)) * keep * np.sqrt(1.5 / fan_in)).astype(np.float32)
        bias = (0.1 * generator.standard_normal(outputs)).astype(np.float32)
        log_alpha = np.where(keep, -2.0, 5.0).astype(np.float32) if posterior else None
        mean = (weight + 0.01 * generator.standard_normal(weight.shape)).astype(np.float32) if posterior else None
        layers.append(Layer(weight, bias, name, mean, log_alpha))
    base, actions = widths[0] // history, widths[-1]
    return Student(
        layers=tuple(layers),
        observation_mean=generator.normal(0, 0.5, base).astype(np.float32),
        observation_scale=generator.uniform(0.2, 4.0, base).astype(np.float32),
        action_low=np.full(actions, low, np.float32),
        action_high=np.full(actions, high, np.float32),
        history=history,
        environment="hardware:CartRail-v0",
        control_period_s=0.02,
        observation_names=tuple(f"signal {i} [m]" for i in range(base)),
        action_names=tuple(f"cart acceleration {i} [m/s^2]" for i in range(actions)),
        threshold=3.0 if posterior else None,
        config={"teacher_parameters": 72705},
        parents={"teacher": "ab" * 32},
        seed=seed,
        evaluation={"iqm": 1.5},
    )


def live_student(
    layer_weights: tuple[int, int, int] = (80, 90, 30), width: int = 64, seed: int = 3, **limits: float
) -> Student:
    """A 25-width-width-1 student with about sum(layer_weights) weights that all reach the output, as after training."""
    generator = np.random.default_rng(seed)
    student = synthetic_student((25, width, width, 1), seed=seed, **limits)
    second = generator.choice(width, layer_weights[2], replace=False)
    first = generator.choice(width, layer_weights[2], replace=False)
    masks = [np.zeros(layer.weight.shape, bool) for layer in student.layers]
    masks[2][0, second] = True
    for unit, source in zip(second, first, strict=True):
        masks[1][unit, source] = True
    for _ in range(layer_weights[1] - len(second)):
        masks[1][generator.choice(second), generator.choice(first)] = True
    for unit in first:
        masks[0][unit, generator.integers(25)] = True
    for _ in range(layer_weights[0] - len(first)):
        masks[0][generator.choice(first), generator.integers(25)] = True
    layers = tuple(
        Layer((layer.weight * mask * 4).astype(np.float32), layer.bias, layer.activation)
        for layer, mask in zip(student.layers, masks, strict=True)
    )
    return Student(**{**student.__dict__, "layers": layers})


@pytest.fixture
def make_student() -> MakeStudent:
    return synthetic_student


@pytest.fixture
def make_live_student() -> MakeStudent:
    return live_student


@pytest.fixture
def compile_to(tmp_path: Path) -> Callable[..., tuple[Path, Compiled]]:
    """Write a student, compile it, return the folder and the result."""

    def compile_it(
        student: Student, name: str = "policy", threshold: float | None = None, **options: Any
    ) -> tuple[Path, Compiled]:
        source = tmp_path / f"{name}.student.safetensors"
        write_student(source, student)
        return tmp_path / name, compile_student(source, tmp_path / name, threshold, **options)

    return compile_it


@pytest.fixture
def run_here(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run the command line in this process: one import of the heavy packages for all tests."""

    def run_it(*arguments: object) -> tuple[int, str, str]:
        sys.argv = ["export", *map(str, arguments)]
        with pytest.raises(SystemExit) as caught:
            main()
        out, err = capsys.readouterr()
        return int(caught.value.code or 0), out, err

    return run_it
