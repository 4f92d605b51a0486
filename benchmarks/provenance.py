"""Where and on what figures were taken: machine, versions, commit."""

from __future__ import annotations

import platform
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def machine() -> str:
    """One line that says where the figures were taken."""
    cores = len([line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("processor")])
    return f"{platform.system()} {platform.machine()}, {cores} cores, Python {platform.python_version()}"


def commit() -> str:
    """The commit of the working tree, with -dirty where tracked files differ from it, documents left out."""
    name = _git("rev-parse", "HEAD") or "unknown"
    changed = _git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!docs", ":!README.md")
    return name + ("-dirty" if changed else "")


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


def _git(*arguments: str) -> str:
    answer = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    return answer.stdout.strip()
