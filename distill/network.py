"""Run a plain network (teacher or student) on batches of observations, in numpy float32."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from export.student_file import Student

    from .rollout import Policy

Array = NDArray[np.float32]
_CONSTANT = 1e-8  # variance relative to 1 + mean^2 below which an input never moved in training


def parameter_count(student: Student) -> int:
    """Weights and biases of every layer."""
    return sum(layer.weight.size + layer.bias.size for layer in student.layers)


@dataclass(frozen=True)
class InputNormaliser:
    """z = clip((x - mean) / sqrt(variance + epsilon), -clip, clip), as VecNormalize does; mean and variance (n,)."""

    mean: NDArray[np.float64]
    variance: NDArray[np.float64]
    epsilon: float = 0.0
    clip: float = np.inf

    def constant(self) -> NDArray[np.bool_]:
        """Which inputs (n,) never moved in training.

        A running variance starts at 1 with the weight of 1e-4 samples, so that a constant c still shows
        1e-4 (1 + c^2) / samples.
        """
        return self.variance <= _CONSTANT * (1.0 + self.mean**2)

    def __call__(self, observations: NDArray[Any]) -> Array:
        """Normalised observations (rows, n) in float32; subtracted in float64, where a large mean cancels exactly."""
        values = (observations - self.mean) / np.sqrt(self.variance + self.epsilon)
        if np.isfinite(self.clip):
            np.clip(values, -self.clip, self.clip, out=values)
        return values.astype(np.float32)


@dataclass(frozen=True)
class Chain:
    """Linear layers ((weight (out, in), bias (out,)), ...), what stands between them, and what happens at either end.

    activations: relu, tanh or identity after each layer but the last. With `squash` the action is
    tanh(clip(y, -clip, clip)) scaled to the action bounds; without, clip(y) is the action itself, in physical units.
    """

    layers: tuple[tuple[Array, Array], ...]
    activations: tuple[str, ...]
    clip: float | None
    squash: bool
    normaliser: InputNormaliser | None = None

    @property
    def sizes(self) -> tuple[int, ...]:
        """Inputs, then the outputs of every layer."""
        return (self.layers[0][0].shape[1], *(weight.shape[0] for weight, _ in self.layers))

    @property
    def parameters(self) -> int:
        """Weights and biases of every layer."""
        return sum(weight.size + bias.size for weight, bias in self.layers)


def _activate(hidden: Array, activation: str) -> Array:
    if activation == "relu":
        return np.maximum(hidden, np.float32(0.0))
    return np.tanh(hidden) if activation == "tanh" else hidden


def chain_policy(chain: Chain, low: Array, high: Array) -> Policy:
    """Observations (n, inputs) -> actions (n, actions) inside the bounds, physical units."""
    layers = [(weight.T.copy(), bias) for weight, bias in chain.layers]
    activations = (*chain.activations, "identity")
    middle, half = (low + high) / 2, (high - low) / 2

    def act(observations: NDArray[np.float32]) -> NDArray[np.float32]:
        hidden: Array = observations if chain.normaliser is None else chain.normaliser(observations)
        for (weight, bias), activation in zip(layers, activations, strict=True):
            hidden = hidden @ weight
            hidden += bias
            hidden = _activate(hidden, activation)
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
