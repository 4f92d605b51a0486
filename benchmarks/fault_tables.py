"""The measured part of docs/faults.md, from docs/results/bridge_faults.json."""

from __future__ import annotations

import json
import sys
from typing import Any

from benchmarks.provenance import ROOT

PAGE = ROOT / "docs" / "faults.md"
STORED = ROOT / "docs" / "results" / "bridge_faults.json"
BEGIN, END = "<!-- begin measured faults -->", "<!-- end measured faults -->"
_NAMES = {
    ("asked", "lockstep"): "drops, damage, jitter, disconnects; lock-step",
    ("asked", "real"): "the same in real time",
    ("hostile", "lockstep"): "and everything else; lock-step",
}


def section(stored: dict[str, Any]) -> str:
    """Both tables in Markdown."""
    lines = [
        "| link | seeds | simulated s | armed | periods driven | held | stops latched | faults injected | "
        "connections cut | foreign COMMANDs | violations |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for key, name in _NAMES.items():
        runs = [run for run in stored["runs"] if (run["rates"], run["clock"]) == key]
        if not runs:
            continue
        streams = [run["proxy"][direction] for run in runs for direction in ("to-device", "to-host")]
        kinds = ("drop", "corrupt", "truncate", "duplicate", "reorder", "flood", "replay", "foreign")
        cells = [
            len(runs),
            round(sum(run["simulated_s"] for run in runs)),
            *(sum(run[name] for run in runs) for name in ("blocks", "driven", "held", "faults")),
            sum(stream[kind] for stream in streams for kind in kinds),
            sum(run["proxy"]["cut"] for run in runs),
            sum(stream["foreign"] for stream in streams),
            sum(len(run["violations"]) for run in runs),
        ]
        lines.append(f"| {name} | " + " | ".join(f"{cell:,}" for cell in cells) + " |")
    lines += ["", "| shadow mode, lock-step | periods | different actions | that differ between device, C and numpy |"]
    lines.append("|---|---|---|---|")
    for row in stored["shadow"]:
        counts = f"{row['compared']:,} | {row['different_actions']:,} | {len(row['differences'])}"
        lines.append(f"| {row['weights']} | {counts} |")
    if fuzzed := stored.get("fuzz"):
        lines += ["", "| parser | bytes | frames | messages | what it raised |", "|---|---|---|---|---|"]
        lines.append(
            f"| `make fuzz-bridge`, half random, half mutated frames | {fuzzed['bytes']:,} | {fuzzed['frames']:,} | "
            f"{fuzzed['messages']:,} | nothing |"
        )
    lines += ["", f"`make bench-faults`; {stored['machine']}, commit `{stored['commit'][:12]}`."]
    return "\n".join(lines)


def filled(page: str, stored: dict[str, Any]) -> str:
    """The page with the measured part renewed."""
    head, _, rest = page.partition(BEGIN)
    _, _, tail = rest.partition(END)
    return f"{head}{BEGIN}\n{section(stored)}\n{END}{tail}"


def fill(stored: dict[str, Any]) -> None:
    """Renew the page."""
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8"), stored), encoding="utf-8")


def main() -> None:
    """`python -m benchmarks.fault_tables`: renew the page from what is stored."""
    if not STORED.is_file():
        sys.exit(f"error: {STORED}: no such file, expected the results of `make bench-faults`; run it")
    fill(json.loads(STORED.read_text(encoding="utf-8")))


if __name__ == "__main__":
    main()
