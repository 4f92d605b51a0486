"""Figures as inline SVG: no files beside the page, no scripts, the same bytes for the same data."""

import io
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hardware.plants.cart_rail import UPRIGHT_RAD

Array = NDArray[np.float64]

_STRETCHES = 700  # more cannot be seen on a page


def svg_of(figure: Any, salt: str) -> str:
    """One `<svg>` element of a matplotlib figure; `salt` keeps the ids of several figures on one page apart."""
    import matplotlib as mpl

    buffer = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": salt, "svg.fonttype": "none"}):
        figure.savefig(buffer, format="svg", bbox_inches="tight", metadata={"Date": None})
    text = buffer.getvalue()
    # Without the XML prologue it is an HTML element.
    return text[text.index("<svg") :]


def new_figure(rows: int, height: float) -> tuple[Any, Any]:
    """A figure of `rows` plots above one another, with one horizontal axis, and the plots; `height` in inches."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.0, height))
    FigureCanvasSVG(figure)  # no pyplot: no window system, no global state
    return figure, figure.subplots(rows, 1, sharex=True, squeeze=False)[:, 0]


def draw_range(axis: Any, time_s: Array, values: Array, largest: bool = False) -> None:
    """Draw `values` (n,) over `time_s` (n,): every point, or median and range of each stretch when there are many.

    With `largest` the upper end of the range is a line of its own, and the lines are named.
    """
    if len(values) <= 2 * _STRETCHES:
        axis.plot(time_s, values, linewidth=0.9, color="tab:blue")
        return
    edges = np.linspace(0, len(values), _STRETCHES + 1).astype(int)
    stretches = [values[first:last] for first, last in itertools.pairwise(edges)]
    middle = time_s[(edges[:-1] + edges[1:] - 1) // 2]
    with np.errstate(all="ignore"):
        low, median, high = (np.array([_finite(of, part) for part in stretches]) for of in (np.min, np.median, np.max))
    axis.fill_between(middle, low, high, color="tab:blue", alpha=0.3, linewidth=0, label="range")
    axis.plot(middle, median, linewidth=0.9, color="tab:blue", label="median")
    if largest:
        axis.plot(middle, high, linewidth=0.6, color="tab:orange", label="largest")
        axis.legend(fontsize="small", loc="upper right")


def _finite(of: Any, part: Array) -> float:
    part = part[np.isfinite(part)]
    return float(of(part)) if len(part) else np.nan


def trajectory_svg(time_s: Array, angle_rad: Array, position_m: Array, action: Array, salt: str = "trajectory") -> str:
    """Rod angle, cart position and applied action over time; all arrays (n,), NaN where nothing is known."""
    figure, axes = new_figure(3, 6.0)
    # A rod that passes the bottom jumps from pi to -pi: a hole in the line, not a stroke across the figure.
    jumps = np.abs(np.diff(angle_rad, prepend=angle_rad[:1])) > np.pi
    angle_rad = np.where(jumps, np.nan, angle_rad)
    for axis, values, label in zip(
        axes,
        (angle_rad, position_m, action),
        ("rod angle [rad]\n0 = upright", "cart [m]", "action [m/s²]"),
        strict=True,
    ):
        draw_range(axis, time_s, values)
        axis.set_ylabel(label)
        axis.grid(alpha=0.3)
    axes[0].axhspan(-UPRIGHT_RAD, UPRIGHT_RAD, color="tab:green", alpha=0.15)
    axes[-1].set_xlabel("time since armed [s]")
    return svg_of(figure, salt)


def latency_svg(total_us: Array, salt: str = "latency") -> str:
    """Histogram of the answer's latency [us], logarithmic in both directions so that the tail is seen."""
    figure, axes = new_figure(1, 2.8)
    positive = total_us[total_us > 0]
    if positive.size:
        low, high = float(positive.min()), float(positive.max())
        bins = np.geomspace(low * 0.9, high * 1.1 + 1e-9, 60)
        axes[0].hist(positive, bins=bins.tolist())
        axes[0].set_xscale("log")
        axes[0].set_yscale("log")
    axes[0].set_xlabel("last byte of the observation in, answer written [us]")
    axes[0].set_ylabel("answers")
    axes[0].grid(alpha=0.3)
    return svg_of(figure, salt)


def return_svg(kept: Sequence[float], returns: Sequence[float], teacher: float, salt: str = "return") -> str:
    """Mean return against kept weights along the distillation, with the teacher's return as a line."""
    figure, axes = new_figure(1, 3.2)
    axes[0].plot(kept, returns, "o-", markersize=3, linewidth=1.0, label="student while pruning")
    axes[0].axhline(teacher, color="black", linestyle="--", linewidth=1.0, label="teacher")
    if min(kept, default=0) > 0:
        axes[0].set_xscale("log")
    axes[0].set_xlabel("kept weights")
    axes[0].set_ylabel("mean return")
    axes[0].grid(alpha=0.3)
    axes[0].legend()
    return svg_of(figure, salt)


def sizes_svg(names: Sequence[str], values: Sequence[float], unit: str, salt: str = "sizes") -> str:
    """Horizontal bars on a logarithmic axis, each with its number."""
    figure, axes = new_figure(1, 0.5 + 0.4 * len(names))
    bars = axes[0].barh(list(names), list(values))
    axes[0].bar_label(bars, labels=[f" {value:,.0f}" for value in values])
    axes[0].set_xscale("log")
    axes[0].set_xlabel(unit)
    axes[0].invert_yaxis()
    axes[0].margins(x=0.2)
    return svg_of(figure, salt)
