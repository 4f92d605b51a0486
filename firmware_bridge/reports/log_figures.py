"""Figures of a run's log as inline SVG. Long runs are drawn as the range of each stretch of time."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from firmware_bridge.latency.duration_counts import DurationCounts
from firmware_bridge.reports.figures import Array, draw_range, new_figure, svg_of

_BLUE, _RED = "tab:blue", "tab:red"


def duration_histogram_svg(raw: DurationCounts, label: str, salt: str) -> str:
    """How often each duration was seen, logarithmic in both directions so that the tail is seen."""
    figure, axes = new_figure(1, 2.6)
    if raw.n:
        values = raw.values_ns / 1e3
        low, high = float(values[0]), max(float(values[-1]), raw.maximum_ns / 1e3)
        # A clock that always says the same gives one bar, not none.
        bins = np.geomspace(low * 0.95, high * 1.05, 60)
        axes[0].hist(values, bins=bins.tolist(), weights=raw.counts, color=_BLUE)
        axes[0].set_xscale("log")
        axes[0].set_yscale("log")
        axes[0].set_ylim(bottom=0.7)  # one period is a bar, too
        _plain_ticks(axes[0].xaxis, low, high)
    axes[0].set_xlabel(label)
    axes[0].set_ylabel("periods")
    axes[0].grid(alpha=0.3)
    return svg_of(figure, salt)


def percentile_svg(curves: dict[str, DurationCounts], label: str, salt: str) -> str:
    """Duration against percentile, as HdrHistogram is usually drawn: each step to the right is a tenth as frequent."""
    figure, axes = new_figure(1, 2.8)
    largest = max((counts.n for counts in curves.values()), default=0)
    for (name, counts), style in zip(curves.items(), ("-", "--"), strict=False):
        if counts.n:
            beyond = np.geomspace(1.0, max(counts.n, 1), 200)
            values = [counts.percentile_us(100.0 * (1.0 - 1.0 / number)) for number in beyond[:-1]]
            values.append(counts.maximum_ns / 1e3)
            axes[0].plot(beyond, values, style, linewidth=1.2, label=f"{name} (n {counts.n:,})")
    ticks = [10.0**power for power in range(int(np.log10(max(largest, 1))) + 1)]
    axes[0].set_xscale("log")
    axes[0].set_yscale("log")
    axes[0].set_xticks(ticks, [_percent(tick) for tick in ticks])
    axes[0].minorticks_off()
    lowest = min((counts.percentile_us(0.0) for counts in curves.values() if counts.n), default=1.0)
    highest = max((counts.maximum_ns / 1e3 for counts in curves.values()), default=1.0)
    _plain_ticks(axes[0].yaxis, lowest, highest)
    axes[0].set_xlabel("percentile")
    axes[0].set_ylabel(label)
    axes[0].grid(alpha=0.3)
    if largest:
        axes[0].legend()
    return svg_of(figure, salt)


def duration_series_svg(time_s: Array, values_us: Array, label: str, salt: str, marks_s: Array | None = None) -> str:
    """Durations over time: median and range of each stretch; `marks_s` are drawn as red lines (missed deadlines)."""
    figure, axes = new_figure(1, 2.6)
    draw_range(axes[0], time_s, values_us, largest=True)
    for mark in _thinned(marks_s) if marks_s is not None else ():
        axes[0].axvline(mark, color=_RED, linewidth=0.8, alpha=0.6)
    positive = values_us[values_us > 0]
    if len(positive) and positive.max() > 4 * positive.min():
        axes[0].set_yscale("log")
        _plain_ticks(axes[0].yaxis, float(positive.min()), float(positive.max()))
    axes[0].set_xlabel("time since the first answer [s]")
    axes[0].set_ylabel(label)
    axes[0].grid(alpha=0.3)
    return svg_of(figure, salt)


def counters_svg(counters: dict[str, tuple[Array, Array]], end_s: float, salt: str) -> str:
    """Counters over time as steps, each from where it began: name -> (time [s], count), not empty."""
    figure, axes = new_figure(1, 2.8)
    for name, (time_s, counts) in counters.items():
        time_s, counts = _stepped(time_s, counts - counts[0])
        axes[0].step([*time_s, end_s], [*counts, counts[-1]], where="post", linewidth=1.2, label=name)
    axes[0].legend(fontsize="small")
    axes[0].set_ylim(bottom=0)
    axes[0].set_xlabel("time since the first answer [s]")
    axes[0].set_ylabel("frames")
    axes[0].grid(alpha=0.3)
    return svg_of(figure, salt)


def numbers_svg(time_s: Array, columns: dict[str, Array], salt: str) -> str:
    """One small figure a column over time, whatever they are."""
    figure, axes = new_figure(len(columns), 1.4 * len(columns) + 0.5)
    for axis, (name, values) in zip(axes, columns.items(), strict=True):
        draw_range(axis, time_s, values)
        axis.set_ylabel(name, fontsize="small")
        axis.grid(alpha=0.3)
    axes[-1].set_xlabel("time since the first answer [s]")
    return svg_of(figure, salt)


def _thinned(marks: Array) -> Sequence[float]:
    step = max(1, len(marks) // 200)
    thinned: list[float] = marks[::step].tolist()
    return thinned


def _stepped(time_s: Array, counts: Array) -> tuple[Array, Array]:
    changed = np.flatnonzero(np.diff(counts, prepend=counts[0] - 1) != 0)
    changed = changed[:: max(1, len(changed) // 2000)]
    return time_s[changed], counts[changed]


def _percent(beyond: float) -> str:
    return f"{100.0 * (1.0 - 1.0 / beyond):.10g} %"


def _plain_ticks(axis: Any, low: float, high: float) -> None:
    """1, 2, 5, 10, ... in plain numbers; only powers of ten where there are many."""
    first, last = int(np.floor(np.log10(max(low, 1e-9)))), int(np.ceil(np.log10(max(high, 1e-9))))
    steps = (1, 2, 5) if last - first <= 3 else (1,)
    ticks = [step * 10.0**power for power in range(first, last + 1) for step in steps]
    ticks = [tick for tick in ticks if low / 1.05 <= tick <= high * 1.05]
    if len(ticks) < 2:
        ticks = [low, high] if high > 1.01 * low else [low]
    axis.set_ticks(ticks, [f"{tick:,.6g}" for tick in ticks])
    axis.set_ticks([], minor=True)
