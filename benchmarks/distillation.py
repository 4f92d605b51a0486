"""Distil every benchmark teacher at several sizes, beside linear and dense students: docs/results/distill.json.

    python -m benchmarks.distillation [--quick] [--jobs 2] [--seeds 5] [--only Hopper-TQC ...] [--methods ...]

The teachers are policies that others trained; they are no part of this project (--teachers names their folder). Runs
that finished are kept under runs/ and not made again; an interrupted one goes on where it stopped. The rows of the
environments and methods that were run take the place of their earlier ones in the file; the others stay. What --quick
finds stays under --out, and its tables are printed: one seed belongs into no document.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.distillation_tables import DENSE, GRADIENT, LINEAR, OFFLINE, STUDENT, groups, load, section
from benchmarks.provenance import origin, provenance, refuse_dirty
from distill.config import SHIPPED_TEACHER, ShrinkConfig, TrainConfig
from distill.environment import EnvironmentSpec
from distill.errors import DistillError
from distill.identity import Identities
from distill.plan import Plan
from distill.refine_config import RefineConfig
from distill.result_file import write_json
from distill.study import Arm, dense_width, run_study, teacher_returns, teacher_returns_path
from export.errors import ExportError

ROOT = Path(__file__).resolve().parent.parent
METHODS = STUDENT, GRADIENT, LINEAR, OFFLINE, DENSE


Sized = tuple[int | None, Arm]  # an arm and the size of the student that it is compared at; None: any


@dataclass(frozen=True)
class Case:
    """A teacher, its environment, and the sizes (kept weights) at which students are shown."""

    name: str
    teacher: str  # a file of the teachers' folder; of this project's own where that is empty
    environment: str
    sizes: tuple[int, ...]
    hidden: tuple[int, ...] = (64, 64)
    arguments: str = "{}"
    vecnormalize: str | None = None
    offline: bool = True
    doublings: int = 2  # a teacher that is hard to follow takes longer at each size
    dense_size: int | None = None  # the size whose bytes the dense student gets
    paper: tuple[int, float] | None = None  # the paper's kept weights and share of the return, its teacher and v3
    shipped: Path = SHIPPED_TEACHER  # this project's own


CASES = (
    Case("Hopper-TQC", "zoo/tqc-Hopper-v3.zip", "Hopper-v5", (1701, 850, 600), dense_size=850, paper=(1701, 0.87)),
    Case(
        "Hopper-BERKELEY",
        "Hopper-BERKELEY.npz",
        "Hopper-v5",
        (850, 425, 170),
        hidden=(32, 32),
        dense_size=425,
        paper=(1701, 0.87),
    ),
    Case(
        "Walker2d-TQC", "zoo/tqc-Walker2d-v3.zip", "Walker2d-v5", (2172, 1086, 800), dense_size=1086, paper=(2172, 0.9)
    ),
    Case(
        "HalfCheetah-TQC",
        "zoo/tqc-HalfCheetah-v3.zip",
        "HalfCheetah-v5",
        (2858, 1429),
        doublings=4,
        dense_size=1429,
        paper=(2858, 0.91),
    ),
    Case(
        "Ant-TRPO",
        "zoo/trpo-Ant-v3.zip",
        "Ant-v5",
        (2010, 500, 250),
        arguments='{"include_cfrc_ext_in_observation": false}',
        vecnormalize="zoo/trpo-Ant-v3-vecnormalize.pkl",
        dense_size=500,
        paper=(4020, 1.02),
    ),
    Case("CartRail", "", "hardware:CartRail-v0", (250, 150), hidden=(16, 16), dense_size=150),
)


def config_of(case: Case, teachers: Path, out: Path) -> TrainConfig:
    """The recipe of every arm of a case."""
    return TrainConfig(
        teacher=teachers / case.teacher if case.teacher else ROOT / case.shipped,
        vecnormalize=None if case.vecnormalize is None else teachers / case.vecnormalize,
        env=case.environment,
        env_kwargs=case.arguments,
        hidden=case.hidden,
        kept_weights=case.sizes,
        fine_tune_doublings=case.doublings,
        out=out,
        evaluation_episodes=1,  # the study scores every size itself
    )


def fine_tuning_steps(config: TrainConfig, weights: int) -> int:
    """Most steps of fine-tuning that a student of `weights` weights may get: where no size ever holds the target."""
    plan = Plan(
        sizes=config.kept_weights,
        factor=config.shrink,
        iterations=config.fine_tune_iterations,
        doublings=config.fine_tune_doublings,
    )
    steps, rung = 0, plan.first(weights)
    while rung is not None:
        steps, rung = steps + rung.iterations, plan.following(rung, holds=False)
    return steps


def control(config: TrainConfig, inputs: int, hidden: tuple[int, ...], actions: int) -> TrainConfig:
    """A dense student that may be trained for about as long as the sparse ones: they take their steps in many sizes."""

    def weights(widths: tuple[int, ...]) -> int:
        return sum(a * b for a, b in pairwise((inputs, *widths, actions)))

    most = fine_tuning_steps(config, weights(config.hidden))
    variants = [
        replace(config, method="dense", hidden=hidden, kept_weights=(weights(hidden),), fine_tune_doublings=doublings)
        for doublings in range(config.fine_tune_doublings, 11)
    ]
    return min(variants, key=lambda variant: abs(math.log(fine_tuning_steps(variant, weights(hidden)) / most)))


def arms_of(case: Case, config: TrainConfig, seeds: int) -> list[Arm]:
    """Student-driven and offline at all sizes, and the linear control."""
    spec = EnvironmentSpec(case.environment, json.loads(case.arguments))
    facts = spec.facts()
    inputs, actions = facts.observation_size, len(facts.action_low)
    variants = [
        (STUDENT, config),
        (LINEAR, control(config, inputs, (), actions)),
    ]
    if case.offline:
        variants.append(
            (OFFLINE, replace(config, states="dataset", value_weight=0.0, episodes=200, cost_sensitive=False))
        )
    return [arm(case, method, variant, seed) for method, variant in variants for seed in range(seeds)]


def arm(case: Case, method: str, config: TrainConfig, seed: int) -> Arm:
    """One run in its own folder."""
    folder = config.out / case.name / method.replace(", ", "-").replace(" ", "-") / f"seed{seed}"
    return Arm(case.name, method, replace(config, out=folder, seed=seed))


def beside(
    earlier: list[dict[str, Any]], rows: list[dict[str, Any]], names: Collection[str], methods: Sequence[str] = METHODS
) -> list[dict[str, Any]]:
    """`rows` and, of these environments, the earlier rows of methods that were not run now; in the methods' order."""
    run = {(row["environment"], row["method"]) for row in rows}
    kept = [row for row in earlier if row["environment"] in names and (row["environment"], row["method"]) not in run]
    return sorted(kept + rows, key=lambda row: methods.index(row["method"]))


def dense_arms(case: Case, config: TrainConfig, rows: list[dict[str, Any]], seeds: int) -> list[Arm]:
    """Dense students of at most the bytes that the student-driven ones of `case.dense_size` weights take on average."""
    sizes = [row["bytes"] for row in rows if row["method"] == STUDENT and row["size"] == case.dense_size]
    if not sizes:
        raise DistillError(
            f"{case.name}: got no {STUDENT} rows of {case.dense_size} weights, expected those whose bytes the dense "
            f"students are to have; run --methods {STUDENT} first"
        )
    facts = EnvironmentSpec(case.environment, json.loads(case.arguments)).facts()
    inputs, actions = facts.observation_size, len(facts.action_low)
    width = dense_width(inputs, actions, round(float(np.mean(sizes))))
    variant = control(config, inputs, (width, width), actions)
    return [arm(case, DENSE, variant, seed) for seed in range(seeds)]


def sized(run: Path, size: int) -> Path:
    """The student of a size that a finished run visited."""
    result = json.loads((run / "distill.json").read_text(encoding="utf-8"))
    name: str = next(each["name"] for each in result["sizes"] if each["asked"] == size)
    return run / "sizes" / name


def refine_config(config: TrainConfig, student: Path, out: Path, seed: int, **changes: Any) -> RefineConfig:
    """The recipe of every refinement of a case: fine-tuning with the case's numbers, at the student's mask.

    No two methods are held to the same number of steps: fine-tuning goes on, up to its last doubling, until a student
    holds the target, and the one that it began with may be kept, after none.
    """
    names = [field for field in ShrinkConfig.__dataclass_fields__ if field != "kept_weights"]
    shared = {name: getattr(config, name) for name in names} | {"out": out, "seed": seed}
    return RefineConfig(**(shared | {"student": student, "mask": "fixed"} | changes))


def gradient_arms(case: Case, config: TrainConfig, seeds: int) -> list[Sized]:
    """Up the gradient of the return from the student-driven students of `case.dense_size` weights, at their masks.

    Raises:
        DistillError: one of them is not there.
    """
    arms: list[Sized] = []
    for seed in range(seeds):
        run = arm(case, STUDENT, config, seed).config.out
        if not (run / "distill.json").is_file():
            raise DistillError(
                f"{run}: no finished run, expected the student that {GRADIENT!r} begins with; run --methods "
                f"{STUDENT!r} first"
            )
        out = arm(case, GRADIENT, config, seed).config.out
        changes = {"objective": "on-policy", "fine_tune_iterations": 0, "search": "policy-gradient"}
        climbed = refine_config(config, sized(run, case.dense_size or min(case.sizes)), out, seed, **changes)
        arms.append((case.dense_size, Arm(case.name, GRADIENT, climbed)))
    return arms


def run_sized(arms: list[Sized], jobs: int) -> list[dict[str, Any]]:
    """Rows of arms with one student each, at the size that they are compared at."""
    rows = run_study([arm for _, arm in arms], jobs)
    return [{**row, "size": row["size"] if size is None else size} for (size, _), row in zip(arms, rows, strict=True)]


def quick(case: Case) -> Case:
    """One small size of a case, student-driven only."""
    return replace(case, sizes=case.sizes[-1:], offline=False, dense_size=case.sizes[-1])


def measurement(
    begun: dict[str, str],
    rows: list[dict[str, Any]],
    returns: dict[str, list[float]],
    case: Case,
    stored: dict[str, Any] | None,
) -> dict[str, Any]:
    """What belongs to all rows of one environment: where they come from, the teacher's returns, the paper's figures."""
    own = [row for row in rows if row["environment"] == case.name]
    before, earlier = (None, []) if stored is None else (stored["provenance"].get(case.name), stored["rows"])
    return {
        "provenance": origin(begun, own, before, earlier),
        "teacher_returns": returns[case.name],
        "paper": case.paper,
    }


def merged(
    stored: dict[str, Any] | None, begun: dict[str, str], rows: list[dict[str, Any]], measured: dict[str, Any]
) -> dict[str, Any]:
    """The results file: new rows in place of the earlier ones of their environments, the others as they were.

    Says on stderr where an environment's rows become fewer.
    """
    earlier: list[dict[str, Any]] = [] if stored is None else stored["rows"]
    for name in measured:
        before, after = (sum(row["environment"] == name for row in each) for each in (earlier, rows))
        if before > after:
            print(f"{name}: {after} rows take the place of {before}; the earlier file is in git", file=sys.stderr)
    result: dict[str, Any] = {**begun, "rows": [row for row in earlier if row["environment"] not in measured] + rows}
    for key in ("provenance", "teacher_returns", "paper"):
        values = {} if stored is None else dict(stored.get(key, {}))
        result[key] = values | {name: figures[key] for name, figures in measured.items()}
    result["sources"] = sorted({row["sources"] for row in result["rows"]})
    return result


def refuse_missing_teachers(cases: Sequence[Case], folder: Path) -> None:
    """End the program where the files of some cases are not there."""
    missing = [case.name for case in cases if case.teacher and not (folder / case.teacher).is_file()]
    if missing:
        sys.exit(
            f"error: {folder}: teachers of {', '.join(missing)} are missing, expected the files that "
            "benchmarks/distillation.py names; give their folder with --teachers, or choose others with --only"
        )


def main() -> None:
    """Run what is missing, then write the JSON file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teachers", type=Path, default=ROOT.parent / "shared" / "teachers")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "bench")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=None, help="training seeds (default 5; quick: 1)")
    parser.add_argument("--only", nargs="+", choices=[case.name for case in CASES], help="these teachers alone")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS, help="these alone")
    parser.add_argument("--quick", action="store_true", help="two teachers, one seed, one size: about 10 minutes")
    parser.add_argument("--allow-dirty", action="store_true", help="measure uncommitted changes")
    arguments = parser.parse_args()
    refuse_dirty(allowed=arguments.allow_dirty)
    begun = provenance()
    cases = [case for case in CASES if arguments.only is None or case.name in arguments.only]
    if arguments.quick:
        cases = [quick(case) for case in CASES if case.name in (arguments.only or ("Hopper-BERKELEY", "CartRail"))]
    seeds = arguments.seeds or (1 if arguments.quick else 5)
    refuse_missing_teachers(cases, arguments.teachers)
    out = arguments.out / "quick" if arguments.quick else arguments.out
    target = (out if arguments.quick else ROOT / "docs" / "results") / "distill.json"
    stored = load(target)
    earlier = [] if stored is None else stored["rows"]
    configs = {case.name: config_of(case, arguments.teachers, out) for case in cases}
    if arguments.quick:
        configs = {
            name: replace(config, iterations=20_000, fine_tune_iterations=4_000) for name, config in configs.items()
        }
    try:
        arms = [arm for case in cases for arm in arms_of(case, configs[case.name], seeds)]
        arms = [arm for arm in arms if arm.method in arguments.methods]
        arms.sort(key=lambda arm: METHODS.index(arm.method))  # what matters most first
        rows = run_study(arms, arguments.jobs)
        if GRADIENT in arguments.methods and not arguments.quick:
            climbs = [each for case in cases for each in gradient_arms(case, configs[case.name], seeds)]
            rows += run_sized(climbs, arguments.jobs)
        if DENSE in arguments.methods:
            own = groups(beside(earlier, rows, configs), "environment")
            dense = [
                each
                for case in cases
                for each in dense_arms(case, configs[case.name], own.get((case.name,), []), seeds)
            ]
            rows += run_study(dense, arguments.jobs)
        rows = beside(earlier, rows, configs)
        identities = Identities()
        returns = {
            name: teacher_returns(config, teacher_returns_path(out / name, identities.source(config))).tolist()
            for name, config in configs.items()
        }
    except (DistillError, ExportError) as error:
        sys.exit(f"error: {error}")
    measured = {case.name: measurement(begun, rows, returns, case, stored) for case in cases}
    result = merged(stored, begun, rows, measured)
    write_json(target, result)
    if arguments.quick:
        print(section(result))
    tables = "" if arguments.quick else "; tables: make results"
    print(f"wrote {target}{tables}", file=sys.stderr)


if __name__ == "__main__":
    main()
