"""Look for the smallest student: train many shapes, refine the smallest on, search on from those just too small.

Every run prunes on as long as it holds the target, so each gives a curve of return against size, not a point. Runs lie
in folders named by what they are; the same command goes on where it was cut off.
"""

from __future__ import annotations

import dataclasses
import itertools
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from export.compile import build_policy
from export.student_file import read_student, write_student

from .config import SourceConfig, TrainConfig, in_range
from .errors import DistillError
from .evaluate import LARGEST_EPISODES, compare, return_bar
from .folder_lock import FolderLock
from .identity import Identities, digest
from .pareto import draw, front
from .policy_distillation.objectives import objective_named
from .priors import needs_scale
from .processes import run_all
from .refine_config import ObjectiveName, RefineConfig
from .refine_options import LARGEST_SEARCH
from .refinement.policy_gradient import GradientNumbers
from .refinement.search import SearchNumbers
from .result_file import writable, write_json
from .select import Candidate, Selection
from .smallest_config import SmallestConfig
from .source import read_source
from .teachers.critics import read_critics
from .train_options import check_config

_SOURCE = tuple(field.name for field in dataclasses.fields(SourceConfig))
_SEARCHABLE = 400  # parameters: beyond, a search by sampling finds little, and the return's gradient is followed


@dataclass(frozen=True)
class _Run:
    """One run and how rows call it; `words` say what is particular about it."""

    stage: str
    words: str
    config: TrainConfig | RefineConfig


def smallest(config: SmallestConfig) -> dict[str, Any]:
    """Write smallest.json, pareto.svg and student.safetensors into `config.out`; returns what smallest.json says.

    Raises:
        DistillError: bad options or inputs, or the first run that fails; what was finished stays.
    """
    _check(config)
    writable(config.out)
    with FolderLock(config.out):
        return _Hunt(config).run()


class _Hunt:
    """The rows so far, and what judges them."""

    def __init__(self, config: SmallestConfig) -> None:
        self.config = config
        self._trained = self._train_runs()  # first: it refuses impossible numbers
        self.spec, self.facts, self.teacher = read_source(config)
        self._refuse_objectives_without_critics()
        self._refuse_too_few_episodes()
        nothing = np.empty((0, self.facts.observation_size), np.float32)
        self.selection = Selection(self.spec, self.teacher.policy, nothing, config.selection_episodes)
        self.size = "bytes" if config.bytes else "kept_parameters"
        self.rows: list[dict[str, Any]] = []
        self._explored: set[Path] = set()
        self._identities = Identities()

    def run(self) -> dict[str, Any]:
        """All stages, then the report."""
        config = self.config
        self._explore(self._trained)
        self._explore(self._refine_runs())
        for _ in range(config.search_rounds if config.search_episodes else 0):
            before = self._smallest()
            self._explore(self._search_runs())
            if self._smallest() is before:
                break
        return self._report()

    def _refuse_objectives_without_critics(self) -> None:
        """Before anything is trained: some objectives ask for values that not every teacher's file has."""
        wanting = [name for name in self._objectives if objective_named(name).needs_teacher_value]
        if not wanting:
            return
        inputs = self.facts.observation_size + len(self.facts.action_low)
        try:
            read_critics(self.config.teacher, self.config.vecnormalize, self.config.activation, inputs)
        except DistillError as error:
            raise DistillError(
                f"--objectives: got {wanting[0]}, which asks for the teacher's values, and {self.config.teacher.name}, "
                "expected a SAC, TQC, TD3 or DDPG zip whose critics fit the environment, without --vecnormalize; name "
                "another objective"
            ) from error

    def _refuse_too_few_episodes(self) -> None:
        """Of one round up the gradient: whole episodes, so many as the environment's length asks for."""
        episodes = self.config.search_episodes
        if episodes:
            round_episodes = GradientNumbers(episodes, RefineConfig.spread, RefineConfig.gamma).round_episodes(
                self.spec
            )
            in_range("--search-episodes (0: no search)", episodes, round_episodes, LARGEST_SEARCH)

    @property
    def _objectives(self) -> tuple[ObjectiveName, ...]:
        return self.config.objectives or ("expected-entropy",)

    def _train_runs(self) -> list[_Run]:
        config = self.config
        shapes = sorted({(width,) * depth for width in config.widths for depth in config.depths}, key=_effort)
        runs = []
        for hidden, prior, weight in itertools.product(shapes, config.priors, config.data_weights):
            shape = "-".join(map(str, hidden)) or "linear"
            numbers = {"prior": prior, "data_weight": weight, "iterations": config.iterations}
            train = TrainConfig(**(self._shared() | {"hidden": hidden} | numbers))
            check_config(train)
            runs.append(_Run("trained", f"{shape}, {prior}, |D| {weight:g}", train))
        return runs

    def _refine_runs(self) -> list[_Run]:
        """From the smallest that hold the target, one a run, by every objective."""
        best: dict[str, dict[str, Any]] = {}
        for row in self._by_size(holds=True):
            best.setdefault(row["run"], row)
        chosen = list(best.values())[: self.config.finalists]
        return [
            _Run("refined", f"{row['words']}; {objective}", self._refine(row, objective=objective))
            for row in chosen
            for objective in self._objectives
        ]

    def _search_runs(self) -> list[_Run]:
        """From the best of those that are smaller than the smallest, and do not hold the target yet."""
        smallest = self._smallest()
        small = [row for row in self._by_size(holds=False) if smallest is None or row[self.size] < smallest[self.size]]
        small = [row for row in small if row["stage"] != "searched"]
        small.sort(key=lambda row: -row["return_mean"])
        runs = (self._search_run(row) for row in small)
        fresh = (run for run in runs if self._folder(run) not in self._explored)
        return list(itertools.islice(fresh, self.config.finalists))

    def _search_run(self, row: dict[str, Any]) -> _Run:
        search = "cma-es" if row["kept_parameters"] <= _SEARCHABLE else "policy-gradient"
        numbers = {"fine_tune_iterations": 0, "search": search, "search_episodes": self.config.search_episodes}
        return _Run("searched", f"{row['words']}; {search}", self._refine(row, objective="on-policy", **numbers))

    def _refine(self, row: dict[str, Any], **changes: Any) -> RefineConfig:
        return RefineConfig(**(self._shared() | {"student": Path(row["file"])} | changes))

    def _shared(self) -> dict[str, Any]:
        config = self.config
        names = (*_SOURCE, "target_return", "selection_episodes", "fine_tune_iterations", "seed")
        # the report of a run that is not chosen is of no use
        return {name: getattr(config, name) for name in names} | {"evaluation_episodes": 1}

    def _explore(self, runs: list[_Run]) -> None:
        """Make what is missing of these runs; the students of those that are new become rows."""
        placed: dict[Path, tuple[_Run, TrainConfig | RefineConfig]] = {}
        for run in runs:
            out = self._folder(run)
            if out not in self._explored:
                placed.setdefault(out, (run, dataclasses.replace(run.config, out=out)))
        self._explored |= placed.keys()
        found = run_all(_carry_out, [config for _, config in placed.values()], self.config.jobs, _say)
        for (run, config), result in zip(placed.values(), found, strict=True):
            for entry in result["candidates"]:
                self.rows.append(self._row(run, config.out, Candidate.from_row(entry)))

    def _folder(self, run: _Run) -> Path:
        return self.config.out / "runs" / f"{run.stage}-{digest(self._identities.run(run.config))}"

    def _row(self, run: _Run, folder: Path, candidate: Candidate) -> dict[str, Any]:
        return {
            "stage": run.stage,
            "words": run.words,
            "run": folder.name,
            "file": str(folder / "sizes" / candidate.name),
            "kept_weights": candidate.kept_weights,
            "kept_parameters": candidate.kept_parameters,
            "bytes": candidate.bytes,
            "return_mean": candidate.summary["mean"],
            "return_iqm": candidate.summary["iqm"],
            "fine_tuned": candidate.fine_tuned,
            "share_below_90_percent": candidate.summary["share_below_90_percent"],
            "holds": not self.selection.shortcomings(candidate, self.config.target_return),
        }

    def _by_size(self, *, holds: bool) -> list[dict[str, Any]]:
        rows = [row for row in self.rows if row["holds"] == holds]
        return sorted(rows, key=lambda row: (row[self.size], -row["return_mean"]))

    def _smallest(self) -> dict[str, Any] | None:
        return next(iter(self._by_size(holds=True)), None)

    def _report(self) -> dict[str, Any]:
        """The smallest that holds the target, else the one with the best return, on held-out episodes."""
        config, chosen = self.config, self._smallest()
        held = chosen is not None
        if chosen is None:
            chosen = max(self.rows, key=lambda row: row["return_mean"])
            print("warning: no student holds the target; the one with the best return is reported", file=sys.stderr)
        student = read_student(chosen["file"])
        policy = build_policy(student).evaluate_float32
        teacher_return, student_return = compare(self.spec, self.teacher.policy, policy, config.evaluation_episodes)
        best = self.selection.teacher
        draw(
            self.rows,
            self.size,
            best["iqm"],
            return_bar(best["iqm"], config.target_return),
            config.out / "pareto.svg",
        )
        evaluation = {"teacher": teacher_return, "student": student_return, "fine_tuned": chosen["fine_tuned"]}
        path = config.out / "student.safetensors"
        write_student(path, dataclasses.replace(student, evaluation=evaluation))
        result = {
            "student": str(path),
            "target_held": held,
            "by": self.size,
            "chosen": chosen,
            **{name: chosen[name] for name in ("kept_weights", "kept_parameters", "bytes")},
            "teacher_parameters": self.teacher.chain.parameters,
            "teacher_return": teacher_return,
            "student_return": student_return,
            "selection_teacher": best,
            "pareto": front(self.rows, self.size),
            "rows": self.rows,
        }
        write_json(config.out / "smallest.json", result)
        return result


def _effort(hidden: tuple[int, ...]) -> int:
    return sum(a * b for a, b in itertools.pairwise((1, *hidden, 1)))


def _carry_out(config: TrainConfig | RefineConfig) -> dict[str, Any]:
    """In a worker: make the run, go on with it, or read what it gave."""
    from .distillation import distil
    from .refinement.refinement import refine

    resumed = dataclasses.replace(config, resume=True)
    return refine(resumed) if isinstance(resumed, RefineConfig) else distil(resumed)


def _say(config: TrainConfig | RefineConfig, result: dict[str, Any]) -> None:
    held = "holds the target" if result["target_held"] else "misses the target"
    print(
        f"smallest: {config.out.name}: {result['kept_parameters']} parameters, {result['bytes']} bytes, "
        f"return {result['chosen']['selection']['mean']:.1f}, {held}",
        file=sys.stderr,
    )


def _check(config: SmallestConfig) -> None:
    in_range("--finalists", config.finalists, 0, 1_000)
    if config.search_episodes:
        in_range("--search-episodes (0: no search)", config.search_episodes, _one_generation(), LARGEST_SEARCH)
    in_range("--search-rounds", config.search_rounds, 0, 1_000)
    in_range("--evaluation-episodes", config.evaluation_episodes, 1, LARGEST_EPISODES)
    in_range("--jobs", config.jobs, 1, 1_024)
    for name in ("widths", "depths", "priors", "data_weights"):
        if not getattr(config, name):
            raise DistillError(f"--{name.replace('_', '-')}: got none, expected at least one; name some")
    for name in config.priors:
        if needs_scale(name):
            raise DistillError(
                f"--priors: got {name}, which needs a scale that a hunt does not choose, expected others; leave it out"
            )
    for width in config.widths:
        in_range("--widths", width, 1, 65_535)
    for depth in config.depths:
        in_range("--depths", depth, 0, 8)


def _one_generation() -> int:
    """Episodes of one generation of the widest search that there may be."""
    numbers = SearchNumbers("cma-es", 0, RefineConfig.search_episodes_each, RefineConfig.search_step)
    return numbers.generation_episodes(_SEARCHABLE)
