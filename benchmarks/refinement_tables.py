"""Tables of docs/results/refine.json."""

from __future__ import annotations

from typing import Any

from benchmarks.distillation_tables import Row, groups
from distill.evaluate import share_kept


def section(stored: dict[str, Any]) -> str:
    """Tables an environment: a line a method and size, the size that its mask was found at."""
    parts = []
    for (environment,), rows in groups(stored["rows"], "environment").items():
        origin, teacher = stored["provenance"][environment], rows[0]["teacher_return_iqm"]
        lines = [
            "| students | weights asked for | kept weights | kept parameters | bytes | return | share of the teacher's "
            "(95 % interval) | seeds |",
            "|---|---|---|---|---|---|---|---|",
        ]
        for row in rows:
            low, high = row["interval"]
            lines.append(
                f"| {row['method']} | {row['size']:,} | {row['kept_weights']:,} | {row['kept_parameters']:,} | "
                f"{row['bytes']:,} | {row['return_iqm']:,.1f} | **{share_kept(row['return_iqm'], teacher):.1%}** "
                f"({low:.1%} to {high:.1%}) | {row['seeds']} |"
            )
        head = (
            f"### {environment}\n\nTeacher's return {teacher:,.1f}. Commit `{origin['commit'][:12]}`, "
            f"{origin['machine']}, code {', '.join(origin['sources'])}."
        )
        parts += [head, "\n".join(lines)]
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
