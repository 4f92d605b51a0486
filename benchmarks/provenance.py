"""Where and on what figures were taken: machine, versions, commit."""

from __future__ import annotations

import platform
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

from distill.commit import commit_of

FILE = Path(__file__).resolve()
ROOT = FILE.parent.parent
UNKNOWN = "unknown"


def machine() -> str:
    """One line that says where the figures were taken."""
    cores = len([line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("processor")])
    return f"{platform.system()} {platform.machine()}, {cores} cores, Python {platform.python_version()}"


def commit() -> str:
    """The commit of the working tree, with -dirty where tracked files differ from it, documents left out."""
    return commit_of(FILE) or UNKNOWN


def refuse_dirty(*, allowed: bool) -> None:
    """End the program where the figures could not be traced to a commit, before hours are spent on them."""
    if commit().endswith("-dirty") and not allowed:
        sys.exit(
            "error: the working tree has uncommitted changes, expected a commit that the figures belong to; commit "
            "them, or give --allow-dirty"
        )


def provenance() -> dict[str, str]:
    """What every results file begins with."""
    packages = {name: version(name) for name in ("torch", "gymnasium", "mujoco", "numpy")}
    return {"machine": machine(), "commit": commit(), **packages}


def refuse_difference(where: str, name: str, stored: Any, got: Any, alone: str) -> None:
    """End the program where rows would stand beside stored ones that were measured with other numbers."""
    if stored != got:
        sys.exit(
            f"error: {where} with {name} = {stored}, got {got} for {alone} alone; run all of them, or take the same "
            "numbers"
        )


def origin(
    begun: dict[str, str], rows: list[dict[str, Any]], before: dict[str, Any] | None, earlier: list[dict[str, Any]]
) -> dict[str, Any]:
    """What a results file says of where `rows` come from: machine, versions, all commits and all sources.

    `before` is what the file said of its `earlier` rows. A row without a commit of its own keeps what the file said of
    it; where it was not there, it belongs to today's commit if today's code made it.
    """
    from distill.identity import sources

    commits = {row["commit"] or UNKNOWN for row in rows if "commit" in row}
    for row in rows:
        if "commit" in row:
            continue
        if before is not None and row in earlier:
            commits |= set(_commits(before))
        else:
            commits.add(begun["commit"] if row["sources"] == sources() else UNKNOWN)
    versions = {key: value for key, value in begun.items() if key != "commit"}
    return {**versions, "commits": sorted(commits), "sources": sorted({row["sources"] for row in rows})}


def told(origin: dict[str, Any]) -> str:
    """The sentence of a document."""
    commits = [f"`{name[:12]}`" for name in _commits(origin)]
    return (
        f"Commit{'s' * (len(commits) > 1)} {', '.join(commits)}, {origin['machine']}, code "
        f"{', '.join(origin['sources'])}."
    )


def _commits(origin: dict[str, Any]) -> list[str]:
    """One only in files from before rows had their own."""
    commits: list[str] = origin["commits"] if "commits" in origin else [origin["commit"]]
    return commits
