"""Figures as SVG, the same bytes for the same numbers."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .arms import Measured
from .finite_mdp import Array
from .intervals import mean_interval

if TYPE_CHECKING:
    from .figures import Figure

_LABELS = {
    "return": "discounted return",
    "student_kl": "KL on the student's steps [nats]",
    "teacher_kl": "KL on the teacher's steps [nats]",
}


def cycle_svg(curves: dict[str, Array], step: float) -> bytes:
    """p(R|s0) of each variant against time = iterations * step."""
    figure, axes = _axes(1, 1)
    for variant, curve in curves.items():
        axes[0, 0].plot(step * np.arange(len(curve)), curve, label=variant, linewidth=1.2)
    axes[0, 0].set(xlabel="time (updates x step)", ylabel="p(R|s0)", ylim=(0.0, 1.0))
    axes[0, 0].legend(fontsize=7, frameon=False)
    return _bytes(figure)


def curves_svg(measured: Measured, checkpoints: Sequence[int], drawn: Figure) -> bytes:
    """A column a panel, a row a measure; means and 95 % intervals over worlds against iterations."""
    panels = list(measured.teacher_return)
    figure, axes = _axes(len(drawn.measures), len(panels))
    for (panel, method), measures in measured.curves.items():
        for row, name in enumerate(drawn.measures):
            plot = axes[row, panels.index(panel)]
            mean, low, high = mean_interval(measures[name])
            (line,) = plot.plot(checkpoints, mean, label=method, linewidth=1.2)
            if len(measures[name]) > 1:
                plot.fill_between(checkpoints, low, high, color=line.get_color(), alpha=0.2, linewidth=0)
    for column, panel in enumerate(panels):
        axes[0, column].set_title(panel, fontsize=9)
        axes[-1, column].set_xlabel("iterations (episodes)", fontsize=8)
        for row, name in enumerate(drawn.measures):
            plot = axes[row, column]
            plot.set_xscale("symlog", linthresh=1.0)
            plot.set_ylabel(_LABELS[name], fontsize=8)
            plot.tick_params(labelsize=7)
            if name == "return":
                level = float(measured.teacher_return[panel].mean())
                plot.axhline(level, color="black", linestyle=":", linewidth=1.0, label="teacher")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside right upper", fontsize=7, frameon=False)
    return _bytes(figure)


def _axes(rows: int, columns: int) -> tuple[Any, Any]:
    import matplotlib as mpl
    from matplotlib.figure import Figure as Drawing

    mpl.rcParams["svg.hashsalt"] = "policy distillation"  # or ids differ from run to run
    mpl.rcParams["svg.fonttype"] = "none"
    figure = Drawing(figsize=(1.8 + 3.4 * columns, 0.6 + 2.6 * rows), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False)


def _bytes(figure: Any) -> bytes:
    written = io.BytesIO()
    figure.savefig(written, format="svg", metadata={"Date": None})
    return written.getvalue()
