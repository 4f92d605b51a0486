"""Which students lose to no other: nothing is as small and returns more."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from export.replace_files import replace_files

Row = dict[str, Any]


def front(rows: Sequence[Row], size: str) -> list[Row]:
    """The rows that no other beats in `size` (a key) without losing return (key return_iqm), smallest first."""
    best: list[Row] = []
    for row in sorted(rows, key=lambda each: (each[size], -each["return_iqm"])):
        if not best or row["return_iqm"] > best[-1]["return_iqm"]:
            best.append(row)
    return best


def draw(rows: Sequence[Row], size: str, teacher_return: float, target: float, path: Path) -> None:
    """Return against size, the front as a line, as SVG; the same rows give the same bytes.

    Full points hold the target, hollow ones do not: beside the return it asks for few falls and for little rounding.
    """
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with mpl.rc_context({"svg.hashsalt": "pareto", "svg.fonttype": "none"}):
        figure = Figure(figsize=(6.4, 4.0), layout="constrained")
        FigureCanvasSVG(figure)
        axes = figure.add_subplot()
        for index, stage in enumerate(sorted({row["stage"] for row in rows})):
            for holds, filling in ((True, "full"), (False, "none")):
                points = [row for row in rows if row["stage"] == stage and row["holds"] == holds]
                label = stage if holds else f"{stage}, missing the target"
                style: dict[str, Any] = {"color": f"C{index}", "fillstyle": filling, "markersize": 4, "label": label}
                if points:
                    axes.plot([row[size] for row in points], [row["return_iqm"] for row in points], "o", **style)
        best = front(rows, size)
        axes.plot([row[size] for row in best], [row["return_iqm"] for row in best], "k-", lw=1, label="Pareto front")
        axes.axhline(teacher_return, color="grey", lw=1, label="teacher")
        axes.axhline(target, color="grey", lw=1, ls=":", label="target: return")
        axes.set_xscale("log")
        axes.set_xlabel(size.replace("_", " "))
        axes.set_ylabel("interquartile mean return, selection episodes")
        axes.legend()
        buffer = io.BytesIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    replace_files(path.parent, {path.name: buffer.getvalue()})
