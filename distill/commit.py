"""Which commit the code belongs to, where git is there to tell."""

from __future__ import annotations

import subprocess
from pathlib import Path

from .identity import sources


def own_code() -> dict[str, str | None]:
    """What trained a student, as its rows say it: commit (None without git) and sources (version and digest)."""
    return {"commit": commit_of(Path(__file__)), "sources": sources()}


def commit_of(file: Path) -> str | None:
    """The commit that `file` belongs to, with -dirty where tracked files differ from it, documents left out.

    None where git is missing or does not know the file: an installed package may lie in another project's checkout.
    """

    def git(*arguments: str) -> str:
        # a commit that somebody makes meanwhile must find no lock
        command = ["git", "--no-optional-locks", *arguments]
        return subprocess.run(command, cwd=file.parent, capture_output=True, text=True, check=True).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", "--", file.name)
        name = git("rev-parse", "HEAD")
        changed = git(
            "status", "--porcelain", "--untracked-files=no", "--", ":/", ":(top,exclude)docs", ":(top,exclude)README.md"
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return name + ("-dirty" if changed else "")
