"""What generated C costs on an emulated core: linked, weighed against an empty firmware, run, compared with float64."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.export_peers import PeerCode, onnx_bytes
from export.errors import ToolError
from export.squash import Float64
from export.student_file import Student
from export.targets.image import compiler_command, section_sizes
from export.targets.open_core import open_core, run_vectors
from export.targets.target import TARGETS, Target
from export.toolchain import run_compiler, target_source

# As for our own code, but peers are not asked to be free of warnings.
_FLAGS = ("-std=c11", "-ffp-contract=off", "-w")
_CODE_SECTIONS = (".text", ".rodata", ".data", ".ARM.exidx")
_SOURCE = Path(__file__).with_name("peer_image.c")
_PASSES = 30
_ENTRIES = ("run_batch", "run_stacked")
COUNTED = 8
"""Inputs over which instructions are averaged."""
COMPARED = {True: 1_000, False: 100}
"""Inputs over which the error is taken, with and without a float unit: soft float takes 25 times as long to emulate."""


@dataclass(frozen=True)
class Cost:
    """flash, RAM, stack in bytes; instructions of one call, mean and largest; largest error of an action.

    RAM holds the buffers for one stacked observation and one action, and what the generated code keeps; not the stack.
    """

    flash_bytes: int
    ram_bytes: int
    stack_bytes: int
    instructions: float
    instructions_max: int
    max_error: float


def build(target: Target, code: PeerCode | None, inputs: int, output: Path, extra: tuple[str, ...]) -> None:
    """Link peer_image.c with a peer's code; without code the empty firmware.

    Raises:
        ToolError: the compiler is missing or refuses the code.
    """
    command = [*compiler_command(target).split(), *target.flags, *_FLAGS, f"-DOBSERVATION_SIZE={inputs}", *extra]
    if code is not None:
        includes = (code.folder, *code.includes)
        command += ["-DWITH_PEER", *(f"-I{path}" for path in includes), *(f"-D{macro}" for macro in code.macros)]
        command += [str(path) for path in code.sources]
    if target.family == "host":
        command += ["-fPIC", "-shared"]
    else:
        command += [*target.link_flags, f"-T{target_source('memory.ld')}"]
    command += [str(_SOURCE), "-o", str(output)]
    run_compiler([*command, "-lm", *target.libraries], target.packages)


def cost(
    target: Target, code: PeerCode, student: Student, observations: Float64, *, optimisation: str, scratch: Path
) -> Cost:
    """Measure a peer's code on an emulated core; `optimisation`: flags, separated by blanks.

    Raises:
        ToolError: compiler or emulator is missing or failed.
    """
    inputs = student.widths[0]
    full, empty, harness = (scratch / name for name in ("full.elf", "empty.elf", "harness.elf"))
    entries = tuple(f"-Wl,-u,{name}" for name in _ENTRIES)
    build(target, code, inputs, full, tuple(optimisation.split()))
    build(target, None, inputs, empty, tuple(optimisation.split()))
    build(target, code, inputs, harness, (*optimisation.split(), "-DHARNESS", *entries, "-Wl,-e,run_batch"))
    more, less = section_sizes(full), section_sizes(empty)
    flash, ram = (
        sum(more.get(name, 0) - less.get(name, 0) for name in names) for names in (_CODE_SECTIONS, (".data", ".bss"))
    )
    core = open_core(target, harness)
    singles = observations.astype(np.float32)
    actions = run_vectors(core, singles, 1)
    calls = []
    for single in singles[:COUNTED]:
        observation = core.write(0, single)
        calls.append(core.call("run_stacked", observation, core.write(single.nbytes, np.zeros(1)), count=True))
    instructions = [call.instructions for call in calls if call.instructions is not None]
    # A code that leaves its output alone would keep the NaN that is there before.
    error = float(np.abs(actions - student.evaluate(observations)).max())
    if not np.isfinite(error):
        raise ToolError(f"actions are not finite on {target.name}, expected numbers; report it to the generator")
    return Cost(
        flash_bytes=flash,
        ram_bytes=ram,
        stack_bytes=max(call.stack_bytes or 0 for call in calls),
        instructions=float(np.mean(instructions)),
        instructions_max=max(instructions),
        max_error=error,
    )


def onnxruntime_time(student: Student, observations: Float64) -> tuple[float, float]:
    """Return (median microseconds of one `run` from Python, largest error) of onnxruntime on one thread.

    Raises:
        ImportError: onnxruntime or onnx is not installed.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(onnx_bytes(student), options, providers=["CPUExecutionProvider"])
    actions, seconds = [], []
    for single in observations.astype(np.float32):
        inputs = {"observation": single[None]}
        started = time.perf_counter()
        (action,) = session.run(None, inputs)
        seconds.append(time.perf_counter() - started)
        actions.append(action[0])
    error = float(np.abs(np.array(actions) - student.evaluate(observations)).max())
    return float(np.median(seconds)) * 1e6, error


def host_time(code: PeerCode, student: Student, observations: Float64, scratch: Path) -> tuple[float, float]:
    """Return (microseconds of one call, largest error) of generated code on this machine at -O2.

    The least of 30 passes over all observations: what the code takes when nothing else runs.

    Raises:
        ToolError: the compiler is missing or refuses the code.
    """
    target = TARGETS["host"]
    library = scratch / "host.so"
    build(target, code, student.widths[0], library, ("-O2", "-DHARNESS"))
    core = open_core(target, library)
    singles = observations.astype(np.float32)
    error = float(np.abs(run_vectors(core, singles, 1) - student.evaluate(observations)).max())
    inputs = core.write(0, singles)
    actions = core.write(singles.nbytes, np.zeros(len(singles), np.float32))
    passes = []
    for _ in range(_PASSES):
        started = time.perf_counter()
        core.call("run_batch", inputs, actions, len(singles))
        passes.append(time.perf_counter() - started)
    return min(passes) / len(singles) * 1e6, error
