"""Tables of docs/results/refine.json."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.distillation_tables import Row, groups, share, stored_bytes


def table(runs: list[Row], teacher: list[float]) -> str:
    """One environment: a line a method and size, the size that its mask was found at."""
    lines = [
        "| students | weights asked for | kept weights | kept parameters | bytes | return | share of the teacher's "
        "(95 % interval) | mean share | worst seed | episodes below 90 % | seeds |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for (method, size), same in groups(runs, "method", "size").items():
        figures = share(same, teacher)
        most = {key: max(row[key] for row in same) for key in ("kept_weights", "kept_parameters")}
        lines.append(
            f"| {method} | {size:,} | {most['kept_weights']:,} | {most['kept_parameters']:,} | "
            f"{max(stored_bytes(row) for row in same):,} | {np.mean([row['return_iqm'] for row in same]):,.1f} | "
            f"**{figures['ratio']:.1%}** ({figures['low']:.1%} to {figures['high']:.1%}) | {figures['mean']:.1%} | "
            f"{figures['worst_seed']:.1%} | {figures['falls']:.0%} | {len(same)} |"
        )
    return "\n".join(lines)


def section(stored: dict[str, Any]) -> str:
    """The whole section of docs/results.md: tables an environment."""
    parts = []
    for (environment,), runs in groups(stored["runs"], "environment").items():
        origin, teacher = stored["provenance"][environment], runs[0]["teacher_return_iqm"]
        head = (
            f"### {environment}\n\nTeacher's return {teacher:,.1f}. Commit `{origin['commit'][:12]}`, "
            f"{origin['machine']}, code {', '.join(origin['sources'])}."
        )
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
