"""`study`: reproduce one figure, keep it as JSON and SVG, and say which of the paper's claims hold in it."""

from __future__ import annotations

import dataclasses
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from export.replace_files import replace_files

from ..config import in_range
from ..errors import DistillError
from ..identity import as_json, digest, sources
from ..processes import run_all
from ..result_file import as_text, read_json, writable, write_json
from ..study_config import StudyConfig
from .arms import MEASURES, Measured, checkpoints_up_to, run_arms
from .cycle import ITERATIONS, ORBIT, STEP, VARIANTS, right_at_start, summary
from .fields import fields_table
from .figures import DISCOUNT, FIGURES, Figure
from .finite_mdp import Array
from .intervals import mean_interval
from .sampled_update import Descent
from .svg import curves_svg, cycle_svg
from .verdicts import JUDGES, Claim

_PART = "policy_distillation"  # the only code that figures depend on
_AFTERWARDS = ("verdicts.py", "svg.py")  # of it, what only looks at the worlds that were measured


@dataclass(frozen=True)
class _Unit:
    """Some of a figure's worlds, and where what was measured in them is kept."""

    figure: str
    first: int
    count: int
    iterations: int
    learning_rate: float
    path: Path
    identity: dict[str, Any]

    def stored(self) -> dict[str, Any] | None:
        """What was measured; None where it has not been, or of other options."""
        if not self.path.is_file():
            return None
        found = read_json(self.path, "identity", "core_seconds", "curves", "teacher_return")
        return found if found["identity"] == self.identity else None


def study_figure(config: StudyConfig) -> dict[str, Any]:
    """Make the figure or table; write its files into `config.out` and return what the JSON file says, without curves.

    Raises:
        DistillError: an option out of range or of no meaning for the figure.
    """
    in_range("--grids", config.grids, 1, 100_000)
    in_range("--iterations", config.iterations, 1, 10_000_000)
    in_range("--learning-rate", config.learning_rate, 1e-9, 1e3)
    in_range("--seed", config.seed, 0, 1e9)
    in_range("--jobs", config.jobs, 1, 1_024)
    for option, value, figures in (
        ("--grids", config.grids, ("fig2",)),
        ("--iterations", config.iterations, ("fields",)),
        ("--learning-rate", config.learning_rate, ("fig2", "fields")),
        ("--seed", config.seed or None, ("fig2", "fields")),
    ):
        if value is not None and config.figure in figures:
            raise DistillError(f"{option}: got {value}, expected no such option with {config.figure}; leave it out")
    writable(config.out)
    if config.figure == "fig2":
        return _cycle(config)
    if config.figure == "fields":
        return _fields(config)
    return _curves(config, FIGURES[config.figure])


def _cycle(config: StudyConfig) -> dict[str, Any]:
    curves = {variant: right_at_start(variant, config.iterations or ITERATIONS) for variant in VARIANTS}
    found = {variant.replace("-", "_").replace("+", "_plus_"): summary(curve) for variant, curve in curves.items()}
    circles, settles = found["on_policy_plus_r"], found["n_distill_plus_r"]
    claims = [
        Claim(
            "on-policy + R never converges: p(R|s0) goes round between .07 and .93",
            circles["crossings"] >= 2 and abs(circles["min"] - ORBIT) < 0.01 and abs(circles["max"] - 1 + ORBIT) < 0.01,
            circles,
        ),
        Claim("N-distill + R converges to p(R|s0) of at least .99", settles["last"] >= 0.99, settles),
    ]
    told = {"figure": "fig2", **found, "orbit": [ORBIT, 1.0 - ORBIT], "step": STEP, "verdicts": _told(claims)}
    drawn = {variant: curve[::10].tolist() for variant, curve in curves.items()}
    return _written(config, told, {"curves": drawn, "every": 10}, cycle_svg(curves, STEP))


def _fields(config: StudyConfig) -> dict[str, Any]:
    table = fields_table(config.grids or 3)
    rows = {name: {**dataclasses.asdict(found), "fixed_point": found.fixed_point} for name, found in table.items()}
    told = {"figure": "fields", "mdps": config.grids or 3, "objectives": rows}
    write_json(config.out / "fields.json", {**told, "sources": sources(_PART)})
    return {**told, "file": str(config.out / "fields.json")}


def _curves(config: StudyConfig, figure: Figure) -> dict[str, Any]:
    worlds = config.grids or figure.worlds
    iterations = config.iterations or figure.iterations
    learning_rate = config.learning_rate or figure.learning_rate
    units = []
    for first in range(config.seed, config.seed + worlds, figure.worlds_per_unit):
        count = min(figure.worlds_per_unit, config.seed + worlds - first)
        options = {"iterations": iterations, "learning_rate": learning_rate, "first": first, "count": count}
        code = sources(_PART, without=_AFTERWARDS)
        identity = as_json({"figure": config.figure, **options, "sources": code})
        path = config.out / "units" / f"{config.figure}-{digest(identity)}.json"
        units.append(_Unit(config.figure, first, count, iterations, learning_rate, path, identity))
    waiting = [unit for unit in units if unit.stored() is None]
    print(
        f"study: {worlds} worlds in {len(units)} parts, {len(units) - len(waiting)} of them finished earlier",
        file=sys.stderr,
    )
    started, done = time.perf_counter(), 0

    def say(unit: _Unit, _: None) -> None:
        nonlocal done
        done += 1
        print(f"study: part {done} of {len(waiting)} done after {time.perf_counter() - started:.0f} s", file=sys.stderr)

    run_all(_run, waiting, config.jobs, say)
    stored = [unit.stored() or {} for unit in units]
    measured = _together(stored)
    checkpoints = checkpoints_up_to(iterations)
    told = {
        "figure": config.figure,
        "title": figure.title,
        "ours": figure.ours,
        "worlds": worlds,
        "iterations": iterations,
        "learning_rate": learning_rate,
        "critic": figure.critic,
        "core_seconds": sum(unit["core_seconds"] for unit in stored),
        "verdicts": _told(JUDGES[config.figure](measured, np.array(checkpoints))),
    }
    drawn = curves_svg(measured, checkpoints, figure)
    return _written(config, told, {"checkpoints": checkpoints, "panels": _panels(measured)}, drawn)


def _run(unit: _Unit) -> None:
    """In a worker: measure the arms in the worlds of a unit."""
    figure = FIGURES[unit.figure]
    started = time.process_time()
    worlds, arms = figure.arms(range(unit.first, unit.first + unit.count))
    descent = Descent(unit.iterations, unit.learning_rate, DISCOUNT, unit.first, figure.critic)
    measured = run_arms(worlds, arms, descent, checkpoints_up_to(unit.iterations))
    curves = [
        {"panel": panel, "method": method, **{name: np.round(of, 6).tolist() for name, of in measures.items()}}
        for (panel, method), measures in measured.curves.items()
    ]
    teachers = {panel: of.tolist() for panel, of in measured.teacher_return.items()}
    seconds = time.process_time() - started
    write_json(
        unit.path, {"identity": unit.identity, "core_seconds": seconds, "curves": curves, "teacher_return": teachers}
    )


def _together(stored: list[dict[str, Any]]) -> Measured:
    """The worlds of all units, in order."""
    curves: dict[tuple[str, str], dict[str, Array]] = {}
    for index, row in enumerate(stored[0]["curves"]):
        curves[row["panel"], row["method"]] = {
            name: np.concatenate([unit["curves"][index][name] for unit in stored]) for name in MEASURES
        }
    panels = stored[0]["teacher_return"]
    return Measured(
        curves, {panel: np.concatenate([unit["teacher_return"][panel] for unit in stored]) for panel in panels}
    )


def _panels(measured: Measured) -> dict[str, Any]:
    """Mean curves and their intervals, by panel and method."""
    told: dict[str, Any] = {
        panel: {"teacher_return": float(of.mean())} for panel, of in measured.teacher_return.items()
    }
    for (panel, method), measures in measured.curves.items():
        told[panel][method] = {}
        for name, of in measures.items():
            mean, low, high = mean_interval(of)
            bounds = {} if len(of) < 2 else {"low": low.tolist(), "high": high.tolist()}
            told[panel][method][name] = {"mean": mean.tolist(), **bounds}
    return told


def _told(claims: list[Claim]) -> list[dict[str, Any]]:
    return [as_json(dataclasses.asdict(claim)) for claim in claims]


def _written(config: StudyConfig, told: dict[str, Any], curves: dict[str, Any], drawing: bytes) -> dict[str, Any]:
    """Both files at once; returns what is printed."""
    record = {**told, "sources": sources(_PART), **curves}
    name = config.figure
    text = as_text(record, f"{name}.json", indent=1) + "\n"
    replace_files(config.out, {f"{name}.json": text.encode(), f"{name}.svg": drawing})
    said = {claim["claim"]: claim["reproduced"] for claim in told["verdicts"]}
    return {**told, "reproduced": said, "files": [str(config.out / f"{name}.{kind}") for kind in ("json", "svg")]}
