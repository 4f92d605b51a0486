"""What a policy costs on a Cortex-M4F: flash, RAM, stack, instructions; all exact except the cycle estimate."""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from export.emulated_core import Call, EmulatedCore
from export.errors import ExportError
from export.sparse_policy import SparsePolicy
from export.toolchain import CORE_FLAGS, CROSS_COMPILER, build_core_image, compiler_version

TARGETS = ("cortex-m4f",)
_CODE_SECTIONS = (".text", ".rodata", ".data", ".ARM.exidx")
_PARTS = {
    "policy_values_": "values",
    "policy_weights_": "values",
    "policy_columns_": "indices",
    "policy_counts_": "row_pointers",
    "policy_biases_": "biases",
    "policy_centre": "normaliser",
    "policy_layer_": "tables",
    "policy_action_": "tables",
    "policy_digest": "tables",
    "policy_known_": "tables",
    "policy_self_": "tables",
    "policy_tanh": "tanh",
    "policy_": "code",
    "reset_handler": "code",
    **dict.fromkeys(("__ieee754_", "__math_", "exp", "log", "pow", "sqrt", "tanh", "sin", "cos", "tan"), "libm"),
}


@dataclass(frozen=True)
class Measurement:
    """Sizes in bytes, all in; instructions of one `policy_step` with a full ring over the known answers."""

    target: str
    flash_bytes: int
    flash_parts: dict[str, int]
    self_test_bytes: int
    ram_bytes: int
    stack_bytes: int
    instructions: float
    instructions_max: int
    cycles_estimate: float
    inputs: int
    flags: str
    compiler: str


def measure(folder: Path, policy: SparsePolicy, target: str = "cortex-m4f", optimisation: str = "-O2") -> Measurement:
    """Compile folder/policy.h for the target, link it, run it on the emulated core.

    flash_bytes = text + rodata + data of a firmware that calls policy_step, minus the same firmware with an empty
    function. self_test_bytes: what a firmware pays on top for calling policy_self_test. ram_bytes: the state and the
    buffers for one base observation and one action, without the stack.

    Raises:
        ExportError: unknown target.
        ToolError: compiler or emulator is missing or failed.
    """
    if target not in TARGETS:
        raise ExportError(f"unknown --target {target!r}, expected one of {', '.join(TARGETS)}")
    with tempfile.TemporaryDirectory() as scratch:
        names = ("full.elf", "empty.elf", "tested.elf", "harness.elf")
        full, empty, tested, harness = (Path(scratch, name) for name in names)
        build_core_image(folder, full, "firmware.c", (optimisation, "-DWITH_POLICY"))
        build_core_image(folder, empty, "firmware.c", (optimisation,))
        build_core_image(folder, tested, "firmware.c", (optimisation, "-DWITH_POLICY", "-DWITH_SELF_TEST"))
        build_core_image(folder, harness, "harness.c", (optimisation,))
        sizes, empty_sizes = section_sizes(full), section_sizes(empty)
        flash = sum(sizes.get(name, 0) - empty_sizes.get(name, 0) for name in _CODE_SECTIONS)
        ram = sum(sizes.get(name, 0) - empty_sizes.get(name, 0) for name in (".data", ".bss"))
        calls = step_calls(EmulatedCore(harness), policy)
        return Measurement(
            target=target,
            flash_bytes=flash,
            flash_parts=flash_parts(full, flash),
            self_test_bytes=sum(section_sizes(tested).get(name, 0) - sizes.get(name, 0) for name in _CODE_SECTIONS),
            ram_bytes=ram,
            stack_bytes=max(call.stack_bytes for call in calls),
            instructions=float(np.mean([call.instructions for call in calls])),
            instructions_max=max(call.instructions for call in calls),
            cycles_estimate=float(np.mean([call.cycles for call in calls])),
            inputs=len(calls),
            flags=" ".join((*CORE_FLAGS, "-std=c11", "-ffp-contract=off", optimisation)),
            compiler=compiler_version(CROSS_COMPILER),
        )


def step_calls(core: EmulatedCore, policy: SparsePolicy) -> list[Call]:
    """Feed every known observation frame by frame and return the counted cost of its last `policy_step`."""
    base = policy.observation_size // policy.history
    state = core.write(0, np.zeros(policy.observation_size + 1, np.float32))
    action = core.write(4 * policy.observation_size + 64, np.zeros(policy.widths[-1], np.float32))
    frames_offset = 4 * (policy.observation_size + policy.widths[-1]) + 128
    calls = []
    for observation, expected in zip(policy.known_observations, policy.known_actions, strict=True):
        frames = core.write(frames_offset, observation)
        core.call("run_reset", state)
        for index in range(policy.history - 1):
            core.call("run_observe", state, frames + 4 * base * index)
        calls.append(core.call("run_step", state, frames + 4 * base * (policy.history - 1), action, count=True))
        error = np.abs(core.read_float32(action, expected.shape).astype(np.float64) - expected)
        if not (error <= 1e-3 * (policy.action_high.astype(np.float64) - policy.action_low)).all():
            raise ExportError("policy_step on the emulated core misses a known answer; run `python -m export verify`")
    return calls


def section_sizes(image: Path) -> dict[str, int]:
    """Return the size of every section of an ELF that occupies memory."""
    from elftools.elf.elffile import ELFFile

    with image.open("rb") as stream:
        sections: Any = ELFFile(stream).iter_sections()
        return {section.name: section["sh_size"] for section in sections if section["sh_flags"] & 2}


def flash_parts(image: Path, flash: int) -> dict[str, int]:
    """Return the bytes of each part of an image by its symbols' names; what no name explains of `flash` comes last."""
    from elftools.elf.elffile import ELFFile

    parts = dict.fromkeys((*_PARTS.values(), "library_and_alignment"), 0)
    with image.open("rb") as stream:
        for symbol in ELFFile(stream).get_section_by_name(".symtab").iter_symbols():
            part = next((part for prefix, part in _PARTS.items() if symbol.name.startswith(prefix)), None)
            if part is not None and symbol["st_info"]["type"] in ("STT_FUNC", "STT_OBJECT"):
                parts[part] += symbol["st_size"]
    parts["library_and_alignment"] = flash - sum(parts.values())
    return parts
