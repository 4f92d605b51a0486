"""Tables of docs/results/refine.json."""

from __future__ import annotations

from typing import Any

from benchmarks.distillation_tables import groups
from distill.evaluate import share_kept


def section(stored: dict[str, Any]) -> str:
    """A table an environment: a line a method and size, the size that its mask was found at."""
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
            f"{origin['machine']}."
        )
        parts += [head, "\n".join(lines)]
    return "\n\n".join(parts)
