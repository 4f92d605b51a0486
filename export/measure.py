"""What a policy costs on a target: flash, RAM, stack, instructions; all exact except the cycle estimate."""

import re
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from export.check_digest import checked_header
from export.errors import ExportError
from export.flash_parts import flash_parts
from export.observations import c_reference, perturbed_known_observations, range_fractions
from export.sparse_policy import SparsePolicy
from export.squash import Float32
from export.targets.image import build_image, compiler_command, section_sizes, symbol_sizes, target_compiler_version
from export.targets.open_core import Call, Core, open_core
from export.targets.target import Target, find_target

INPUT_LIMIT = 100_000
"""Most inputs at once: an emulated core takes a few milliseconds for each."""
VARYING_INPUTS = 10_000
"""So many are counted where instructions vary: soft float takes longer for some numbers."""
_COUNTED_WITH = re.compile(r"^ \* code .*; counted with (-O\w)$", re.MULTILINE)
_MISS_LIMIT = 1e-3
_SHOWN_FROM = 200
_CODE_SECTIONS = (".text", ".rodata", ".data", ".ARM.exidx")
_MEMORY_SECTIONS = (".data", ".bss")


@dataclass(frozen=True)
class Measurement:
    """Sizes in bytes, all in; instructions of one `policy_step` with a full ring.

    instructions (mean), instructions_max and stack_bytes are None on the host, which counts nothing.
    instructions_are: over how many inputs they are the same, or the largest seen.
    cycles_estimate: None without a model; cycles_are: "estimate", or "exact by simulation" on the AVR. max_error:
    largest difference from the policy's reference over these inputs, as a share of the action range; the reference of
    integers is the float network that they stand for. quantisation_error: what `compile` found integers to differ from
    the float policy, None for floats. does_not_fit: what the reference chip lacks, None when it has room.
    """

    target: str
    chip: str
    flash_bytes: int
    flash_sections: dict[str, int]
    flash_parts: dict[str, int]
    self_test_bytes: int
    ram_bytes: int
    state_bytes: int
    stack_bytes: int | None
    instructions: float | None
    instructions_max: int | None
    instructions_are: str | None
    cycles_estimate: float | None
    cycles_are: str | None
    max_error: float
    quantisation_error: float | None
    inputs: int
    does_not_fit: str | None
    flags: str
    compiler: str


def measure(
    folder: Path,
    policy: SparsePolicy,
    target: str = "cortex-m4f",
    optimisation: str | None = None,
    inputs: int | None = None,
) -> Measurement:
    """Count folder/policy.h on a target over the known answers and `inputs` random observations around them.

    optimisation: unless given, the flag that `compile` counted best, and -O2 where it counted nothing. inputs: unless
    given, none where the known answers all take the same instructions, else 10,000.

    Raises:
        ExportError: unknown target, or the C code misses the reference.
        FileFormatError, MismatchError: policy.h is not what `compile` wrote for this policy.
        ToolError: compiler or emulator is missing or failed.
    """
    wanted, header = find_target(target), checked_header(folder).text
    if optimisation is None:
        found = _COUNTED_WITH.search(header)
        optimisation = found.group(1) if found else "-O2"
    measurement = count(wanted, header, policy, optimisation, inputs or 0)
    if inputs is None and measurement.instructions != measurement.instructions_max:
        return count(wanted, header, policy, optimisation, VARYING_INPUTS)
    return measurement


def count(
    target: Target, header_text: str, policy: SparsePolicy, optimisation: str = "-O2", inputs: int = 0
) -> Measurement:
    """Compile a policy.h for the target, link it, run it on the target's core.

    flash_bytes = text + rodata + data of a firmware that calls policy_step, minus the same firmware with an empty
    function. self_test_bytes: what a firmware pays on top for calling policy_self_test. ram_bytes: initialised data,
    the state and the buffers for one base observation and one action, without the stack.

    Raises:
        ExportError: `inputs` is out of range, or the C code misses the reference.
        ToolError: compiler or emulator is missing or failed.
    """
    if not 0 <= inputs <= INPUT_LIMIT:
        raise ExportError(f"--inputs is {inputs}, expected 0 to {INPUT_LIMIT}; give another")
    observations = np.concatenate([policy.known_observations, perturbed_known_observations(policy, inputs)])
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / "policy.h").write_text(header_text, encoding="utf-8")
        full, tested, harness = (folder / name for name in ("full.elf", "tested.elf", "harness.elf"))
        build_image(target, folder, full, "firmware.c", (optimisation, "-DWITH_POLICY"))
        build_image(target, folder, tested, "firmware.c", (optimisation, "-DWITH_POLICY", "-DWITH_SELF_TEST"))
        build_image(target, folder, harness, "harness.c", (optimisation,))
        empty, bare_symbols = _empty_firmware(target, compiler_command(target), optimisation)
        sizes = section_sizes(full)
        flash, ram = (_grown(sizes, empty, sections) for sections in (_CODE_SECTIONS, _MEMORY_SECTIONS))
        by_section = {name: _grown(sizes, empty, (name,)) for name in _CODE_SECTIONS}
        core = open_core(target, harness)
        calls, max_error = step_calls(core, policy, observations)
        stack = _largest([call.stack_bytes for call in calls])
        instructions = [call.instructions for call in calls if call.instructions is not None]
        cycles = [call.cycles for call in calls if call.cycles is not None]
        return Measurement(
            target=target.name,
            chip=target.chip,
            flash_bytes=flash,
            flash_sections={name: size for name, size in by_section.items() if size},
            flash_parts=flash_parts(symbol_sizes(full), bare_symbols, flash),
            self_test_bytes=_grown(section_sizes(tested), sizes, _CODE_SECTIONS),
            ram_bytes=ram,
            state_bytes=core.call("run_state_size").result,
            stack_bytes=stack,
            instructions=float(np.mean(instructions)) if instructions else None,
            instructions_max=_largest(list(instructions)),
            instructions_are=_instructions_are(instructions),
            cycles_estimate=float(np.mean(cycles)) if cycles else None,
            cycles_are=None if not cycles else "exact by simulation" if target.family == "avr" else "estimate",
            max_error=max_error,
            quantisation_error=None if policy.quantisation is None else policy.quantisation.largest_error,
            inputs=len(calls),
            does_not_fit=_overflow(target, flash, ram + (stack or 0)),
            flags=" ".join((*target.flags, "-std=c11", "-ffp-contract=off", optimisation)),
            compiler=target_compiler_version(target),
        )


@lru_cache(maxsize=64)
def _empty_firmware(target: Target, _compiler: str, optimisation: str) -> tuple[dict[str, int], list[tuple[str, int]]]:
    """Return sections and symbols of the firmware without a policy, the same for all policies of a compiler."""
    with tempfile.TemporaryDirectory() as scratch:
        image = Path(scratch, "empty.elf")
        build_image(target, Path(scratch), image, "firmware.c", (optimisation,))
        return section_sizes(image), symbol_sizes(image)


def _grown(sizes: dict[str, int], without: dict[str, int], sections: tuple[str, ...]) -> int:
    return sum(sizes.get(name, 0) - without.get(name, 0) for name in sections)


def _largest(values: list[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return max(known, default=None)


def _instructions_are(instructions: list[int]) -> str | None:
    if not instructions:
        return None
    same = len(set(instructions)) == 1
    return f"{'the same for' if same else 'largest of'} {len(instructions)} inputs"


def _overflow(target: Target, flash: int, ram: int) -> str | None:
    """Return what the reference chip lacks, in bytes."""
    lacks = [
        f"{used} bytes of {kind}, {used - limit} more than its {limit}"
        for kind, used, limit in (
            ("flash", flash, target.flash_limit_bytes),
            ("RAM with the stack", ram, target.ram_limit_bytes),
        )
        if limit is not None and used > limit
    ]
    return f"does not fit the {target.chip}: {'; '.join(lacks)}" if lacks else None


def step_calls(core: Core, policy: SparsePolicy, observations: Float32) -> tuple[list[Call], float]:
    """Feed stacked observations frame by frame; the counted cost of each last `policy_step`, and the largest error.

    The error is a share of the action range, against the reference: `evaluate`, and for a policy with integer weights
    also the exact actions, which must be met to the bit.

    Raises:
        ExportError: the actions are not the policy's.
    """
    actions_size, base = policy.widths[-1], policy.observation_size // policy.history
    state = core.write(0, np.zeros(core.call("run_state_size").result, np.uint8))
    action_offset = -(-core.call("run_state_size").result // 8) * 8
    action = core.write(action_offset, np.zeros(actions_size, np.float32))
    frames_offset = action_offset + -(-4 * actions_size // 8) * 8
    calls = []
    actions = np.empty((len(observations), actions_size), np.float32)
    for index, observation in enumerate(_shown(observations)):
        frames = core.write(frames_offset, observation)
        core.call("run_frames", state, frames)
        calls.append(core.call("run_step", state, frames + 4 * base * (policy.history - 1), action, count=True))
        actions[index] = core.read_float32(action, (actions_size,))
    max_error = float(np.max(range_fractions(policy, actions, policy.evaluate(observations))))
    # A NaN compares false and so misses.
    met = max_error <= _MISS_LIMIT
    if policy.fixed is not None:
        met = c_reference(policy, observations).tobytes() == actions.tobytes()
    if not met:
        raise ExportError("policy_step on the target misses a known answer; run `python -m export verify --target`")
    return calls, max_error


def _shown(observations: Float32) -> Iterable[Float32]:
    """Yield the rows, with a progress bar where somebody watches and it takes a while."""
    if len(observations) < _SHOWN_FROM or not sys.stderr.isatty():
        return observations
    from rich.console import Console
    from rich.progress import track

    return track(observations, "counting", console=Console(stderr=True), transient=True)
