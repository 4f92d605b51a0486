"""Results as a table for people."""

from __future__ import annotations

from typing import Any

from rich.table import Table

_LONG = ("chosen", "config")


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
