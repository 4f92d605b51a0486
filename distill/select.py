"""Candidates to ship, their scores on episodes used for nothing else, and what keeps them from holding the target."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from export.compile import build_policy
from export.sparse_policy import SparsePolicy
from export.student_file import Student

from .environment import Array, EnvironmentSpec
from .evaluate import SELECTION_SEED, return_bar, summarise
from .rollout import Policy, play

LARGEST_ROUNDING_ERROR = 1e-5  # share of the action range, over the whole dataset; no actuator shows less
_ROUNDING_ROWS = 200_000  # newest rows of a dataset on which rounding is judged
_MORE_FALLS = 0.02  # share of the episodes below 90 % of the teacher that a student may have beyond the teacher's own


@dataclass(frozen=True)
class Candidate:
    """One student that could be shipped, and how it did on the selection episodes."""

    name: str  # of its file
    size: int  # weights it was pruned to; some of them may reach no output
    kept_weights: int
    kept_parameters: int
    bytes: int  # values, indices, row pointers, biases; no code
    rounding_error: float  # largest |float32 - float64| action on the dataset, as a share of the action range
    error: float  # mean squared error of its last minibatches, shares of half the action range
    fine_tuned: bool
    steps: int  # of training and fine-tuning until it was judged
    cpu_seconds: float  # spent on the run until then
    summary: dict[str, Any]

    def row(self) -> dict[str, Any]:
        """What the result file says about it, and what `from_row` needs."""
        return {
            "name": self.name,
            "size": self.size,
            "kept_weights": self.kept_weights,
            "kept_parameters": self.kept_parameters,
            "bytes": self.bytes,
            "rounding_error": self.rounding_error,
            "error": self.error,
            "fine_tuned": self.fine_tuned,
            "steps": self.steps,
            "cpu_seconds": self.cpu_seconds,
            "selection": self.summary,
        }

    @staticmethod
    def from_row(row: dict[str, Any]) -> Candidate:
        """The candidate that `row` describes."""
        fields = {key: value for key, value in row.items() if key != "selection"}
        return Candidate(**fields, summary=row["selection"])


def rounding_error(policy: SparsePolicy, observations: Array) -> float:
    """Largest |float32 - float64| action over `observations` (n, inputs), as a share of the action range."""
    span = policy.action_high.astype(np.float64) - policy.action_low
    return float(np.max(np.abs(policy.evaluate_float32(observations) - policy.evaluate(observations)) / span))


class Selection:
    """Scores candidates against the teacher on the selection episodes."""

    def __init__(self, spec: EnvironmentSpec, teacher: Policy, observations: Array, episodes: int) -> None:
        """`observations` (n, inputs): where candidates are asked how well float32 serves them."""
        self._spec = spec
        self._seeds = range(SELECTION_SEED, SELECTION_SEED + episodes)
        self._observations = np.asarray(observations[-_ROUNDING_ROWS:])
        self.teacher = summarise(play(spec, teacher, self._seeds))

    def score(
        self, student: Student, name: str, *, size: int, error: float, fine_tuned: bool, steps: int, cpu_seconds: float
    ) -> Candidate:
        """Play the selection episodes with one candidate; sizes are those of what export will store."""
        policy = build_policy(student)
        return Candidate(
            name=name,
            size=size,
            kept_weights=policy.kept_weights,
            kept_parameters=policy.kept_parameters,
            bytes=policy.byte_count.total,
            # the known answers too: the device judges itself by them before it arms
            rounding_error=rounding_error(policy, np.concatenate((self._observations, policy.known_observations))),
            error=error,
            fine_tuned=fine_tuned,
            steps=steps,
            cpu_seconds=cpu_seconds,
            summary=summarise(play(self._spec, policy.evaluate_float32, self._seeds), self.teacher["median"]),
        )

    def loses(self, candidate: Candidate, target_return: float) -> list[str]:
        """What it loses against the teacher; empty when it holds the target."""
        bar = return_bar(self.teacher["iqm"], target_return)
        falls = self.teacher["share_below_90_percent"] + _MORE_FALLS
        found = []
        if candidate.summary["iqm"] < bar:
            found.append(
                f"return {candidate.summary['iqm']:.1f}, expected {bar:.1f} (raise --fine-tune-doublings or begin with "
                "a larger student)"
            )
        if candidate.summary["share_below_90_percent"] > falls + 1e-9:  # shares of counts, rounded in binary
            found.append(
                f"{candidate.summary['share_below_90_percent']:.0%} of the episodes below 90 % of the teacher, "
                f"expected at most {falls:.0%} (raise --fine-tune-iterations or begin with a larger student)"
            )
        return found

    def shortcomings(self, candidate: Candidate, target_return: float) -> list[str]:
        """What keeps a candidate from being shipped as one that holds the target; empty when nothing does."""
        found = self.loses(candidate, target_return)
        if candidate.rounding_error > LARGEST_ROUNDING_ERROR:
            found.append(
                f"float32 rounding of {candidate.rounding_error:.1e} of the action range, expected "
                f"{LARGEST_ROUNDING_ERROR:.0e} (raise --observation-noise)"
            )
        return found

    def best_of(self, candidates: list[Candidate], target_return: float) -> Candidate:
        """Among students of one size: one that holds the target, then the best mean, in which falls show."""
        return max(candidates, key=lambda each: (not self.shortcomings(each, target_return), each.summary["mean"]))

    def choose(self, candidates: list[Candidate], target_return: float) -> Candidate:
        """Smallest candidate that holds the target; where none does, the best return among those that round well."""
        holding = [candidate for candidate in candidates if not self.shortcomings(candidate, target_return)]
        if holding:
            return min(holding, key=lambda candidate: (candidate.kept_parameters, -candidate.summary["iqm"]))
        return max(
            candidates,
            key=lambda candidate: (candidate.rounding_error <= LARGEST_ROUNDING_ERROR, candidate.summary["iqm"]),
        )
