"""What a child process writes to its standard output and error, kept for the day it ends when nobody expected it."""

from __future__ import annotations

import signal
import subprocess
import tempfile


class LastWords:
    """`file` is what the child writes to; it lives as long as this object, or until `close`."""

    def __init__(self) -> None:
        self.file = tempfile.TemporaryFile()  # noqa: SIM115

    def of(self, child: subprocess.Popen[bytes], patience_s: float) -> str | None:
        """How the child ended and what it said, as `SIGKILL (it said nothing)`; None if it still runs after that."""
        try:
            status = child.wait(patience_s)
        except subprocess.TimeoutExpired:
            return None
        how = signal.Signals(-status).name if status < 0 else f"exit status {status}"
        self.file.seek(0)
        lines = [line.strip() for line in self.file.read().decode(errors="replace").splitlines() if line.strip()]
        telling = [line for line in lines if "error" in line.lower()] or lines[-1:] or ["it said nothing"]
        return f"{how} ({telling[0]})"

    def close(self) -> None:
        """Forget it all."""
        self.file.close()
