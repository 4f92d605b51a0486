"""Tables of docs/results/refine.json."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.distillation_tables import GRADIENT, OFFLINE, STUDENT, Row, groups, share, stored_bytes
from benchmarks.provenance import told

RANDOM, ENTROPY, REWARD = "student-driven, random plants", "expected entropy", "expected entropy + R"
SEARCH = "student-driven, then CMA-ES on the return"
STARTS = {  # whose student each refines
    **dict.fromkeys((STUDENT, RANDOM, ENTROPY, REWARD), OFFLINE),
    **dict.fromkeys((GRADIENT, SEARCH), STUDENT),
}


def kept_as_it_was(runs: list[Row], same: list[Row]) -> str:
    """How many of these students are the ones that they began with, "-" where none of those is stored.

    The student that a refinement or a search begins with is its first candidate, and stays where nothing better came.
    Equal returns on every held-out episode tell, as a search takes no steps.
    """
    start = STARTS.get(same[0]["method"])
    begun = {row["seed"]: row for row in runs if row["method"] == start and row["size"] == same[0]["size"]}
    if not begun:
        return "-"
    kept = [row for row in same if row["seed"] in begun and row["returns"] == begun[row["seed"]]["returns"]]
    return f"{len(kept)} of {len(same)}"


def table(runs: list[Row], teacher: list[float]) -> str:
    """One environment: a line a method and size, the size that its mask was found at."""
    lines = [
        "| students | weights asked for | kept weights | kept parameters | bytes | return | share of the teacher's "
        "(95 % interval) | mean share | worst seed | episodes below 90 % | seeds | steps | kept as it was |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for (method, size), same in groups(runs, "method", "size").items():
        figures = share(same, teacher)
        most = {key: max(row[key] for row in same) for key in ("kept_weights", "kept_parameters")}
        lines.append(
            f"| {method} | {size:,} | {most['kept_weights']:,} | {most['kept_parameters']:,} | "
            f"{max(stored_bytes(row) for row in same):,} | {np.mean([row['return_iqm'] for row in same]):,.1f} | "
            f"**{figures['ratio']:.1%}** ({figures['low']:.1%} to {figures['high']:.1%}) | {figures['mean']:.1%} | "
            f"{figures['worst_seed']:.1%} | {figures['falls']:.0%} | {len(same)} | "
            f"{np.mean([row['steps'] for row in same]):,.0f} | {kept_as_it_was(runs, same)} |"
        )
    return "\n".join(lines)


def section(stored: dict[str, Any]) -> str:
    """The whole section of docs/results.md: tables an environment."""
    parts = []
    for (environment,), runs in groups(stored["runs"], "environment").items():
        told_of, teacher = told(stored["provenance"][environment]), runs[0]["teacher_return_iqm"]
        head = f"### {environment}\n\nTeacher's return {teacher:,.1f}. {told_of}"
        parts += [head, table(runs, stored["teacher_returns"][environment])]
        wrong = [row for row in stored["robustness"] if row["environment"] == environment]
        if wrong:
            parts.append(_robustness_table(wrong))
    return "\n\n".join(parts)


def _robustness_table(rows: list[Row]) -> str:
    """Success, students' and teacher's, on the nominal plant and on the grid."""
    shown = {
        "nominal": "nominal plant",
        "extra delay 0": "mass, length, friction x 0.8, 1, 1.2",
        "extra delay 1": "the same, one more period of delay",
    }
    lines = [
        "Held upright for the last 3 s, students (95 % interval) / teacher:",
        "",
        f"| students | weights asked for | {' | '.join(shown.values())} |",
        "|---|---|" + "---|" * len(shown),
    ]
    for row in rows:
        cells = []
        for name in shown:
            students, teacher = row["summary"][name]["students"], row["summary"][name]["teacher"]
            low, high = students["interval"]
            cells.append(f"**{students['success']:.1%}** ({low:.1%} to {high:.1%}) / {teacher['success']:.1%}")
        lines.append(f"| {row['method']} | {row['size']:,} | {' | '.join(cells)} |")
    return "\n".join(lines)
