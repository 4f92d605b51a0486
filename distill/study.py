"""Many runs that are compared: each trained once, resumable, its students scored on held-out episodes.

A study is a list of arms. An arm's folder keeps its rows once it is finished, so a study that was cut off goes on where
it stopped; rows do not depend on how many arms run at a time.
"""

from __future__ import annotations

import dataclasses
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .commit import own_code
from .config import SourceConfig, TrainConfig
from .errors import DistillError
from .evaluate import REPORT_SEED, SELECTION_SEED, interquartile_mean
from .identity import Identities, as_json, digest
from .processes import run_all
from .refine_config import RefineConfig
from .refine_options import check_refine_config
from .result_file import read_json, writable, write_json
from .train_options import check_config

if TYPE_CHECKING:
    from export.sparse_policy import SparsePolicy
    from export.student_file import Student

    from .environment import EnvironmentSpec

TEACHER_EPISODES = 100
EPISODES = 20  # held-out ones of a student, disjoint between the seeds of an arm
_IDENTITY, _ROWS = "arm.json", "rows.json"
_UNKNOWN = "unknown"  # code of an arm that did not write down what it began with


@dataclass(frozen=True)
class Arm:
    """One run of a study; its config's `out` is its folder and its `seed` the training seed."""

    environment: str  # what tables call it
    method: str
    config: TrainConfig | RefineConfig
    episodes: int = EPISODES
    thresholds: tuple[float, ...] = ()  # also score the student before it shrinks, its means cut at these log alphas
    scored_on: str | None = None  # environment arguments (JSON) of the held-out episodes, where not the training's

    def scoring(self) -> TrainConfig | RefineConfig:
        """The options with the environment of the held-out episodes."""
        if self.scored_on is None:
            return self.config
        return dataclasses.replace(self.config, env_kwargs=self.scored_on)


@dataclass(frozen=True)
class _Work:
    """An arm and what is known of it before it is trained."""

    arm: Arm
    run: dict[str, Any]  # identity of the training
    rows: dict[str, Any]  # of the training and how its students are scored
    teacher_returns: Path


def run_study(arms: Sequence[Arm], jobs: int) -> list[dict[str, Any]]:
    """Train and score every arm that is not finished yet; returns the rows of all, in the order of `arms`.

    A row is one student: environment, teacher (its file's name), method, seed; size (weights asked for) or threshold
    (log alpha at which it was cut, not fine-tuned), the other is None; pruned_to (weights left by pruning),
    kept_weights and kept_parameters (those that reach an output), density, bytes (as `export` stores it: values,
    indices, row pointers, biases), dense_bytes (the same layers stored whole), steps (of training and fine-tuning),
    returns (episodes,), return_iqm, teacher_return_iqm, teacher_parameters, cpu_seconds up to this student, and of
    the code that its training began with: commit (None without git) and sources (version and digest).

    Raises:
        DistillError: options of an arm, or the first arm that fails; what was finished stays.
    """
    identities = Identities()
    work = [_work(arm, identities) for arm in arms]
    waiting = [each for each in work if _finished(each) is None]
    print(f"study: {len(arms)} runs, {len(arms) - len(waiting)} of them finished earlier", file=sys.stderr)
    started, count = time.perf_counter(), 0

    def say(each: _Work, rows: list[dict[str, Any]]) -> None:
        nonlocal count
        count += 1
        best, teacher = max(row["return_iqm"] for row in rows), rows[0]["teacher_return_iqm"]
        print(
            f"study: {count} of {len(waiting)} done after {time.perf_counter() - started:.0f} s: "
            f"{each.arm.environment}, {each.arm.method}, seed {each.arm.config.seed}: "
            f"best return {best:.1f}, the teacher's {teacher:.1f}",
            file=sys.stderr,
        )

    run_all(_run, waiting, jobs, say)
    return [row for each in work for row in (_finished(each) or [])]


def dense_bytes(widths: Sequence[int]) -> int:
    """Bytes of a dense float32 network of these widths: weights and biases, no indices."""
    return 4 * sum(outputs * (inputs + 1) for inputs, outputs in pairwise(widths))


def dense_width(inputs: int, actions: int, budget_bytes: int) -> int:
    """Largest width of two equal hidden layers whose dense network fits; 0 where none does."""
    width = 0
    while dense_bytes((inputs, width + 1, width + 1, actions)) <= budget_bytes:
        width += 1
    return width


def teacher_returns_path(folder: Path, source: dict[str, Any]) -> Path:
    """Where a study below `folder` keeps the returns of a teacher; `source` is its `Identities.source`."""
    return folder / f"teacher-{digest(as_json(source))}.json"


def teacher_returns(config: SourceConfig, path: Path) -> NDArray[np.float64]:
    """The teacher's returns on the report episodes (TEACHER_EPISODES,), played once and kept at `path`."""
    if not path.is_file():
        from .rollout import play
        from .source import read_source

        spec, _, teacher = read_source(config, say_notes=False)
        seeds = range(REPORT_SEED, REPORT_SEED + TEACHER_EPISODES)
        write_json(path, {"returns": play(spec, teacher.policy, seeds).returns.tolist()})
    return np.array(read_json(path, "returns")["returns"])


def held_out(seed: int, episodes: int) -> range:
    """Seeds of the episodes on which the student of a training seed is scored.

    Raises:
        DistillError: they would reach into those that sizes are chosen on.
    """
    first = REPORT_SEED + episodes * seed
    if first + episodes > SELECTION_SEED:
        raise DistillError(
            f"study: got training seed {seed} with {episodes} held-out episodes a seed, expected seeds below "
            f"{(SELECTION_SEED - REPORT_SEED) // episodes}: beyond, students would be scored on the episodes that "
            "sizes are chosen on; take smaller seeds or fewer episodes"
        )
    return range(first, first + episodes)


def _work(arm: Arm, identities: Identities) -> _Work:
    if isinstance(arm.config, RefineConfig):
        check_refine_config(arm.config)
    else:
        check_config(arm.config)
    held_out(arm.config.seed, arm.episodes)
    run = identities.run(arm.config)
    rows = as_json({"run": run, "method": arm.method, "episodes": arm.episodes, "thresholds": arm.thresholds})
    source = identities.source(arm.scoring())
    if arm.scored_on is not None:
        rows["scored_on"] = source["environment"]
    path = teacher_returns_path(arm.config.out.parent.parent, source)
    return _Work(arm, run, rows, path)


def _finished(work: _Work) -> list[dict[str, Any]] | None:
    stored = _stored(work.arm.config.out / _ROWS, "identity", "rows")
    if stored is None or stored["identity"] != work.rows:
        return None  # other options: the run is made again
    rows: list[dict[str, Any]] = stored["rows"]
    return rows


def _stored(path: Path, *names: str) -> dict[str, Any] | None:
    return read_json(path, *names) if path.is_file() else None


def _run(work: _Work) -> list[dict[str, Any]]:
    """In a worker: train or go on with an arm, score its students, keep the rows."""
    from export.prune import prune
    from export.student_file import read_student

    from .distillation import distil
    from .refinement.refinement import refine
    from .source import read_source

    arm, config = work.arm, work.arm.config
    writable(config.out)
    code = _begin(config.out, work.run)
    if isinstance(config, RefineConfig):
        result = refine(dataclasses.replace(config, resume=True))
    else:
        result = distil(dataclasses.replace(config, resume=True))
    spec, _, teacher = read_source(arm.scoring(), say_notes=False)
    reference = interquartile_mean(teacher_returns(arm.scoring(), work.teacher_returns))
    students: list[tuple[dict[str, Any], Student, dict[str, Any]]] = []
    for candidate in result["sizes"] or [{"asked": None, **result["chosen"]}]:
        student = read_student(config.out / "sizes" / candidate["name"])
        students.append((candidate, student, {"size": candidate["asked"], "threshold": None}))
    first = result["candidates"][0]
    for threshold in arm.thresholds:
        student = prune(read_student(config.out / "sizes" / first["name"]), threshold).student
        students.append((first, student, {"size": None, "threshold": threshold}))
    rows = []
    for candidate, student, asked in students:
        policy, returns = _scored(student, spec, held_out(config.seed, arm.episodes))
        rows.append(
            {
                "environment": arm.environment,
                "teacher": config.teacher.name,
                "method": arm.method,
                **asked,
                "seed": config.seed,
                "pruned_to": candidate["size"] if asked["threshold"] is None else _nonzero(student),
                "kept_weights": policy.kept_weights,
                "kept_parameters": policy.kept_parameters,
                "density": policy.density,
                "bytes": policy.byte_count.total,
                "dense_bytes": dense_bytes(policy.widths),
                "steps": candidate.get("steps"),
                "return_iqm": interquartile_mean(returns),
                "teacher_return_iqm": reference,
                "teacher_parameters": teacher.chain.parameters,
                "cpu_seconds": candidate["cpu_seconds"],
                **code,
                "returns": [round(float(value), 3) for value in returns],
            }
        )
    write_json(config.out / _ROWS, {"identity": work.rows, "rows": rows})
    return rows


def _begin(folder: Path, run: dict[str, Any]) -> dict[str, Any]:
    """Make the folder this run's, where it is another's; returns the code that its training began with.

    Whoever scores the students, or scores them again, may have other code: what trained them is what counts.
    """
    stored = _stored(folder / _IDENTITY)
    if stored is not None and stored.get("run", stored) == run:
        if "run" in stored:
            return {"commit": stored["commit"], "sources": stored["sources"]}
        return {"commit": None, "sources": _UNKNOWN}  # begun when an arm's file had nothing but the run's identity
    shutil.rmtree(folder / "checkpoint", ignore_errors=True)
    (folder / "distill.json").unlink(missing_ok=True)
    code = own_code()
    write_json(folder / _IDENTITY, {"run": run, **code})
    return code


def _scored(student: Student, spec: EnvironmentSpec, seeds: range) -> tuple[SparsePolicy, NDArray[np.float64]]:
    """The policy as the device computes it, and its returns on these episodes."""
    from export.compile import build_policy

    from .rollout import play

    policy = build_policy(student)
    return policy, play(spec, policy.evaluate_float32, seeds).returns


def _nonzero(student: Student) -> int:
    return sum(int(np.count_nonzero(layer.weight)) for layer in student.layers)
