"""Tables of docs/results/policy_distillation.json: every claim of a figure, whether it reproduces, and its numbers."""

from __future__ import annotations

from typing import Any

from benchmarks.distillation_tables import cell

_LARGEST_CELL = 400


def section(stored: dict[str, Any]) -> str:
    """A table a figure, with its drawing."""
    parts = []
    for name, figure in stored["figures"].items():
        told = ""
        if "worlds" in figure:
            told = (
                f"{figure['worlds']} worlds, {figure['iterations']:,} iterations, step size "
                f"{figure['learning_rate']:g}, {figure['core_seconds']:,.0f} core seconds. Ours: {figure['ours']}. "
            )
        lines = ["| claim | reproduced | numbers (95 % interval) |", "|---|---|---|"]
        lines += [
            f"| {cell(claim['claim'])} | {_verdict(claim['reproduced'])} | {said(claim['figures'])} |"
            for claim in figure["verdicts"]
        ]
        parts += [
            f"### {name}" + (f": {figure['title']}" if "title" in figure else ""),
            f"{told}Commit `{figure['commit'][:12]}`, {figure['machine']}.",
            "\n".join(lines),
            f"![{name}](results/{name}.svg)",
        ]
    return "\n\n".join(parts)


def _verdict(reproduced: bool | None) -> str:
    return {True: "yes", False: "**no**", None: "cannot be said"}[reproduced]


def said(figures: Any) -> str:
    """Numbers and intervals of a claim in a table's cell; what would fill it is left to the JSON file."""
    text = _said(figures)
    return text if len(text) <= _LARGEST_CELL else "see the JSON file"


def _said(value: Any) -> str:
    if isinstance(value, dict) and {"mean", "low", "high"} <= set(value):
        if value["low"] is None:
            return f"{value['mean']:.3g}"
        return f"{value['mean']:.3g} ({value['low']:.3g} to {value['high']:.3g})"
    if isinstance(value, dict):
        return "; ".join(f"{key.replace('_', ' ')} {_said(each)}" for key, each in value.items())
    return f"{value:.4g}" if isinstance(value, int | float) else str(value)
