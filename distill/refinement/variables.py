"""The numbers of a pruned student as one vector, and many such vectors as networks that act side by side."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from export.squash import activate, squash_float32
from export.student_file import Student

from ..environment import Array

Float64 = NDArray[np.float64]


@dataclass(frozen=True)
class _Place:
    """Where a layer's variables lie in its weight (out, in) and its bias (out,), and which units are computed."""

    weights: tuple[NDArray[np.intp], NDArray[np.intp]]
    biases: NDArray[np.intp]
    rows: NDArray[np.intp]  # units that are computed
    columns: NDArray[np.intp]  # units of the layer before that are


class Variables:
    """What may change in a student whose mask stays: its weights and biases that are not 0.

    Biases that are 0 stay 0, so neither the weights nor the parameters that are kept grow.
    """

    def __init__(self, student: Student) -> None:
        self.student = student
        self._places: list[_Place] = []
        needed = np.arange(len(student.action_low))
        for index in range(len(student.layers) - 1, -1, -1):
            layer = student.layers[index]
            columns = np.arange(layer.weight.shape[1])
            if index > 0:  # inputs stay: they are not computed
                columns = np.flatnonzero(np.any(layer.weight[needed] != 0.0, axis=0))
            alive = np.zeros_like(layer.weight, dtype=bool)
            alive[needed] = layer.weight[needed] != 0.0
            row, column = np.nonzero(alive)
            biases = needed[layer.bias[needed] != 0.0]
            self._places.insert(0, _Place((row, column), biases, needed, columns))
            needed = columns
        values: list[Float64] = []
        scales: list[Float64] = []
        for layer, place in zip(student.layers, self._places, strict=True):
            for array in (layer.weight[place.weights], layer.bias[place.biases]):
                values.append(array.astype(np.float64))
                typical = float(np.sqrt(np.mean(np.square(array, dtype=np.float64)))) if array.size else 1.0
                scales.append(np.full(array.shape, typical))
        self.values: Float64 = np.concatenate(values)
        self.scales: Float64 = np.concatenate(scales)  # typical size, by layer and kind: what a step is measured by

    def __len__(self) -> int:
        return len(self.values)

    def with_values(self, values: Float64) -> Student:
        """The student with other values (len(self),)."""
        layers = [
            dataclasses.replace(layer, weight=weight, bias=bias, mean=None, log_alpha=None)
            for layer, (weight, bias) in zip(self.student.layers, self._filled(values), strict=True)
        ]
        return dataclasses.replace(self.student, layers=tuple(layers), threshold=None, evaluation={})

    def networks(self, values: Float64) -> Networks:
        """Networks of several vectors (students, len(self)), without the units that reach no output."""
        layers = [self._filled(vector) for vector in values]
        stacked = []
        for index, place in enumerate(self._places):
            weights = [weights[index][0][np.ix_(place.rows, place.columns)].T for weights in layers]
            biases = [weights[index][1][place.rows][None, :] for weights in layers]
            stacked.append((np.ascontiguousarray(np.stack(weights)), np.stack(biases)))
        return Networks(self.student, tuple(stacked))

    def _filled(self, values: Float64) -> list[tuple[Array, Array]]:
        filled: list[tuple[Array, Array]] = []
        start = 0
        for layer, place in zip(self.student.layers, self._places, strict=True):
            weight, bias = np.zeros_like(layer.weight), np.zeros_like(layer.bias)
            for array, where in ((weight, place.weights), (bias, place.biases)):
                count = len(where[0]) if isinstance(where, tuple) else len(where)
                array[where] = values[start : start + count]
                start += count
            filled.append((weight, bias))
        return filled


class Networks:
    """Students of one form, each with numbers of its own."""

    def __init__(self, student: Student, layers: tuple[tuple[Array, Array], ...]) -> None:
        """`layers`: weight (students, in, out) and bias (students, 1, out) of each."""
        self._layers = layers
        self._activations = [layer.activation for layer in student.layers]
        self._mean = np.tile(student.observation_mean, student.history)
        self._scale = np.tile(student.observation_scale, student.history)
        self._low, self._high = student.action_low, student.action_high

    def act(self, observations: Array) -> Array:
        """Actions (students, episodes, actions) for observations (students, episodes, inputs), physical units."""
        hidden: Array = ((observations - self._mean) / self._scale).astype(np.float32)
        for index, (weight, bias) in enumerate(self._layers):
            hidden = np.matmul(hidden, weight)
            hidden += bias
            if index < len(self._layers) - 1:
                hidden = activate(self._activations[index], hidden)
        return squash_float32(self._activations[-1], hidden, self._low, self._high)
