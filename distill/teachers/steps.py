"""From a straight run of operations, as ONNX and TorchScript files hold it, to a chain of linear layers.

Which values the last operation gives is nowhere in such files. Here a last tanh is a share of half the action range
(what SAC, TD3 and ARS actors give), except where multiplications after it reach the environment's bounds exactly;
anything else is the action itself in physical units, clipped to the bounds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..environment import EnvironmentFacts
from ..errors import DistillError
from ..network import Array, Chain, InputNormaliser
from .actor import linear


@dataclass(frozen=True)
class Linear:
    """y = weight x + bias; weight (out, in), bias (out,) or none."""

    weight: NDArray[Any]
    bias: NDArray[Any] | None


@dataclass(frozen=True)
class Affine:
    """y = scale * x + shift, element by element; numbers or vectors."""

    scale: NDArray[Any]
    shift: NDArray[Any]


@dataclass(frozen=True)
class Activation:
    """relu or tanh."""

    name: str


@dataclass(frozen=True)
class Limit:
    """y = min(max(x, low), high)."""

    low: float
    high: float


Step = Linear | Affine | Activation | Limit


def chain_of(path: Path, steps: Sequence[Step], facts: EnvironmentFacts) -> tuple[Chain, tuple[str, ...]]:
    """The chain that computes the steps, and what had to be assumed about its actions.

    Raises:
        DistillError: no linear layer, or operations in an order that a chain of layers does not have.
    """
    try:
        return _chain(path, steps, facts)
    except ValueError as error:  # numpy's, where shapes do not fit
        raise DistillError(
            f"teacher {path}: its constants do not fit its layers ({error}), expected a perceptron; export it again"
        ) from error


def _chain(path: Path, steps: Sequence[Step], facts: EnvironmentFacts) -> tuple[Chain, tuple[str, ...]]:
    positions = [index for index, step in enumerate(steps) if isinstance(step, Linear)]
    if not positions:
        raise DistillError(f"teacher {path}: found no linear layer, expected a perceptron; export the actor alone")
    layers: list[tuple[Array, Array]] = []
    activations: list[str] = []
    normaliser, before = _front(path, steps[: positions[0]])
    tail: list[Step] = []
    for number, position in enumerate(positions):
        step = steps[position]
        assert isinstance(step, Linear)
        end = positions[number + 1] if number + 1 < len(positions) else len(steps)
        weight = np.asarray(step.weight, dtype=np.float64)
        if weight.ndim != 2:
            raise ValueError(f"a weight of shape {weight.shape}")
        bias = np.zeros(len(weight)) if step.bias is None else np.asarray(step.bias, dtype=np.float64)
        if number == 0 and before is not None:
            bias = bias + weight @ np.broadcast_to(before.shift, weight.shape[1])
            weight = weight * before.scale
        after = list(steps[position + 1 : end])
        while after and isinstance(after[0], Affine):
            scale, shift = (np.broadcast_to(value, bias.shape) for value in (after[0].scale, after[0].shift))
            weight, bias = weight * scale[:, None], bias * scale + shift
            after.pop(0)
        layers.append(linear(path, f"layer {number}", weight, bias))
        if end == len(steps):
            tail = after
        elif not after:
            activations.append("identity")
        elif len(after) == 1 and isinstance(after[0], Activation):
            activations.append(after[0].name)
        else:
            raise _disorder(path, after)
    if len(layers[-1][0]) != len(facts.action_low):  # the caller names both counts
        return Chain(tuple(layers), tuple(activations), None, squash=False, normaliser=normaliser), ()
    clip, squash, notes = _end(path, tail, facts)
    return Chain(tuple(layers), tuple(activations), clip, squash, normaliser), notes


def _disorder(path: Path, steps: Sequence[Step]) -> DistillError:
    found = ", ".join(type(step).__name__.lower() for step in steps)
    return DistillError(
        f"teacher {path}: got {found} in a row, expected linear layers with one relu or tanh between them; "
        "export the actor alone"
    )


def _front(path: Path, steps: Sequence[Step]) -> tuple[InputNormaliser | None, Affine | None]:
    """Element-wise operations before the first layer: with a clip a normaliser, without one to be folded."""
    scale, shift = np.array(1.0), np.array(0.0)
    for index, step in enumerate(steps):
        if isinstance(step, Affine):
            scale, shift = scale * step.scale, shift * step.scale + step.shift
        elif isinstance(step, Limit) and index == len(steps) - 1 and step.low == -step.high and np.all(scale > 0):
            size = np.broadcast_shapes(scale.shape, shift.shape)
            if len(size) != 1:
                raise _disorder(path, steps)
            wide = np.broadcast_to(scale, size)
            return InputNormaliser(-shift / wide, 1.0 / wide**2, 0.0, step.high), None
        else:
            raise _disorder(path, steps)
    return None, Affine(scale, shift) if steps else None


def _end(path: Path, tail: Sequence[Step], facts: EnvironmentFacts) -> tuple[float | None, bool, tuple[str, ...]]:
    rest = list(tail)
    low, high = facts.action_low.astype(np.float64), facts.action_high.astype(np.float64)
    clip, squash = None, False
    first = rest[0] if len(rest) > 1 else None
    if isinstance(first, Limit) and isinstance(rest[1], Activation) and first.low == -first.high:
        clip = first.high
        rest.pop(0)
    if rest and isinstance(rest[0], Activation) and rest[0].name == "tanh":
        rest.pop(0)
        squash = True
    scale, shift = np.array(1.0), np.array(0.0)
    scaled = False
    while rest and isinstance(rest[0], Affine):
        step = rest.pop(0)
        assert isinstance(step, Affine)
        scale, shift, scaled = scale * step.scale, shift * step.scale + step.shift, True
    if rest and isinstance(rest[0], Limit):
        limit = rest.pop(0)
        assert isinstance(limit, Limit)
        # a tanh lies inside [-1, 1] whatever the limit says; an action only inside the environment's own bounds
        inside = limit.low <= -1.0 and limit.high >= 1.0 if squash and not scaled else False
        if not inside and not (np.all(limit.low <= low + 1e-6) and np.all(limit.high >= high - 1e-6)):
            raise DistillError(
                f"teacher {path}: its output is clipped to {limit.low:g}..{limit.high:g}, the environment's "
                "actions reach "
                f"{low}..{high}; export the actor without the clip, or wrap the environment (--wrapper)"
            )
    if rest or (scaled and not squash):
        raise _disorder(path, tail)
    if not squash:
        return clip, False, ("its output is taken as the action in physical units, clipped to the bounds",)
    if scaled:
        middle, half = (low + high) / 2, (high - low) / 2
        if not (np.allclose(scale, half, rtol=1e-5) and np.allclose(shift, middle, rtol=1e-5, atol=1e-6)):
            raise DistillError(
                f"teacher {path}: its tanh is scaled to {shift - scale}..{shift + scale}, the environment's "
                "actions reach "
                f"{low}..{high}; choose the environment it was trained in"
            )
        return clip, True, ()
    return clip, True, ("its output ends in tanh: -1 to 1 is taken as the action's whole range",)
