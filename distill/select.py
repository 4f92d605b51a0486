"""Choose which student is shipped: the smallest that holds the target on episodes used for nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from export.simplify import simplify
from export.student_file import Student

from .evaluate import SELECTION_SEED, return_bar, summarise
from .network import network_policy
from .rollout import EnvironmentSpec, Policy, play

SELECTION_EPISODES = 100


@dataclass(frozen=True)
class Candidate:
    """One student that could be shipped, and how it did on the selection episodes."""

    student: Student
    threshold: float
    fine_tuned: bool
    kept_weights: int
    kept_parameters: int
    summary: dict[str, Any]

    def row(self) -> dict[str, Any]:
        """What the result file says about it."""
        return {
            "threshold": self.threshold,
            "fine_tuned": self.fine_tuned,
            "kept_weights": self.kept_weights,
            "kept_parameters": self.kept_parameters,
            "selection": self.summary,
        }


def kept(student: Student) -> tuple[int, int]:
    """(kept weights, kept parameters) after export's simplification: what will really be stored."""
    layers = simplify(student)
    weights = sum(int(np.count_nonzero(layer.weight)) for layer in layers)
    return weights, weights + sum(int(np.count_nonzero(layer.bias)) for layer in layers)


class Selection:
    """Scores candidates against the teacher on the selection episodes."""

    def __init__(self, spec: EnvironmentSpec, teacher: Policy) -> None:
        self._spec = spec
        self._seeds = range(SELECTION_SEED, SELECTION_SEED + SELECTION_EPISODES)
        self.teacher = summarise(play(spec, teacher, self._seeds))

    def score(self, student: Student, threshold: float, *, fine_tuned: bool) -> Candidate:
        """Play the selection episodes with one candidate."""
        summary = summarise(play(self._spec, network_policy(student), self._seeds), self.teacher["median"])
        weights, parameters = kept(student)
        return Candidate(student, threshold, fine_tuned, weights, parameters, summary)

    def choose(self, candidates: list[Candidate], target_return: float) -> Candidate:
        """Smallest candidate whose IQM and falls hold the target; where none does, the best return."""
        bar = return_bar(self.teacher["iqm"], target_return)
        falls = self.teacher["share_below_90_percent"] + 0.01
        holding = [
            candidate
            for candidate in candidates
            if candidate.summary["iqm"] >= bar and candidate.summary["share_below_90_percent"] <= falls
        ]
        if holding:
            return min(holding, key=lambda candidate: (candidate.kept_parameters, -candidate.summary["iqm"]))
        return max(candidates, key=lambda candidate: float(candidate.summary["iqm"]))
