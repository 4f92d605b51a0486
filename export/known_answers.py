"""Known answers: a few observations with the actions that every rendering of the policy must give."""

import numpy as np

from export.squash import Float32
from export.student_file import Student

RANDOM_COUNT = 3
_CANDIDATES = 256


def known_answers(student: Student) -> tuple[Float32, Float32]:
    """Return (observations (k, history*base), actions (k, action)) of the pruned student in float64, k = 6.

    First all zeros (physical units); then the two of many random observations with the lowest and highest first action
    (saturating where the policy can saturate); then random ones of ordinary size. The generator is seeded with a
    constant: same student, same bytes.
    """
    generator = np.random.default_rng(2024)
    mean = np.tile(student.observation_mean.astype(np.float64), student.history)
    scale = np.tile(student.observation_scale.astype(np.float64), student.history)
    with np.errstate(over="ignore", invalid="ignore"):
        candidates = _single(mean + 3.0 * scale * generator.standard_normal((_CANDIDATES, mean.size)))
        random = _single(mean + scale * generator.standard_normal((RANDOM_COUNT, mean.size)))
        first_action = student.evaluate(candidates.astype(np.float64))[:, 0]
    extremes = candidates[[int(np.argmin(first_action)), int(np.argmax(first_action))]]
    observations = np.concatenate([np.zeros((1, mean.size), np.float32), extremes, random])
    return observations, student.evaluate(observations.astype(np.float64)).astype(np.float32)


def _single(values: np.ndarray[tuple[int, int], np.dtype[np.float64]]) -> Float32:
    limit = np.finfo(np.float32).max
    return np.clip(values, -limit, limit).astype(np.float32)
