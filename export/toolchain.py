"""Calling C compilers: the flags that are the same everywhere, and this machine's compiler."""

import hashlib
import os
import shutil
import subprocess
from collections.abc import Sequence
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from export.errors import TooLargeError, ToolError

STRICT_FLAGS = ("-std=c11", "-ffp-contract=off", "-Wall", "-Wextra", "-Wconversion", "-Wdouble-promotion", "-Werror")
HOST_FLAGS = (*STRICT_FLAGS, "-O2", "-fPIC", "-shared")
HOST_PACKAGES = "gcc libc6-dev"
_TIMEOUT_S = 300
_TOO_LARGE = ("is too large", "overflowed", "will not fit", "relocation truncated")


def host_compiler() -> str:
    """Return this machine's C compiler: $CC, or cc."""
    return os.environ.get("CC", "").strip() or "cc"


def compiler_version(compiler: str, packages: str = HOST_PACKAGES) -> str:
    """Return the first line of `compiler --version`."""
    return run_compiler([*compiler.split(), "--version"], packages).splitlines()[0]


def host_library_identity(header: bytes) -> str:
    """Return a digest of all that decides what `build_host_library` makes: header, harness, compiler, flags."""
    recipe = repr((host_compiler(), HOST_FLAGS)).encode()
    return hashlib.sha256(b"\0".join((header, target_source("harness.c").read_bytes(), recipe))).hexdigest()


def build_host_library(include: Path, output: Path) -> None:
    """Compile the harness with the policy.h in `include` into a shared object for this machine.

    Raises:
        ToolError: the compiler is missing or refuses the code.
    """
    command = [*host_compiler().split(), *HOST_FLAGS, f"-I{include}"]
    run_compiler([*command, str(target_source("harness.c")), "-o", str(output)], HOST_PACKAGES)


def target_source(name: str) -> Traversable:
    """Return a file of export/targets/: a C source or the linker script."""
    return files("export").joinpath("targets", name)


def run_compiler(command: Sequence[str], packages: str) -> str:
    """Run a compiler and return what it prints.

    Raises:
        ToolError: it is not installed (the message names the apt packages), takes too long, or refuses the code;
            TooLargeError where size is why.
    """
    program = command[0]
    if shutil.which(program) is None:
        raise ToolError(f"C compiler {program!r} not found; apt-get install {packages}")
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        raise TooLargeError(
            f"{program} took more than {_TIMEOUT_S} s; choose a smaller student, or leave --optimise out"
        ) from None
    except OSError as error:
        raise ToolError(f"cannot run C compiler {program!r}: {error.strerror or error}; check $CC") from None
    if done.returncode != 0:
        marks = ("error", "cannot find", "undefined reference", *_TOO_LARGE)
        lines = [line for line in done.stderr.splitlines() if any(mark in line for mark in marks)]
        reason = lines[0] if lines else f"exit code {done.returncode}"
        if any(mark in done.stderr for mark in _TOO_LARGE):
            raise TooLargeError(
                f"{program} failed: {reason}; choose a smaller student, the target cannot hold this one"
            )
        raise ToolError(f"{program} failed: {reason}; check the compiler's installation, then compile the policy again")
    return done.stdout
