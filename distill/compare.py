"""What compiling costs in closed loop: the student in float64 and the policy as the chip computes it, same episodes."""

from __future__ import annotations

from typing import Any

import numpy as np

from export.policy_file import policy_digest, read_policy
from export.sparse_policy import SparsePolicy
from export.student_file import Student, read_student, student_digest

from .config import CompareConfig, in_range
from .environment import Array, EnvironmentSpec
from .errors import DistillError
from .evaluate import LARGEST_EPISODES, REPORT_SEED, ratio_interval, return_bar, summarise
from .progress import TrainingProgress
from .rollout import Episodes, Policy, longest_episode, play
from .source import check_fits

KEPT = 0.99
"""Share of the student's return that a compiled policy has to keep."""


class ActionDifference:
    """A policy beside another that sees the same observations; remembers how far their actions were apart.

    largest: of all actions so far, as a share of each action's range; NaN as soon as one of them is NaN.
    """

    def __init__(self, policy: Policy, other: Policy, low: Array, high: Array) -> None:
        self._policy, self._other = policy, other
        self._range = high.astype(np.float64) - low
        self.largest = 0.0

    def __call__(self, observations: Array) -> Array:
        """Return the first policy's actions (n, action)."""
        actions = self._policy(observations)
        difference = np.abs(actions.astype(np.float64) - self._other(observations)) / self._range
        self.largest = float(np.maximum(self.largest, difference.max()))
        return actions


def compare_verb(config: CompareConfig) -> dict[str, Any]:
    """Play both; a policy that loses too much comes back with the line that refuses it under `refused`.

    Raises:
        DistillError: the options, or a policy that was not compiled from this student.
        FileFormatError: a file is unusable.
    """
    in_range("--episodes", config.episodes, 1, LARGEST_EPISODES)
    in_range("--seed", config.seed, 0, LARGEST_EPISODES - config.episodes)
    spec = config.spec()
    facts = spec.facts()
    student, policy = read_student(config.student), read_policy(config.policy)
    check_fits(config.student, student, config.env, facts)
    digest = student_digest(config.student)
    if policy.parents.get("student") != digest:
        raise DistillError(
            f"policy {config.policy}: got one compiled from student {policy.parents.get('student', 'none')[:12]}, "
            f"expected {digest[:12]} ({config.student}); run `python -m export compile {config.student} --out "
            f"{config.policy}` again"
        )
    result = {
        "policy_digest": policy_digest(config.policy),
        "weights": policy.weight_format,
        "bytes": policy.byte_count.total,
        **compared(
            spec, student, policy, range(REPORT_SEED + config.seed, REPORT_SEED + config.seed + config.episodes)
        ),
        "episodes": config.episodes,
    }
    if not result["kept"] and not config.force:
        result["refused"] = (
            f"policy {config.policy} ({policy.weight_format}): interquartile mean return "
            f"{result['policy_return']['iqm']:.6g} after {result['student_return']['iqm']:.6g} of the student over "
            f"{config.episodes} episodes, expected a loss of at most {1 - KEPT:.0%}; compile it with wider --weights "
            "or --dataset, or accept it with --force"
        )
    return result


def compared(spec: EnvironmentSpec, student: Student, policy: SparsePolicy, seeds: range) -> dict[str, Any]:
    """Return both summaries, the policy's share of the student's return, and how far their actions were apart.

    kept: whether the policy's interquartile mean is at least KEPT of the student's. share with its 95 % interval
    (`ratio_interval`): None where the student's return is 0, of which nothing is a share.
    """
    exact: Policy = policy.evaluate_exact if policy.fixed is not None else policy.evaluate_float32

    def reference(observations: Array) -> Array:
        return student.evaluate(observations.astype(np.float64)).astype(np.float32)

    floats = ActionDifference(reference, exact, student.action_low, student.action_high)
    integers = ActionDifference(exact, reference, student.action_low, student.action_high)
    with TrainingProgress(only_on_a_terminal=True) as progress:
        longest = len(seeds) * longest_episode(spec)
        progress.stage("student", longest)
        by_student = play(spec, floats, seeds, on_step=progress.advance)
        progress.stage("policy", longest)
        by_policy = play(spec, integers, seeds, on_step=progress.advance)
    expected = summarise(by_student)
    reached = summarise(by_policy, expected["median"])
    return {
        "student_return": expected,
        "policy_return": reached,
        **_share(by_student, by_policy),
        "largest_action_difference": float(np.maximum(floats.largest, integers.largest)),
        "kept": bool(reached["iqm"] >= return_bar(expected["iqm"], KEPT)),
    }


def _share(student: Episodes, policy: Episodes) -> dict[str, float | None]:
    try:
        share, low, high = ratio_interval([policy.returns], student.returns)
    except DistillError:  # of a return of 0
        return {"share": None, "share_low": None, "share_high": None}
    return {"share": share, "share_low": low, "share_high": high}
