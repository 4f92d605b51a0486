"""Tables and curves of docs/results/distill.json."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.provenance import told
from distill.evaluate import interquartile_mean, ratio_interval, share_kept

Row = dict[str, Any]
STUDENT, LINEAR, OFFLINE, DENSE = "student-driven", "linear", "offline", "dense, equal bytes"
GRADIENT = "student-driven, then policy gradient"  # its CPU seconds come on top of its student's
_HEAD = (
    "| student | weights asked for | kept weights | kept parameters | density | bytes | share of the teacher's return "
    "(95 % interval) | mean share | worst seed | episodes below 90 % | seeds | steps | CPU s |\n"
    "|---|---|---|---|---|---|---|---|---|---|---|---|---|"
)


def groups(rows: Iterable[Row], *keys: str) -> dict[tuple[Any, ...], list[Row]]:
    """Rows by the values of some of their fields, in the order of appearance."""
    found: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        found.setdefault(tuple(row[key] for key in keys), []).append(row)
    return found


def cell(text: str) -> str:
    """Text for a table: a bar would end the cell."""
    return text.replace("|", "\\|")


def share(rows: list[Row], teacher: list[float]) -> dict[str, float]:
    """What all seeds of one student kept of the teacher's return."""
    reference = np.array(teacher)
    students = [np.array(row["returns"]) for row in rows]
    ratio, low, high = ratio_interval(students, reference)
    iqm = interquartile_mean(reference)
    median = float(np.median(reference))
    return {
        "ratio": ratio,
        "low": low,
        "high": high,
        "mean": share_kept(float(np.mean(np.concatenate(students))), float(reference.mean())),
        "worst_seed": share_kept(min(row["return_iqm"] for row in rows), iqm),
        "falls": float(np.mean(np.concatenate(students) < median - 0.1 * abs(median))),
    }


def stored_bytes(row: Row) -> int:
    """Bytes of a student: as export stores it, or for dense methods whole where that takes less."""
    stored: int = row["bytes"]
    return min(stored, row["dense_bytes"]) if row["method"] in (LINEAR, DENSE) else stored


def environment_table(rows: list[Row], teacher: list[float]) -> str:
    """One environment: a line for each method and size, largest first."""
    lines = [_HEAD]
    for (method, size), same in groups(rows, "method", "size").items():
        figures = share(same, teacher)
        mean = {key: float(np.mean([row[key] for row in same])) for key in ("kept_weights", "kept_parameters")}
        lines.append(
            f"| {method} | {size:,} | {mean['kept_weights']:,.0f} | {mean['kept_parameters']:,.0f} | "
            f"{np.mean([row['density'] for row in same]):.0%} | {np.mean([stored_bytes(row) for row in same]):,.0f} | "
            f"**{figures['ratio']:.1%}** ({figures['low']:.1%} to {figures['high']:.1%}) | {figures['mean']:.1%} | "
            f"{figures['worst_seed']:.1%} | {figures['falls']:.0%} | {len(same)} | "
            f"{np.mean([row['steps'] for row in same]):,.0f} | "
            f"{np.mean([row['cpu_seconds'] for row in same]):,.0f} |"
        )
    return "\n".join(lines)


def section(stored: dict[str, Any]) -> str:
    """The whole section of docs/results.md."""
    parts = []
    for (environment,), rows in groups(stored["rows"], "environment").items():
        teacher = stored["teacher_returns"][environment]
        iqm, parameters = rows[0]["teacher_return_iqm"], rows[0]["teacher_parameters"]
        falls = float(np.mean(np.array(teacher) < np.median(teacher) - 0.1 * abs(np.median(teacher))))
        text = (
            f"### {environment}\n\nTeacher `{rows[0]['teacher']}`: {parameters:,} parameters, return {iqm:,.0f} "
            f"(interquartile mean of {len(teacher)} held-out episodes, {falls:.0%} of them below 90 % of its median)."
        )
        text += f" {told(stored['provenance'][environment])}"
        paper = stored["paper"].get(environment)
        if paper:
            text += (
                f" The paper kept {paper[0]:,} weights at {paper[1]:.0%} of its own teacher's return in this "
                "environment's v3."
            )
        if environment.startswith("Ant"):
            text += " Here Ant has 27 inputs; the paper's had 111, the 84 contact forces among them."
        parts += [text, environment_table(rows, teacher)]
    return "\n\n".join(parts)


def curves(stored: dict[str, Any], path: Path) -> None:
    """Share of the teacher's return against bytes, one panel an environment, as SVG."""
    import matplotlib as mpl
    from matplotlib import pyplot as plt

    mpl.rcParams["svg.hashsalt"] = "distill"  # the same figures give the same bytes
    panels = groups(stored["rows"], "environment")
    columns = min(3, len(panels))
    lines = -(-len(panels) // columns)
    figure, axes = plt.subplots(lines, columns, figsize=(4.2 * columns, 3.2 * lines), squeeze=False)
    for axis in axes.flat[len(panels) :]:
        axis.axis("off")
    for axis, ((environment,), rows) in zip(axes.flat, panels.items(), strict=False):
        teacher = stored["teacher_returns"][environment]
        for (method,), same in groups(rows, "method").items():
            points = []
            for (_,), size in groups(same, "size").items():
                figures = share(size, teacher)
                points.append(
                    (
                        float(np.mean([stored_bytes(row) for row in size])),
                        *(figures[key] for key in ("ratio", "low", "high")),
                    )
                )
            bytes_, ratio, low, high = np.array(sorted(points)).T
            bars = [np.maximum(ratio - low, 0.0), np.maximum(high - ratio, 0.0)]
            axis.errorbar(bytes_ / 1024, ratio * 100, yerr=np.array(bars) * 100, marker="o", capsize=3, label=method)
        axis.axhline(100, color="grey", linewidth=0.8, linestyle=":")
        axis.set_title(environment)
        axis.set_xlabel("KiB (values, indices, biases)")
        axis.set_ylabel("% of the teacher's return")
        logarithmic(axis)
    axes[0, 0].legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, format="svg", metadata={"Date": None})
    plt.close(figure)


def logarithmic(axis: Any) -> None:
    """Make the x axis of a figure logarithmic, with plain numbers at 1, 2 and 5."""
    from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

    axis.set_xscale("log")
    axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))


def load(path: Path) -> dict[str, Any] | None:
    """The results file; None where it was not measured yet."""
    if not path.is_file():
        return None
    stored: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return stored
