"""Honest returns: interquartile mean beside mean, worst, falls; teacher and student on the same held-out seeds."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .environment import EnvironmentSpec
from .errors import DistillError
from .rollout import Episodes, Policy, play

REPORT_SEED = 10_000  # episodes used for reporting only
SELECTION_SEED = 20_000  # episodes used to choose thresholds and checkpoints
TRAINING_SEED = 1_000_000  # episodes that training sees
LARGEST_EPISODES = 10_000  # of any of them, so that they never overlap


def interquartile_mean(values: NDArray[np.float64]) -> float:
    """Mean of the middle half: 25 % trimmed from each end, rounded down (rliable's definition on one task)."""
    cut = len(values) // 4
    return float(np.sort(values)[cut : len(values) - cut].mean())


def summarise(episodes: Episodes, teacher_median: float | None = None) -> dict[str, Any]:
    """Mean, interquartile mean, worst, median and number of episodes; share below 90 % of the teacher's median.

    Without `teacher_median` the episodes' own stands for it. For negative returns "90 %" is the median minus 10 % of
    its size. Where the environment reports "upright" also how many episodes held it over their last 3 s.
    """
    returns = episodes.returns
    median = float(np.median(returns)) if teacher_median is None else teacher_median
    summary: dict[str, Any] = {
        "mean": float(returns.mean()),
        "iqm": interquartile_mean(returns),
        "worst": float(returns.min()),
        "median": float(np.median(returns)),
        "share_below_90_percent": float(np.mean(returns < median - 0.1 * abs(median))),
        "n": len(returns),
    }
    if episodes.held is not None:
        summary["held_last_3s"] = int(episodes.held.sum())
    return summary


def compare(
    spec: EnvironmentSpec, teacher: Policy, student: Policy, episodes: int = 100, first_seed: int = REPORT_SEED
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Teacher's and student's summaries over the same `episodes` held-out seeds."""
    seeds = range(first_seed, first_seed + episodes)
    teacher_summary = summarise(play(spec, teacher, seeds))
    student_summary = summarise(play(spec, student, seeds), teacher_summary["median"])
    return teacher_summary, student_summary


def share_kept(student_return: float, teacher_return: float) -> float:
    """Share of the teacher's return that a student keeps: their ratio, or 1 - loss / |teacher| below zero.

    Raises:
        DistillError: a teacher that returns 0, of which there are no shares.
    """
    if teacher_return == 0.0:
        raise DistillError(
            f"share of the return: got {student_return:g} of a teacher's 0, expected a teacher that returns something; "
            "compare the returns themselves"
        )
    return 1.0 + (student_return - teacher_return) / abs(teacher_return)


def ratio_interval(
    students: list[NDArray[np.float64]], teacher: NDArray[np.float64], draws: int = 2_000, seed: int = 0
) -> tuple[float, float, float]:
    """Student's share of the teacher's return and its 95 % interval: (share, low, high).

    `students`: one array of episode returns a training seed; the share is the mean over seeds of the interquartile
    mean, as a share of the teacher's (`share_kept`). Bootstrap in two stages: seeds are drawn with replacement, then
    episodes within each seed drawn; so a seed is a cluster, and with five of them the interval is coarse and tends to
    be too narrow. The teacher's episodes are drawn independently, since its return is an estimate as well, although
    both start from the same seeds: what they share by that is not taken off, which makes the interval wider.
    """
    generator = np.random.default_rng(seed)

    def share(parts: list[NDArray[np.float64]], reference: NDArray[np.float64]) -> float:
        return share_kept(float(np.mean([interquartile_mean(part) for part in parts])), interquartile_mean(reference))

    sampled = []
    for _ in range(draws):
        chosen = generator.integers(len(students), size=len(students))
        parts = [generator.choice(students[index], len(students[index])) for index in chosen]
        sampled.append(share(parts, generator.choice(teacher, len(teacher))))
    low, high = np.percentile(sampled, [2.5, 97.5])
    return share(students, teacher), float(low), float(high)


def return_bar(teacher_return: float, target: float) -> float:
    """The return that holds `target` (0.99 = one percent lost), also where returns are negative."""
    return teacher_return - (1.0 - target) * abs(teacher_return)
