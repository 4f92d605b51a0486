"""Tables and curves of docs/results/ablations.json."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.distillation_tables import cell, groups, logarithmic, share

LETTERS = {
    "a": "prior",
    "b": "value function: performance and time",
    "c": "Q term in the policy loss",
    "d": "deterministic rivals of the Bayesian mechanism",
    "e": "threshold on log alpha, without fine-tuning",
    "f": "the published code's noise, initial means and raw actions, or the correct noise",
    "g": "annealing of the prior's weight",
    "h": "a small actor trained online by SAC",
}
NOTES = {
    "b": "With value weight 0 the critics change nothing of the student but which rows and which noise it gets (a test "
    "of the training holds that to the bit): what differs between these two arms is luck, and shows how much of it "
    "five seeds and their intervals leave.",
}
_SMALLER = 0.97  # of the weights asked for: a student with fewer was not compared at that size
_BASE = "log-uniform"  # the arm that (e) cuts


def arms(result: dict[str, Any], letter: str) -> dict[str, list[dict[str, Any]]]:
    """Rows by arm; (e)'s curves also have the arm that it cuts, ranked and fine-tuned. Letters share names of arms."""
    own = [row for row in result["rows"] if row["ablation"] == letter or (letter == "e" and row["method"] == _BASE)]
    return {method: rows for (method,), rows in groups(own, "method").items()}


def reached(rows: list[dict[str, Any]]) -> bool:
    """Whether all these students of one size have the weights that were asked for."""
    return all(row["pruned_to"] >= _SMALLER * row["size"] for row in rows)


def table(result: dict[str, Any], letter: str) -> str:
    """One ablation: a line a size and arm, so that arms of one size stand together.

    Where an arm had fewer weights left than asked for, beyond 3 %, its line says how many it had and no more.
    """
    lines = [
        "| weights asked for | arm | kept weights | density | share of the return (95 % interval) | mean share | worst "
        "seed | below 90 % | CPU s |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    own = [row for rows in arms(result, letter).values() for row in rows]
    if letter == "e":
        own = [row for row in own if row["method"] != _BASE]
    for (size, method), rows in sorted(groups(own, "size", "method").items(), key=lambda item: -(item[0][0] or 0)):
        kept = np.mean([row["kept_weights"] for row in rows])
        head = f"| {'-' if size is None else f'{size:,}'} | {cell(method)} | {kept:,.0f} |"
        if size is not None and not reached(rows):
            lines.append(f"{head} - | - | - | - | - | - |")
            continue
        figures = share(rows, result["teacher_returns"])
        lines.append(
            f"{head} {kept / result['dense_weights']:.0%} | {figures['ratio']:.1%} ({figures['low']:.1%} to "
            f"{figures['high']:.1%}) | {figures['mean']:.1%} | {figures['worst_seed']:.1%} | {figures['falls']:.0%} | "
            f"{np.mean([row['cpu_seconds'] for row in rows]):,.0f} |"
        )
    return "\n".join(lines)


def section(stored: dict[str, Any]) -> str:
    """The whole section of docs/results.md."""
    parts = []
    for name, result in stored["environments"].items():
        parts.append(
            f"### {name}\n\nTeacher `{result['teacher']}`, {result['environment']}, {result['iterations']:,} "
            f"iterations, {result['seeds']} seeds x 20 held-out episodes, one shared dataset, students of "
            f"{result['dense_weights']:,} weights before pruning; CPU seconds are those up to the size. Kept: weights "
            "that reach an output, on average; where an arm had more than 3 % fewer weights left than asked for, its "
            "return is left out (-)."
        )
        for letter, title in LETTERS.items():
            if any(row["ablation"] == letter for row in result["rows"]):
                origin = result["provenance"][letter]
                code = f"Commit `{origin['commit'][:12]}`, {origin['machine']}, code {', '.join(origin['sources'])}."
                parts += [f"#### ({letter}) {title}", code, table(result, letter)]
                parts += [NOTES[letter]] if letter in NOTES else []
        parts.append(f"![Return against density, {name}](results/{figure_name(name)})")
    return "\n\n".join(parts)


def figure_name(environment: str) -> str:
    """File name of one environment's curves."""
    return f"ablations_{environment}.svg"


def curves(result: dict[str, Any], path: Path) -> None:
    """Share of the teacher's return against density, one panel a letter, as SVG."""
    import matplotlib as mpl
    from matplotlib import pyplot as plt

    mpl.rcParams["svg.hashsalt"] = "ablations"  # the same figures give the same bytes
    letters = [letter for letter in LETTERS if any(row["ablation"] == letter for row in result["rows"])]
    columns = min(2, len(letters))
    lines = -(-len(letters) // columns)
    figure, axes = plt.subplots(lines, columns, figsize=(6.2 * columns, 3.6 * lines), squeeze=False)
    for axis in axes.flat[len(letters) :]:
        axis.axis("off")
    for axis, letter in zip(axes.flat, letters, strict=False):
        for method, rows in arms(result, letter).items():
            points = []
            for (size,), same in groups(rows, "size").items():
                if size is not None and not reached(same):
                    continue
                figures = share(same, result["teacher_returns"])
                density = float(np.mean([row["kept_weights"] for row in same])) / result["dense_weights"]
                points.append((density, *(figures[key] for key in ("ratio", "low", "high"))))
            if not points:
                continue
            density, ratio, low, high = np.array(sorted(points)).T
            ends = (np.array((ratio - low, high - ratio)) * 100).clip(min=0.0)  # a bootstrap's may miss its mean
            style = {"marker": "o", "markersize": 3, "elinewidth": 0.7, "capsize": 2}
            axis.errorbar(density * 100, ratio * 100, yerr=ends, label=method, **style)
        axis.axhline(100, color="grey", linewidth=0.8, linestyle=":")
        logarithmic(axis)
        axis.set_title(f"({letter}) {LETTERS[letter]}", fontsize=10)
        axis.set_xlabel("% of the dense student's weights")
        axis.set_ylabel("% of the teacher's return")
        axis.legend(fontsize=6)
    figure.tight_layout()
    figure.savefig(path, format="svg", metadata={"Date": None})
    plt.close(figure)
