"""The echo device: builds `echo_device.c`, starts it on a pty of its own, ends it, and gives what it counted."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tty
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from benchmarks.provenance import ROOT

_SOURCES = (ROOT / "benchmarks" / "echo_device.c", ROOT / "hardware" / "firmware" / "framing.c")
_FLAGS = ("-std=c11", "-O2", "-Wall", "-Wextra", "-Wconversion", "-Wdouble-promotion", "-Werror")
_END_TIMEOUT_S = 10.0


def build_echo_device(folder: Path) -> Path:
    """Compile the device into `folder`. Ends the program where there is no compiler."""
    program = folder / "echo_device"
    compiler = os.environ.get("CC", "").strip() or "cc"
    includes = (f"-I{ROOT / 'hardware' / 'firmware'}", f"-I{ROOT / 'hardware'}")
    command = [*compiler.split(), *_FLAGS, *includes, *map(str, _SOURCES), "-lm", "-o", str(program)]
    try:
        subprocess.run(command, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise SystemExit(
            f"error: cannot build the echo device: {error}; expected a C compiler; install gcc, or set CC"
        ) from error
    return program


class EchoDevice:
    """Context manager: `path` is the port to open. After it `counted` holds the device's own JSON.

    `drift_ppm` and `offset_us` make its clock another one than this computer's.
    """

    def __init__(
        self, program: Path, rate_hz: float, digest: str | None, drift_ppm: float = 0.0, offset_us: int = 0
    ) -> None:
        self.counted: dict[str, Any] = {}
        master, self._slave = os.openpty()
        tty.setraw(self._slave)
        self.path = os.ttyname(self._slave)
        kind = ("--bare",) if digest is None else ("--digest", digest)
        clock = ("--drift-ppm", f"{drift_ppm:g}", "--offset-us", str(offset_us))
        command = [str(program), "--link-fd", str(master), "--rate-hz", f"{rate_hz:g}", *kind, *clock]
        self._process = subprocess.Popen(command, pass_fds=(master,), stdout=subprocess.PIPE, start_new_session=True)
        os.close(master)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.send_signal(signal.SIGTERM)
        try:
            out, _ = self._process.communicate(timeout=_END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            out, _ = self._process.communicate()
        os.close(self._slave)
        if out:
            self.counted = json.loads(out)

    def responses_us(self) -> NDArray[np.int64]:
        """Every response, sampled to answer read, in whole microseconds, sorted."""
        buckets = {int(key): int(value) for key, value in self.counted.get("responses_us", {}).items()}
        return np.repeat(np.array(sorted(buckets), np.int64), [buckets[key] for key in sorted(buckets)])
