"""Which students lose to no other: nothing is as small and returns more."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from export.replace_files import replace_files

Row = dict[str, Any]


def front(rows: Sequence[Row], size: str) -> list[Row]:
    """The rows that no other beats in `size` (a key) without losing return (key return_mean), smallest first."""
    best: list[Row] = []
    for row in sorted(rows, key=lambda each: (each[size], -each["return_mean"])):
        if not best or row["return_mean"] > best[-1]["return_mean"]:
            best.append(row)
    return best


def draw(rows: Sequence[Row], size: str, teacher_return: float, target: float, path: Path) -> None:
    """Return against size, the front as a line, as SVG; the same rows give the same bytes."""
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with mpl.rc_context({"svg.hashsalt": "pareto", "svg.fonttype": "none"}):
        figure = Figure(figsize=(6.4, 4.0), layout="constrained")
        FigureCanvasSVG(figure)
        axes = figure.add_subplot()
        stages = sorted({row["stage"] for row in rows})
        for stage in stages:
            points = [row for row in rows if row["stage"] == stage]
            axes.plot([row[size] for row in points], [row["return_mean"] for row in points], ".", label=stage)
        best = front(rows, size)
        axes.plot([row[size] for row in best], [row["return_mean"] for row in best], "k-", lw=1, label="Pareto front")
        axes.axhline(teacher_return, color="grey", lw=1, label="teacher")
        axes.axhline(target, color="grey", lw=1, ls=":", label="target")
        axes.set_xscale("log")
        axes.set_xlabel(size.replace("_", " "))
        axes.set_ylabel("mean return, selection episodes")
        axes.legend()
        buffer = io.BytesIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    replace_files(path.parent, {path.name: buffer.getvalue()})
