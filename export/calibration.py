"""Observations that integers are fitted to, and how far each of them may reach."""

from pathlib import Path

import numpy as np

from export.errors import ExportError
from export.known_answers import plausible_observations
from export.simplify import centre
from export.squash import Float64
from export.student_file import Student
from export.tensor_file import TensorFile

ROWS = 4000
_SPREADS_REACHED = 6.0
_MARGIN = 1.25


def calibration_observations(student: Student, dataset: Path | None) -> Float64:
    """Return (n, history*base) stacked observations in physical units: rows of a dataset, or drawn from the normaliser.

    Drawn ones are half independent normals, half frames that change as little as a plant's do.

    Raises:
        FileFormatError: the dataset is unusable.
    """
    inputs = student.widths[0]
    if dataset is not None:
        file = TensorFile(dataset, None, "write it with `python -m distill collect --flat`", only=("observations",))
        rows = file.array("observations", (None, inputs))
        chosen = np.unique(np.linspace(0, len(rows) - 1, min(ROWS, len(rows))).astype(np.int64))
        return np.asarray(rows[chosen], np.float64)
    generator = np.random.default_rng(11)
    mean = np.tile(student.observation_mean.astype(np.float64), student.history)
    scale = np.tile(student.observation_scale.astype(np.float64), student.history)
    independent = mean + scale * generator.standard_normal((ROWS // 2, inputs))
    smooth = plausible_observations(student, generator, ROWS // 2).astype(np.float64)
    return np.concatenate([independent, smooth]).astype(np.float32).astype(np.float64)


def observation_reach(
    student: Student, dataset: Path | None, declared: tuple[tuple[float, float], ...] | None
) -> Float64:
    """Return (base,): the largest |observation - centre| that integers have to represent.

    From the declared range, or a quarter beyond what the dataset holds, or 6 times the normaliser's scale.

    Raises:
        ExportError: the declared range has another length, or a limit that is no number.
        FileFormatError: the dataset is unusable.
    """
    base = len(student.observation_mean)
    middle = centre(student).astype(np.float64)
    if declared is not None:
        limits = np.array(declared, np.float64).reshape(-1, 2)
        if len(limits) != base or not (np.isfinite(limits).all() and (limits[:, 0] < limits[:, 1]).all()):
            raise ExportError(
                f"--observation-range has {len(limits)} pairs {limits.tolist()}, expected {base} of finite LOW < HIGH, "
                f"one for each of {', '.join(student.observation_names)}"
            )
        farthest: Float64 = np.abs(limits - middle[:, None]).max(axis=1)
        return farthest
    if dataset is not None:
        file = TensorFile(dataset, None, "write it with `python -m distill collect --flat`", only=("observations",))
        rows = file.array("observations", (None, student.widths[0])).reshape(-1, base)
        reach = _MARGIN * np.maximum(np.abs(rows.max(axis=0) - middle), np.abs(rows.min(axis=0) - middle))
        wide: Float64 = np.maximum(reach, 1e-6 * student.observation_scale)
        return wide
    away = np.abs(student.observation_mean.astype(np.float64) - middle)
    return away + _SPREADS_REACHED * student.observation_scale.astype(np.float64)
