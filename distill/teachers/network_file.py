"""Read the project's own network file as a teacher."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import DistillError
from ..network import Chain, InputNormaliser, parameter_count
from .actor import Actor

if TYPE_CHECKING:
    from export.student_file import Student


def read_network_file(path: Path) -> tuple[Actor, Student]:
    """The network as a chain, and as it stands in the file.

    Raises:
        DistillError: whatever export finds wrong with the file.
    """
    from export.errors import ExportError
    from export.student_file import read_student

    try:
        student = read_student(path)
    except ExportError as error:
        raise DistillError(f"teacher {error}") from error
    layers = [(layer.weight, layer.bias) for layer in student.layers]
    squash = student.layers[-1].activation == "tanh"
    if not squash:  # the file's last value is a share of half the range, a chain's is the action itself
        weight, bias = layers[-1]
        middle, half = (student.action_low + student.action_high) / 2, (student.action_high - student.action_low) / 2
        layers[-1] = ((half[:, None] * weight).astype(np.float32), (middle + half * bias).astype(np.float32))
    normaliser = InputNormaliser(
        mean=np.tile(student.observation_mean, student.history).astype(np.float64),
        variance=np.tile(student.observation_scale, student.history).astype(np.float64) ** 2,
    )
    chain = Chain(tuple(layers), tuple(layer.activation for layer in student.layers[:-1]), None, squash, normaliser)
    bounds = (student.action_low.astype(np.float64), student.action_high.astype(np.float64))
    return Actor(chain, "network file", parameter_count(student), bounds), student
