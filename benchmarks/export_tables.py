"""Tables of docs/results/export.json."""

from __future__ import annotations

from typing import Any

from benchmarks.distillation_tables import Row, groups
from export.targets.target import TARGETS

_HEAD = (
    "| tool | variant | takes | flash B | RAM B (+ stack) | instructions | largest error |\n"
    "|---|---|---|---|---|---|---|"
)
_HOST_HEAD = "| network | tool | variant | microseconds | largest error |\n|---|---|---|---|---|"
_NETWORKS = {
    "student": "Student: 25-128-128-1, ReLU, tanh; 300 + 680 + 128 nonzero weights, every unit live",
    "teacher": "Teacher: 25-256-256-1, ReLU, tanh; dense, 72,705 parameters",
}


def target_table(rows: list[Row]) -> str:
    """One network on one target: a line for each variant."""
    lines = [_HEAD]
    for row in rows:
        bold = "**" if row["tool"] == "ours" else ""
        instructions, largest = row["instructions"], row["instructions_max"]
        lines.append(
            f"| {row['tool']} | {row['variant']} | {row['entry']} | {bold}{row['flash_bytes']:,}{bold} | "
            f"{row['ram_bytes']:,} (+ {row['stack_bytes']:,}){_too_large(row)} | {bold}{instructions:,.0f}{bold}"
            f"{'' if instructions == largest else f', up to {largest:,}{_over(row)}'} | {row['max_error']:.1e} |"
        )
    return "\n".join(lines)


def _over(row: Row) -> str:
    return f" ({row['counted_inputs']:,} inputs)" if "counted_inputs" in row else ""


def _too_large(row: Row) -> str:
    target = TARGETS[row["target"]]
    used = (
        (row["flash_bytes"], target.flash_limit_bytes),
        (row["ram_bytes"] + row["stack_bytes"], target.ram_limit_bytes),
    )
    return "; too large" if any(limit is not None and size > limit for size, limit in used) else ""


def host_table(rows: list[Row]) -> str:
    """Both networks on the machine that measured."""
    lines = [_HOST_HEAD]
    for row in rows:
        lines.append(
            f"| {row['network']} | {row['tool']} | {row['variant']} | {row['microseconds']:.2f} | "
            f"{row['max_error']:.1e} |"
        )
    return "\n".join(lines)


def error_inputs(rows: list[Row]) -> str:
    """Over how many observations the errors were taken."""
    counts = sorted({row["error_inputs"] for row in rows})
    return " or ".join(f"{count:,}" for count in counts)


def section(stored: dict[str, Any]) -> str:
    """The whole section of docs/results.md."""
    emulated = [row for row in stored["rows"] if row["target"] != "host"]
    packages = ", ".join(f"{name} {found}" for name, found in stored["packages"].items() if found)
    compilers = ", ".join(dict.fromkeys(stored["compilers"].values()))
    parts = [
        f"`make bench-export`, commit `{stored['commit'][:12]}`, {stored['machine']}. {packages}. {compilers}.",
        "Everything is linked with the same flags (`-std=c11 -ffp-contract=off`, sections collected) and runs on the "
        "same emulated core; `-ffp-contract=fast` stands in the rows that were built with it. Flash: the whole image "
        "minus one with an empty function, libm's tanhf included where it is called. RAM: what the code keeps and the "
        "buffers for observation and action. Instructions are exact, all in (input copy, quantisation, tanh), the mean "
        f"of {stored['counted_inputs']} inputs unless the row says how many; where they vary the largest of them is "
        "given. `too large`: more than the chip has whose processor it is (`export measure` names it). Error: largest "
        "difference of an action from float64, actions within -1 to 1, over "
        f"{error_inputs(emulated)} observations from N(0, 1) (fewer on cores without a float unit).",
        "`policy_step with ring` takes the newest of five frames and keeps the others; `stacked observation` is the "
        "bare network, and the caller keeps the frames. Only ours has the former. bakenn and nncc are given libm's "
        "tanhf by their caller; bakenn is calibrated on 1,000 other observations.",
    ]
    for network, heading in _NETWORKS.items():
        for (target,), rows in groups([row for row in emulated if row["network"] == network], "target").items():
            parts += [f"### {heading}; {TARGETS[target].title}", target_table(rows)]
    hosted = [row for row in stored["rows"] if row["target"] == "host"]
    parts += [
        "### On this machine",
        "The least of 30 passes over 1,000 observations, one thread; onnxruntime: the median of 1,000 calls from "
        "Python.",
        host_table(hosted),
    ]
    if stored["left_out"]:
        parts += ["Left out:", "\n".join(f"- {line}" for line in stored["left_out"])]
    looked = "; ".join(f"{name}: {reason}" for name, reason in stored["not_measured"].items())
    parts.append(f"Looked for and not measured: {looked}.")
    return "\n\n".join(parts)
