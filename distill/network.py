"""Run a plain network (teacher or student) on batches of observations, in numpy float32."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from .rollout import Array, Policy

if TYPE_CHECKING:
    from export.student_file import Student


def parameter_count(student: Student) -> int:
    """Weights and biases of every layer."""
    return sum(layer.weight.size + layer.bias.size for layer in student.layers)


@dataclass(frozen=True)
class Chain:
    """Linear layers [(weight (out, in), bias (out,))], one hidden activation, and what happens at the end.

    With `squash` the output is tanh(clip(y, +-clip)) scaled to the action bounds; without, y is the action itself.
    """

    layers: list[tuple[Array, Array]]
    activation: str  # relu | tanh
    clip: float | None
    squash: bool


def _activate(hidden: Array, activation: str) -> Array:
    if activation == "relu":
        return np.maximum(hidden, np.float32(0.0))
    return np.tanh(hidden) if activation == "tanh" else hidden


def chain_policy(chain: Chain, low: Array, high: Array) -> Policy:
    """Observations (n, inputs) -> actions (n, actions) inside the bounds, physical units."""
    layers = [(weight.T.copy(), bias) for weight, bias in chain.layers]
    middle, half = (low + high) / 2, (high - low) / 2

    def act(observations: NDArray[np.float32]) -> NDArray[np.float32]:
        hidden: Array = observations
        for index, (weight, bias) in enumerate(layers):
            hidden = hidden @ weight + bias
            if index < len(layers) - 1:
                hidden = _activate(hidden, chain.activation)
        if chain.clip is not None:
            hidden = np.clip(hidden, np.float32(-chain.clip), np.float32(chain.clip))
        if chain.squash:
            hidden = (middle + half * np.tanh(hidden)).astype(np.float32)
        return np.clip(hidden, low, high).astype(np.float32)

    return act


def network_policy(student: Student) -> Policy:
    """Observations (n, history * base) in physical units -> actions (n, actions) in physical units."""
    mean = np.tile(student.observation_mean, student.history)
    scale = np.tile(student.observation_scale, student.history)
    middle = (student.action_low + student.action_high) / 2
    half = (student.action_high - student.action_low) / 2
    layers = [(layer.weight.T.copy(), layer.bias, layer.activation) for layer in student.layers]

    def act(observations: NDArray[np.float32]) -> NDArray[np.float32]:
        hidden: Array = ((observations - mean) / scale).astype(np.float32)
        for weight, bias, activation in layers:
            hidden = _activate(hidden @ weight + bias, activation)
        return np.clip(middle + half * hidden, student.action_low, student.action_high).astype(np.float32)

    return act
