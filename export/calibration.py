"""Observations that integers are fitted to and judged by, and how far each of them may reach."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from export.errors import ExportError
from export.known_answers import plausible_observations
from export.simplify import centre
from export.squash import Float64
from export.student_file import Student
from export.tensor_file import TensorFile

ROWS = 4000
_FEWEST_ROWS = 100
_SEEDS = (11, 12)
_SPREADS_REACHED = 6.0
_MARGIN = 1.25


@dataclass(frozen=True)
class Calibration:
    """Stacked observations in physical units, and what they reach.

    fitted (n, history*base): integers are chosen by them; held_out (m, history*base): others, by which they are judged;
    reach (base,): the largest |observation - centre| that integers have to represent.
    """

    fitted: Float64
    held_out: Float64
    reach: Float64


def calibration(
    student: Student, dataset: Path | None, declared: tuple[tuple[float, float], ...] | None
) -> Calibration:
    """Return rows of a dataset, or observations drawn from the normaliser.

    They reach as far as declared, or a quarter beyond what the dataset holds, or 6 times the normaliser's scale.

    Raises:
        ExportError: the declared range has another length, or a limit that is no number.
        FileFormatError: the dataset is unusable.
    """
    middle = centre(student).astype(np.float64)
    base = len(middle)
    if dataset is not None:
        rows = _rows(dataset, student.widths[0])
        chosen = _spread(np.arange(len(rows)), min(ROWS, (len(rows) + 1) // 2))
        others = _spread(np.setdiff1d(np.arange(len(rows)), chosen), ROWS)
        fitted, held_out = (np.asarray(rows[which], np.float64) for which in (chosen, others))
        frames = rows.reshape(-1, base)
        ends = np.stack([frames.min(axis=0), frames.max(axis=0)]).astype(np.float64)
        reach = np.maximum(_MARGIN * np.abs(ends - middle).max(axis=0), 1e-6 * student.observation_scale)
    else:
        fitted, held_out = (_drawn(student, np.random.default_rng(seed)) for seed in _SEEDS)
        away = np.abs(student.observation_mean.astype(np.float64) - middle)
        reach = away + _SPREADS_REACHED * student.observation_scale.astype(np.float64)
    return Calibration(fitted, held_out, reach if declared is None else _declared_reach(student, middle, declared))


def _rows(dataset: Path, inputs: int) -> np.ndarray:
    file = TensorFile(dataset, None, "write it with `python -m distill collect --flat`", only=("observations",))
    rows = file.array("observations", (None, inputs))
    if len(rows) < _FEWEST_ROWS:
        raise file.complain(f"it has {len(rows)} observations, expected at least {_FEWEST_ROWS} to fit integers to")
    return rows


def _spread(rows: np.ndarray, count: int) -> np.ndarray:
    """At most `count` of some rows, evenly spaced."""
    return rows[np.unique(np.linspace(0, len(rows) - 1, min(count, len(rows))).astype(np.int64))]


def _drawn(student: Student, generator: np.random.Generator) -> Float64:
    """Half independent normals, half frames that change as little as a plant's do."""
    inputs = student.widths[0]
    mean = np.tile(student.observation_mean.astype(np.float64), student.history)
    scale = np.tile(student.observation_scale.astype(np.float64), student.history)
    independent = mean + scale * generator.standard_normal((ROWS // 2, inputs))
    smooth = plausible_observations(student, generator, ROWS // 2).astype(np.float64)
    limit = np.finfo(np.float32).max
    return np.concatenate([independent, smooth]).clip(-limit, limit).astype(np.float32).astype(np.float64)


def _declared_reach(student: Student, middle: Float64, declared: tuple[tuple[float, float], ...]) -> Float64:
    limits = np.array(declared, np.float64).reshape(-1, 2)
    if len(limits) != len(middle) or not (np.isfinite(limits).all() and (limits[:, 0] < limits[:, 1]).all()):
        raise ExportError(
            f"--observation-range has {len(limits)} pairs {limits.tolist()}, expected {len(middle)} of finite LOW < "
            f"HIGH, one for each of {', '.join(student.observation_names)}"
        )
    farthest: Float64 = np.abs(limits - middle[:, None]).max(axis=1)
    return farthest
