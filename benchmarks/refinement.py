"""What each objective buys at equal bytes: students of one mask, found offline, refined in several ways.

    python -m benchmarks.refinement [--jobs 2] [--seeds 5] [--only Hopper-TQC ...] [--methods ...]

Bayesian training on a dataset alone finds the mask of every size; from that student on, all methods keep it. Beside
them stand a linear student and a dense one of equal bytes, trained with their own states. The pendulums' students are
also played on a grid of wrong plants (distill robustness); one method refines them on random plants. The teachers of
the others are policies that others trained; they are no part of this project (--teachers names their folder). Runs that
finished are kept under runs/ and not made again. Writes docs/results/refine.json; the rows of the environments and
methods that were run take the place of their earlier ones.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.distillation import (
    CASES,
    Case,
    Sized,
    beside,
    config_of,
    control,
    refine_config,
    refuse_missing_teachers,
    run_sized,
    sized,
)
from benchmarks.distillation_tables import DENSE, GRADIENT, LINEAR, OFFLINE, STUDENT, groups, load, share, stored_bytes
from benchmarks.provenance import origin, provenance, refuse_difference, refuse_dirty
from benchmarks.refinement_tables import ENTROPY, RANDOM, REWARD, SEARCH
from distill.config import TrainConfig
from distill.environment import EnvironmentSpec
from distill.errors import DistillError
from distill.identity import Identities, as_json
from distill.result_file import write_json
from distill.robustness import robustness
from distill.robustness_config import RobustnessConfig
from distill.study import Arm, dense_width, run_study, teacher_returns, teacher_returns_path
from export.errors import ExportError
from export.student_file import student_digest

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "docs" / "results" / "refine.json"
# A quarter and a tenth of the weights that the paper kept; of the cart, what a tiny policy may have.
SIZES = {
    "Hopper-TQC": (425, 170),
    "Hopper-BERKELEY": (425, 170),
    "Walker2d-TQC": (543, 217),
    "HalfCheetah-TQC": (714, 286),
    "Ant-TRPO": (1005, 402),
    "CartRail": (150, 80),
    "Edukit": (150, 80),
}
EDUKIT = Case("Edukit", "", "hardware:Edukit-v0", (), hidden=(16, 16), shipped=Path("teachers/edukit.safetensors"))
ROBUSTNESS_EPISODES = 4  # starts a plant, of every seed's student
REFINED: dict[str, dict[str, Any]] = {
    STUDENT: {"objective": "on-policy"},
    RANDOM: {"objective": "on-policy", "env_kwargs": '{"randomise": true}'},
    ENTROPY: {"objective": "expected-entropy"},
    REWARD: {"objective": "expected-entropy+r"},
}
SEARCHES: dict[str, Any] = {GRADIENT: "policy-gradient", SEARCH: "cma-es"}
METHODS = (OFFLINE, *REFINED, *SEARCHES, LINEAR, DENSE)


def folder_of(out: Path, case: Case, method: str, size: int | None, seed: int) -> Path:
    """A run's own."""
    words = method.replace(",", "").replace("+", "and").replace(" ", "-")
    return out / case.name / (words if size is None else f"{words}-{size}") / f"seed{seed}"


def offline_arms(case: Case, config: TrainConfig, seeds: int) -> list[Arm]:
    """The shared beginning: one run visits all sizes."""
    variant = replace(config, states="dataset", value_weight=0.0, episodes=200)
    return [
        Arm(case.name, OFFLINE, replace(variant, out=folder_of(config.out, case, OFFLINE, None, seed), seed=seed))
        for seed in range(seeds)
    ]


def refined_arms(case: Case, config: TrainConfig, seeds: int, methods: list[str]) -> list[Sized]:
    """Every objective, from the offline student of the same size and seed."""
    arms: list[Sized] = []
    for size in config.kept_weights:
        for method, changes in REFINED.items():
            if method not in methods or (method == RANDOM and not is_pendulum(case)):
                continue
            for seed in range(seeds):
                student = sized(folder_of(config.out, case, OFFLINE, None, seed), size)
                out = folder_of(config.out, case, method, size, seed)
                refined = refine_config(config, student, out, seed, **changes)
                arms.append((size, Arm(case.name, method, refined, scored_on=case.arguments)))
    return arms


def is_pendulum(case: Case) -> bool:
    """Whether its plant can be made a wrong one."""
    return case.environment.startswith("hardware:")


def on_wrong_plants(
    case: Case, config: TrainConfig, rows: list[dict[str, Any]], seeds: int, jobs: int
) -> list[dict[str, Any]]:
    """A line a method and size that has rows: what all its seeds' students together reach on the grid of plants."""
    lines = []
    for method, size in groups(rows, "method", "size"):
        asked = None if method in (OFFLINE, LINEAR) else size  # one run of these has all sizes
        runs = [folder_of(config.out, case, method, asked, seed) for seed in range(seeds)]
        files = [sized(run, size) if method == OFFLINE else run / "student.safetensors" for run in runs]
        asked_for = RobustnessConfig(
            teacher=config.teacher,
            env=case.environment,
            env_kwargs=case.arguments,
            students=tuple(files),
            episodes=ROBUSTNESS_EPISODES,
            jobs=jobs,
        )
        kept = runs[0].parent / f"robustness-{size}.json"
        identity = as_json({"students": [student_digest(file) for file in files], "episodes": ROBUSTNESS_EPISODES})
        stored = load(kept)
        if stored is None or stored["identity"] != identity:
            stored = {"identity": identity, "result": robustness(asked_for)}
            write_json(kept, stored)
        result = stored["result"]
        lines.append(
            {
                "environment": case.name,
                "method": method,
                "size": size,
                "summary": result["summary"],
                "at_least_teacher": result["at_least_teacher"],
            }
        )
    return lines


def search_arms(case: Case, config: TrainConfig, seeds: int, method: str) -> list[Sized]:
    """After the return itself, from the student-driven students: by sampling from those of the smallest size alone."""
    arms: list[Sized] = []
    for size in config.kept_weights if method == GRADIENT else (min(config.kept_weights),):
        for seed in range(seeds):
            begun = folder_of(config.out, case, STUDENT, size, seed)
            changes = {"objective": "on-policy", "fine_tune_iterations": 0, "mask": "shrinking"}
            out = folder_of(config.out, case, method, size, seed)
            searched = refine_config(
                config, begun / "student.safetensors", out, seed, **changes, search=SEARCHES[method]
            )
            arms.append((size, Arm(case.name, method, searched)))
    return arms


def control_arms(case: Case, config: TrainConfig, rows: list[dict[str, Any]], seeds: int) -> list[Sized]:
    """A linear student, and dense ones of at most the bytes that the offline ones of each size take on average."""
    facts = EnvironmentSpec(case.environment, json.loads(case.arguments)).facts()
    inputs, actions = facts.observation_size, len(facts.action_low)
    variants: list[tuple[str, int | None, TrainConfig]] = [(LINEAR, None, control(config, inputs, (), actions))]
    for size in config.kept_weights:
        taken = [row["bytes"] for row in rows if row["method"] == OFFLINE and row["size"] == size]
        width = dense_width(inputs, actions, round(float(np.mean(taken))))
        if width:
            variants.append((DENSE, size, control(config, inputs, (width, width), actions)))
    return [
        (
            size,
            Arm(case.name, method, replace(variant, out=folder_of(config.out, case, method, size, seed), seed=seed)),
        )
        for method, size, variant in variants
        for seed in range(seeds)
    ]


def summaries(runs: list[dict[str, Any]], returns: dict[str, list[float]]) -> list[dict[str, Any]]:
    """For programs, a row an environment, method and size asked for: seeds, kept weights and parameters and bytes (the
    largest over the seeds), interquartile mean of the return, share of the teacher's with its 95 % interval."""
    rows = []
    for (environment, method, size), same in groups(runs, "environment", "method", "size").items():
        figures = share(same, returns[environment])
        rows.append(
            {
                "environment": environment,
                "method": method,
                "size": size,
                "seeds": len(same),
                "kept_weights": max(row["kept_weights"] for row in same),
                "kept_parameters": max(row["kept_parameters"] for row in same),
                "bytes": max(stored_bytes(row) for row in same),
                "return_iqm": float(np.mean([row["return_iqm"] for row in same])),
                "share": figures["ratio"],
                "interval": [figures["low"], figures["high"]],
                "teacher_return_iqm": same[0]["teacher_return_iqm"],
            }
        )
    return rows


def refuse_mixture(name: str, stored: dict[str, Any] | None, methods: Collection[str], seeds: int) -> None:
    """End the program where other methods stay beside these that were measured with more or fewer seeds."""
    rows = [] if stored is None else [row for row in stored["runs"] if row["environment"] == name]
    # offline is where all of them begin, and is always run
    staying = [row for row in rows if row["method"] not in {OFFLINE, *methods}]
    for (method,), same in groups(staying, "method").items():
        found = len({row["seed"] for row in same})
        where, alone = f"{name}: {TARGET.name} has {method}", f"--methods {', '.join(methods)}"
        refuse_difference(where, "seeds", found, seeds, alone)


def main() -> None:
    """Run what is missing, then write the JSON file: rows of the environments that were run replace their earlier."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teachers", type=Path, default=ROOT.parent / "shared" / "teachers")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "refine")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--only", nargs="+", choices=list(SIZES), default=list(SIZES), help="these teachers alone")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS), help="these methods alone")
    parser.add_argument("--allow-dirty", action="store_true", help="measure uncommitted changes")
    arguments = parser.parse_args()
    refuse_dirty(allowed=arguments.allow_dirty)
    begun = provenance()
    cases = [case for case in (*CASES, EDUKIT) if case.name in arguments.only]
    refuse_missing_teachers(cases, arguments.teachers)
    searches = [method for method in SEARCHES if method in arguments.methods]
    if searches and STUDENT not in arguments.methods:
        sys.exit(
            f'error: --methods: got "{searches[0]}" without "{STUDENT}", whose students it begins with, expected both; '
            f'add "{STUDENT}"'
        )
    for case in cases:
        refuse_mixture(case.name, load(TARGET), arguments.methods, arguments.seeds)
    identities, seeds = Identities(), arguments.seeds
    try:
        for case in cases:
            sizes = SIZES[case.name]
            config = replace(config_of(case, arguments.teachers, arguments.out), kept_weights=sizes)
            own = run_study(offline_arms(case, config, seeds), arguments.jobs)
            own += run_sized(refined_arms(case, config, seeds, arguments.methods), arguments.jobs)
            for method in searches:
                own += run_sized(search_arms(case, config, seeds, method), arguments.jobs)
            controls = control_arms(case, config, own, seeds)
            own += run_sized([pair for pair in controls if pair[1].method in arguments.methods], arguments.jobs)
            path = teacher_returns_path(arguments.out / case.name, identities.source(config))
            returns = teacher_returns(config, path).tolist()
            wrong = on_wrong_plants(case, config, own, seeds, arguments.jobs) if is_pendulum(case) else []
            _write(begun, case.name, own, returns, wrong)
    except (DistillError, ExportError) as error:
        sys.exit(f"error: {error}")
    print(f"wrote {TARGET.relative_to(ROOT)}; tables: make results", file=sys.stderr)


def _write(
    begun: dict[str, str],
    name: str,
    rows: list[dict[str, Any]],
    returns: list[float],
    wrong: list[dict[str, Any]],
) -> None:
    """Put what was run of one environment in place of its earlier rows of the same methods."""
    stored = load(TARGET) or {"runs": [], "robustness": [], "provenance": {}, "teacher_returns": {}}
    before, earlier = stored["provenance"].get(name), stored["runs"]
    stored["teacher_returns"][name] = returns
    for key, lines in {"runs": rows, "robustness": wrong}.items():
        others = [row for row in stored[key] if row["environment"] != name]
        stored[key] = others + beside(stored[key], lines, [name], METHODS)
    own = [row for row in stored["runs"] if row["environment"] == name]
    stored["provenance"][name] = origin(begun, own, before, earlier)
    stored["rows"] = summaries(stored["runs"], stored["teacher_returns"])
    write_json(TARGET, stored)


if __name__ == "__main__":
    main()
