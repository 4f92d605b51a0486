"""Decoding just enough of Thumb and RISC-V to count instructions and to estimate cycles (a model, not a measurement).

Costs follow Arm's technical reference manuals, table 3-1 of the Cortex-M0+, M3 and M4, without wait states and without
overlap between neighbouring loads; a taken branch adds what refilling the pipeline takes. The dual-issue M7 and RISC-V,
which is many different cores, have no model.
"""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class BlockCost:
    """Instructions and estimated cycles (0 without a model) of a straight run of code."""

    instructions: int
    cycles: int


@dataclass(frozen=True)
class CycleModel:
    """The core whose table is used, and the cycles that a taken branch adds to its own."""

    core: Literal["m0plus", "m3", "m4"]
    refill_cycles: int


_MODELS = {
    "cortex-m0plus": CycleModel("m0plus", 1),
    "cortex-m3": CycleModel("m3", 2),
    "cortex-m4f": CycleModel("m4", 2),
}


def cycle_model(target: str) -> CycleModel | None:
    """Return the model of a target, None where there is none."""
    return _MODELS.get(target)


def block_cost(code: bytes, thumb: bool, model: CycleModel | None) -> BlockCost:
    """Return the cost of running every instruction in `code` once; conditional ones that fail count as well."""
    instructions = cycles = offset = 0
    while offset < len(code):
        first = int.from_bytes(code[offset : offset + 2], "little")
        wide = first >> 11 in (0b11101, 0b11110, 0b11111) if thumb else first & 3 == 3
        if model and wide:
            cycles += _wide_cycles(first, int.from_bytes(code[offset + 2 : offset + 4], "little"), model)
        elif model:
            cycles += _narrow_cycles(first, model)
        offset += 4 if wide else 2
        instructions += 1
    return BlockCost(instructions, cycles)


def _narrow_cycles(code: int, model: CycleModel) -> int:
    top = code >> 12
    if top in (5, 6, 7, 8, 9) or code >> 11 == 0b01001:
        return 2  # one load or store
    if top == 0xC or (top == 0xB and (code >> 9) & 3 == 2):
        returns = model.core == "m0plus" and code >> 8 == 0xBD
        return 1 + (code & 0x1FF).bit_count() + returns  # LDM, STM, PUSH, POP
    return 1


def _wide_cycles(first: int, second: int, model: CycleModel) -> int:
    if model.core == "m0plus":
        return 2  # BL; MSR, MRS and barriers are no part of a policy
    coprocessor = first & 0xEC00 == 0xEC00 and (second >> 9) & 7 == 0b101
    if coprocessor and first & 0xFF00 != 0xEE00:
        single = first & 0xFF00 == 0xED00 and not first & 0x20
        return 2 if single else 1 + (second & 0xFF)  # VLDR/VSTR; VLDM, VSTM, VPUSH, VPOP
    if coprocessor:
        divides = first & 0xFFB0 == 0xEE80
        roots = first & 0xFFBF == 0xEEB1 and second & 0x0FD0 == 0x0AC0
        if divides or roots:
            return 14
        # VMLA, VMLS, VNMLA, VNMLS and the fused forms.
        return 3 if first & 0xFFB0 in (0xEE00, 0xEE10, 0xEE90, 0xEEA0) and second & 0x0010 == 0 else 1
    if first & 0xFE40 == 0xE800:
        return 1 + second.bit_count()  # LDM.W, STM.W
    if first & 0xFE50 in (0xE840, 0xE850):
        return 3  # LDRD, STRD
    if first & 0xFE00 == 0xF800:
        return 2  # LDR.W, STR.W and the byte and halfword forms
    if model.core == "m3" and first & 0xFFF0 == 0xFB00 and second >> 12 != 0xF:
        return 2  # MLA, MLS
    if model.core == "m3" and first & 0xFF90 == 0xFB80:
        return 4  # long multiply: 3 to 5
    if first & 0xFFF0 == 0xE8D0 or first & 0xFF80 == 0xFB80:
        return 2  # table branch; long multiply or divide
    return 1
