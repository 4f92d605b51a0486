"""Standard input, output and error of the command line: open, able to show every character, and heard when they fail.

Whoever starts the bridge may have closed one of them (`2>&-`, a service without a console). Its number would go to the
next file that is opened, a socket of the device perhaps, and a stray print would travel on it.
"""

import contextlib
import io
import os
import sys
from collections.abc import Iterator

from firmware_bridge.errors import ResultError

_INPUT, _OUTPUT, _ERROR = 0, 1, 2


def open_standard_streams() -> None:
    """Put /dev/null where a descriptor is closed, and let both outputs write out what their encoding lacks.

    Call it before anything else is opened. What is written to a closed standard output fails as before, for its
    /dev/null is open for reading only: nobody would be given the result.
    """
    for number, flags in ((_INPUT, os.O_RDONLY), (_OUTPUT, os.O_RDONLY), (_ERROR, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, flags)  # takes the lowest number that is free: this one
            os.set_inheritable(number, True)
    if sys.stdin is None:
        sys.stdin = os.fdopen(_INPUT, encoding="utf-8", closefd=False)
    if sys.stdout is None:
        sys.stdout = os.fdopen(_OUTPUT, "w", encoding="utf-8", closefd=False)
    if sys.stderr is None:
        sys.stderr = os.fdopen(_ERROR, "w", encoding="utf-8", closefd=False, buffering=1)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


@contextlib.contextmanager
def given_result() -> Iterator[None]:
    """What is printed inside has reached standard output on leaving. Raises ResultError where it could not."""
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except OSError as error:
        _give_up_output()
        raise ResultError(
            f"cannot write the result: {error.strerror or error}; standard output must stay open and have space until "
            "all is written"
        ) from error


def _give_up_output() -> None:
    """Nothing more is written to standard output: the interpreter's flush at its end must not fail once more."""
    with contextlib.suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
