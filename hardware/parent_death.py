"""Children that must not outlive their parent, however it ends."""

from __future__ import annotations

import shutil


def dies_with_parent() -> list[str]:
    """What to put before a command so that the kernel kills it with the thread that started it.

    util-linux brings it; without it a killed parent leaves the child until its own patience ends.
    """
    return ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []
