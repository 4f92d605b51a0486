"""Results as a table for people."""

from __future__ import annotations

import errno
import os
from typing import Any

from rich.console import Console
from rich.table import Table

_LONG = ("chosen", "config")


class Terminal(Console):
    """Standard output for tables."""

    def on_broken_pipe(self) -> None:
        """Raise it again: rich would exit here without a word."""
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))


def _rows(prefix: str, value: Any) -> list[tuple[str, str]]:
    if isinstance(value, dict):
        return [row for key, item in value.items() for row in _rows(f"{prefix}{key} ", item)]
    name = prefix.strip().replace("_", " ")
    if isinstance(value, float):
        return [(name, f"{value:,.4g}" if abs(value) < 10 else f"{value:,.1f}")]
    return [(name, f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value))]


def result_table(title: str, result: dict[str, Any]) -> Table:
    """One row a figure; long lists are left to the JSON file."""
    table = Table(title=title, show_header=False)
    for key, value in result.items():
        if key not in _LONG and not (isinstance(value, list) and any(isinstance(item, dict) for item in value)):
            for name, text in _rows(f"{key} ", value):
                table.add_row(name, text)
    return table


def robustness_table(result: dict[str, Any]) -> Table:
    """A line a group of plants, then those on which one of the two fails at times."""
    table = Table(title=f"held upright for the last 3 s, {result['episodes']} starts a plant")
    students_heading = "students (95 % within these; lowest and highest)"
    for heading in ("plants", "teacher", students_heading, "return of the teacher", "of the students"):
        table.add_column(heading)
    lines = list(result["summary"].items())
    lines += [
        (
            f"mass x{plant['mass_factor']:g}, length x{plant['length_factor']:g}, friction "
            f"x{plant['friction_factor']:g}, delay +{plant['extra_delay_periods']}",
            plant,
        )
        for plant in result["plants"]
        if min(plant["teacher"]["success"], plant["students"]["success"]) < 1.0
    ]
    for name, each in lines:
        teacher, students = each["teacher"], each["students"]
        low, high = students["interval"]
        worst, best = students["range"]
        table.add_row(
            name,
            f"{teacher['success']:.0%}",
            f"{students['success']:.0%} ({low:.0%} to {high:.0%}; {worst:.0%} and {best:.0%})",
            f"{teacher['return_iqm']:,.1f}",
            f"{students['return_iqm']:,.1f}",
        )
    return table
