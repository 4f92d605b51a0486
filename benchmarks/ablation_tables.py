"""Tables and curves of docs/results/ablations_<environment>.json."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.distillation_tables import cell, groups, load, logarithmic, share
from benchmarks.provenance import told
from distill.evaluate import share_kept

RESULTS = Path(__file__).resolve().parent.parent / "docs" / "results"
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
CAUTION = (
    'The reference here is the arm "{arm}" of (b), whose two arms differ by luck alone: a difference from it that is '
    "no larger than theirs is no evidence."
)
_SMALLER = 0.97  # of the weights asked for: a student with fewer was not compared at that size
_FALLEN = 0.9  # of the teacher's return: a seed below it is named


def arms(result: dict[str, Any], letter: str) -> dict[str, list[dict[str, Any]]]:
    """Rows by arm of one letter: letters share names of arms."""
    own = [row for row in result["rows"] if row["ablation"] == letter]
    return {method: rows for (method,), rows in groups(own, "method").items()}


def shared_arms(result: dict[str, Any]) -> list[dict[str, str]]:
    """Arms whose runs stand in more than one letter: each one's names by letter. Equal returns of all students tell."""
    found: dict[frozenset[Any], dict[str, str]] = {}
    for letter in LETTERS:
        for method, rows in arms(result, letter).items():
            figures = frozenset((row["size"], row["seed"], *row["returns"]) for row in rows if row["threshold"] is None)
            if figures:
                found.setdefault(figures, {})[letter] = method
    return [names for names in found.values() if len(names) > 1]


def shared_sentence(result: dict[str, Any], names: dict[str, str]) -> str:
    """Where one arm stands, and the seed that makes it a poor reference, where one does."""
    letter, method = next(iter(names.items()))
    rows = arms(result, letter)[method]
    quoted = [f'"{name}" ({each})' for each, name in names.items()]
    text = f"{', '.join(quoted[:-1])} and {quoted[-1]} are the same {len({row['seed'] for row in rows})} runs."
    size = max(row["size"] for row in rows)
    worst, *others = sorted((row for row in rows if row["size"] == size), key=lambda row: row["return_iqm"])
    if others and share_kept(worst["return_iqm"], worst["teacher_return_iqm"]) < _FALLEN:
        text += (
            f" At {size:,} weights seed {worst['seed']} of them returns {worst['return_iqm']:,.0f}, the others "
            f"{others[0]['return_iqm']:,.0f} to {others[-1]['return_iqm']:,.0f}: one seed weighs on every comparison "
            "with them."
        )
    return text


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
    own = [row for row in result["rows"] if row["ablation"] == letter]
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


def results_path(environment: str) -> Path:
    """One environment's figures."""
    return RESULTS / f"ablations_{environment}.json"


def found() -> dict[str, dict[str, Any]]:
    """What was measured, by environment."""
    files = {path.stem.partition("_")[2]: load(path) for path in sorted(RESULTS.glob("ablations_*.json"))}
    return {name: result for name, result in files.items() if result is not None}


def section(results: dict[str, dict[str, Any]]) -> str:
    """The whole section of docs/results.md, from each environment's figures."""
    parts = []
    for name, result in results.items():
        parts.append(
            f"### {name}\n\nTeacher `{result['teacher']}`, {result['environment']}, {result['iterations']:,} "
            f"iterations, {result['seeds']} seeds x 20 held-out episodes, one shared dataset, students of "
            f"{result['dense_weights']:,} weights before pruning; CPU seconds are those up to the size. Kept: weights "
            "that reach an output, on average; where an arm had more than 3 % fewer weights left than asked for, its "
            "return is left out (-)."
        )
        shared = shared_arms(result)
        parts += [shared_sentence(result, names) for names in shared]
        for letter, title in LETTERS.items():
            if any(row["ablation"] == letter for row in result["rows"]):
                parts += [f"#### ({letter}) {title}", told(result["provenance"][letter]), table(result, letter)]
                parts += [NOTES[letter]] if letter in NOTES else []
                if letter != "b":
                    parts += [CAUTION.format(arm=names["b"]) for names in shared if {letter, "b"} <= set(names)]
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
