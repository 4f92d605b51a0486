"""policy.h through C compilers: on this machine, under sanitisers, and on the emulated cores."""

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from export.errors import ExportError, MismatchError, ToolError
from export.sparse_policy import SparsePolicy
from export.squash import Float32
from export.targets.image import build_image, target_compiler_version
from export.targets.open_core import open_core, require_core, run_vectors
from export.targets.target import TARGETS, Target
from export.toolchain import STRICT_FLAGS, compiler_version, host_compiler, run_compiler, target_source

_COMPILERS = ("gcc", "clang")
_OPTIMISATIONS = ("-O0", "-O2", "-Os")
_SANITISERS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-g", "-O1")
_TIMEOUT_S = 300


@dataclass(frozen=True)
class CBackend:
    """One way to compile and run policy.h; `compiler` is "" for the target's own."""

    name: str
    target: Target
    optimisation: str = "-O2"
    compiler: str = ""
    sanitised: bool = False


def host_backends(thorough: bool) -> Iterator[CBackend]:
    """Yield this machine's C; with `thorough` gcc and clang at three levels, and one sanitised build."""
    host = TARGETS["host"]
    yield CBackend("C on this machine", host)
    if thorough:
        for compiler in _COMPILERS:
            for optimisation in _OPTIMISATIONS:
                yield CBackend(f"C, {compiler} {optimisation}", host, optimisation, compiler)
        yield CBackend("C, address and undefined-behaviour sanitisers", host, sanitised=True)


def target_backends(names: tuple[str, ...]) -> Iterator[CBackend]:
    """Yield C on each named target; "all" means every one that is not this machine. Raises ExportError: unknown."""
    for name in names:
        if name not in TARGETS and name != "all":
            raise ExportError(f"unknown --target {name!r}, expected all or one of {', '.join(TARGETS)}")
    chosen = [name for name in TARGETS if name != "host"] if "all" in names else list(dict.fromkeys(names))
    for target in (TARGETS[name] for name in chosen):
        if target.family != "host":
            yield CBackend(f"C on {target.title}", target)


def missing_tool(backend: CBackend) -> str:
    """Return why this backend cannot run here, "" when it can."""
    try:
        if backend.compiler:
            compiler_version(backend.compiler, backend.compiler)
        else:
            target_compiler_version(backend.target)
            require_core(backend.target)
    except ToolError as error:
        return str(error)
    return ""


def run_backend(backend: CBackend, folder: Path, scratch: Path, policy: SparsePolicy, observations: Float32) -> Float32:
    """Return the actions of folder/policy.h for stacked observations.

    Raises:
        ToolError: a compiler or emulator is missing or failed.
        MismatchError: the self test fails there.
    """
    if backend.sanitised:
        return _run_sanitised(folder, scratch, policy, observations)
    image = scratch / f"{backend.target.name}{backend.compiler}{backend.optimisation}.elf"
    build_image(backend.target, folder, image, "harness.c", (backend.optimisation,), compiler=backend.compiler)
    core = open_core(backend.target, image)
    if core.call("run_self_test").result != 0:
        raise self_test_fails(folder, backend.target.title)
    return run_vectors(core, observations, policy.widths[-1])


def self_test_fails(folder: Path, machine: str) -> MismatchError:
    """Return the error of a policy.h whose known answers are not met on a machine."""
    where = machine if machine == "this machine" else f"the {machine}"
    return MismatchError(
        f"{folder / 'policy.h'}: self test fails on {where}; compile the student again, then report this"
    )


def _run_sanitised(folder: Path, scratch: Path, policy: SparsePolicy, observations: Float32) -> Float32:
    program = scratch / "sanitised"
    command = [*host_compiler().split(), *STRICT_FLAGS, *_SANITISERS, f"-I{folder}", str(target_source("sanitised.c"))]
    run_compiler([*command, "-o", str(program)], "gcc libc6-dev")
    data = np.ascontiguousarray(observations, np.float32).tobytes()
    # A preloaded library would come before the sanitiser's own.
    clean = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    try:
        done = subprocess.run([program], input=data, capture_output=True, timeout=_TIMEOUT_S, check=False, env=clean)
    except subprocess.TimeoutExpired:
        raise ToolError(f"the sanitised build ran for more than {_TIMEOUT_S} s; use a smaller --count") from None
    if done.returncode == 3:
        raise self_test_fails(folder, "this machine")
    if done.returncode != 0:
        lines = [line for line in done.stderr.decode(errors="replace").splitlines() if "error" in line.lower()]
        reason = lines[0].strip() if lines else f"exit code {done.returncode}"
        raise MismatchError(f"{folder / 'policy.h'}: the sanitised build stops: {reason}; report this with the policy")
    batch, stepped = np.frombuffer(done.stdout, np.float32).reshape(2, len(observations), policy.widths[-1])
    different = np.flatnonzero((batch.view(np.uint32) != stepped.view(np.uint32)).any(axis=1))
    if different.size:
        raise MismatchError(
            f"{folder / 'policy.h'}: policy_step and policy_evaluate differ for {different.size} observations, first "
            f"row {different[0]}; compile the student again, then report this"
        )
    return batch
