"""Where and on what figures were taken: machine, versions, commit."""

from __future__ import annotations

import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def machine() -> str:
    """One line that says where the figures were taken."""
    cores = len([line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("processor")])
    return f"{platform.system()} {platform.machine()}, {cores} cores, Python {platform.python_version()}"


def commit() -> str:
    """The commit of the working tree, with -dirty where tracked files differ from it."""
    answer = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return answer.stdout.strip() or "unknown"


def provenance() -> dict[str, str]:
    """What every results file begins with."""
    packages = {name: version(name) for name in ("torch", "gymnasium", "mujoco", "numpy")}
    return {"machine": machine(), "commit": commit(), **packages}
