"""Decoding just enough Thumb-2 to count instructions and to estimate Cortex-M4 cycles (a model, not a measurement).

Costs follow Arm's Cortex-M4 technical reference manual, table 3-1, without wait states and without overlap between
neighbouring loads; a taken branch refills the pipeline in 2 more cycles.
"""

from dataclasses import dataclass

BRANCH_REFILL_CYCLES = 2


@dataclass(frozen=True)
class BlockCost:
    """Instructions and estimated cycles of a straight run of code."""

    instructions: int
    cycles: int


def block_cost(code: bytes) -> BlockCost:
    """Return the cost of running every instruction in `code` once; conditional ones that fail count as well."""
    instructions = cycles = offset = 0
    while offset < len(code):
        first = int.from_bytes(code[offset : offset + 2], "little")
        if first >> 11 in (0b11101, 0b11110, 0b11111):
            second = int.from_bytes(code[offset + 2 : offset + 4], "little")
            cycles += _wide_cycles(first, second)
            offset += 4
        else:
            cycles += _narrow_cycles(first)
            offset += 2
        instructions += 1
    return BlockCost(instructions, cycles)


def _narrow_cycles(code: int) -> int:
    top = code >> 12
    if top in (5, 6, 7, 8, 9) or code >> 11 == 0b01001:
        return 2  # one load or store
    if top == 0xC or (top == 0xB and (code >> 9) & 3 == 2):
        return 1 + (code & 0x1FF).bit_count()  # LDM, STM, PUSH, POP
    return 1


def _wide_cycles(first: int, second: int) -> int:
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
    if first & 0xFFF0 == 0xE8D0 or first & 0xFF80 == 0xFB80:
        return 2  # table branch; long multiply or divide
    return 1
