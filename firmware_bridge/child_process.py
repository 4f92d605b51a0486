"""Processes that work beside the control loop: the log's writer, the live page's server, a simulated device.

They run the code of this package and nothing from the current folder, which `python -m` alone would look into first.
Standard input of the first two is a pipe that begins with their settings and ends when they are to end; standard output
carries their answers.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from firmware_bridge.standard_streams import open_standard_streams

_LENGTH_BYTES = 4
_PACKAGES = Path(__file__).resolve().parent.parent
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)


def module_command(module: str) -> list[str]:
    """The command that runs a module; give it `module_environment`, too."""
    return [sys.executable, "-P", "-m", module]


def module_environment() -> dict[str, str]:
    """Where this very package is found, installed or not."""
    paths = [str(_PACKAGES), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def start_child(module: str, inherited: Sequence[int] = ()) -> subprocess.Popen[bytes]:
    """Start one with a pipe on either side and the descriptors `inherited`. Raises OSError."""
    return subprocess.Popen(
        module_command(module),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        pass_fds=inherited,
        bufsize=0,
        env=module_environment(),
        start_new_session=True,  # Ctrl-C reaches the whole foreground group
    )


def become_child() -> tuple[int, int]:
    """In the child: descriptors of the pipe and for answers. It ends with the pipe and not by a signal: those that end
    the bridge may reach it, too, and the cart is still to be braked."""
    open_standard_streams()
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    source, answers = sys.stdin.fileno(), os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # a stray print is no answer
    return source, answers


def with_length(data: bytes) -> bytes:
    """Settings as the pipe begins with them."""
    return len(data).to_bytes(_LENGTH_BYTES, "little") + data


def settings_in(buffer: bytes | bytearray) -> tuple[Any, int] | None:
    """The settings at the beginning of `buffer` and where they end; None while they are not complete."""
    if len(buffer) < _LENGTH_BYTES:
        return None
    end = _LENGTH_BYTES + int.from_bytes(buffer[:_LENGTH_BYTES], "little")
    return (json.loads(buffer[_LENGTH_BYTES:end]), end) if len(buffer) >= end else None
