"""Pruning at a log-alpha threshold (alpha = variance / mean^2 of a weight's posterior; large alpha = noise)."""

from dataclasses import dataclass, replace

import numpy as np

from export.errors import ExportError
from export.interface import THRESHOLD_LIMIT
from export.student_file import Layer, Student


@dataclass(frozen=True)
class Pruned:
    """A student with its pruned weights set to 0, and what the user should know about it."""

    student: Student
    warning: str | None = None


def prune(student: Student, threshold: float | None = None) -> Pruned:
    """Return the student pruned at `threshold`.

    Without a threshold, or with the stored one, the stored `weight` is taken as it is: it is already zero where
    pruned and fine-tuned elsewhere. Any other threshold keeps `mean` where log_alpha < threshold.

    Raises:
        ExportError: the threshold is no usable number, or the file holds no posterior to prune.
    """
    if threshold is None or threshold == student.threshold:
        return Pruned(student)
    if not abs(threshold) <= THRESHOLD_LIMIT:
        raise ExportError(
            f"--threshold is {threshold}, expected a finite log-alpha such as 3.0, at most {THRESHOLD_LIMIT:g}"
        )
    if all(layer.log_alpha is None for layer in student.layers):
        raise ExportError(
            f"--threshold {threshold:g} needs tensors 'mean' and 'log_alpha', this {student.role} has none; "
            "leave --threshold out to export the stored weights"
        )
    pruned = replace(
        student, layers=tuple(_prune_layer(layer, threshold) for layer in student.layers), threshold=threshold
    )
    stored = "none" if student.threshold is None else f"{student.threshold:g}"
    return Pruned(
        pruned,
        f"--threshold {threshold:g} differs from the stored threshold ({stored}): pruning the posterior mean, "
        "fine-tuned weights are lost; run `python -m distill train` with this threshold to keep them",
    )


def _prune_layer(layer: Layer, threshold: float) -> Layer:
    if layer.mean is None or layer.log_alpha is None:
        return layer
    return replace(layer, weight=np.where(layer.log_alpha < threshold, layer.mean, np.float32(0)))
