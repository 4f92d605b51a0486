"""Calling the C compilers: one set of flags for this machine and for the Cortex-M4F."""

import hashlib
import os
import shutil
import subprocess
from collections.abc import Sequence
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from export.errors import ToolError

CROSS_COMPILER = "arm-none-eabi-gcc"
STRICT_FLAGS = ("-std=c11", "-ffp-contract=off", "-Wall", "-Wextra", "-Wconversion", "-Wdouble-promotion", "-Werror")
HOST_FLAGS = (*STRICT_FLAGS, "-O2", "-fPIC", "-shared")
CORE_FLAGS = ("-mcpu=cortex-m4", "-mthumb", "-mfloat-abi=hard", "-mfpu=fpv4-sp-d16")
LINK_FLAGS = ("-nostdlib", "-ffunction-sections", "-fdata-sections", "-Wl,--gc-sections", "-Wl,--no-warn-rwx-segments")
# The C library for memcpy at most. libm is left out on purpose: a policy that needed it would not link.
LIBRARIES = ("-lc_nano", "-lgcc")
_TIMEOUT_S = 300


def host_compiler() -> str:
    """Return this machine's C compiler: $CC, or cc."""
    return os.environ.get("CC", "").strip() or "cc"


def compiler_version(compiler: str) -> str:
    """Return the first line of `compiler --version`."""
    return _run([compiler, "--version"], compiler).splitlines()[0]


def host_library_identity(header: bytes) -> str:
    """Return a digest of all that decides what `build_host_library` makes: header, harness, compiler, flags."""
    recipe = repr((host_compiler(), HOST_FLAGS)).encode()
    return hashlib.sha256(b"\0".join((header, _harness().read_bytes(), recipe))).hexdigest()


def build_host_library(include: Path, output: Path) -> None:
    """Compile the harness with the policy.h in `include` into a shared object for this machine.

    Raises:
        ToolError: the compiler is missing or refuses the code.
    """
    compiler = host_compiler()
    _run([*compiler.split(), *HOST_FLAGS, f"-I{include}", str(_harness()), "-o", str(output)], compiler)


def build_core_image(include: Path, output: Path, source: str, extra: Sequence[str] = ("-O2",)) -> None:
    """Compile and link `source` (a file in kernels/) with the policy.h in `include` for the Cortex-M4F.

    Raises:
        ToolError: the compiler is missing or refuses the code.
    """
    kernels = files("export").joinpath("kernels")
    script = kernels.joinpath("cortex_m4f.ld")
    keep = ("-Wl,-u,run_batch,-u,run_step,-u,run_reset,-u,run_observe,-u,run_self_test,-u,run_tanh", "-Wl,-e,run_batch")
    command = [CROSS_COMPILER, *CORE_FLAGS, *STRICT_FLAGS, *LINK_FLAGS, *extra, f"-I{include}", f"-T{script}"]
    if source == "harness.c":
        command += keep
    _run([*command, str(kernels.joinpath(source)), "-o", str(output), *LIBRARIES], CROSS_COMPILER)


def _harness() -> Traversable:
    return files("export").joinpath("kernels", "harness.c")


def _run(command: Sequence[str], compiler: str) -> str:
    program = command[0]
    if shutil.which(program) is None:
        cross = compiler == CROSS_COMPILER
        packages = "gcc-arm-none-eabi libnewlib-arm-none-eabi" if cross else "gcc libc6-dev"
        raise ToolError(f"C compiler {program!r} not found; apt-get install {packages}")
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        raise ToolError(f"{program} took more than {_TIMEOUT_S} s; the policy is too large for this machine") from None
    except OSError as error:
        raise ToolError(f"cannot run C compiler {program!r}: {error.strerror or error}; check $CC") from None
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if "error" in line or "cannot find" in line]
        reason = lines[0] if lines else f"exit code {done.returncode}"
        raise ToolError(f"{program} failed: {reason}; check the compiler's installation, then compile the policy again")
    return done.stdout
