"""The instructions of an Arm image, as objdump prints them, and what each does to the stack and to the flow."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from hardware.board import ARM
from hardware.build import find_cross
from hardware.errors import ImageError

_LINE = re.compile(r"^\s+([0-9a-f]+):\t(\S+)(?:\t([^@;<]*))?")
_TARGET = re.compile(r"(?:^|, )([0-9a-f]+)\s*$")
_CONDITIONS = "eq|ne|cs|cc|mi|pl|vs|vc|hi|ls|ge|lt|gt|le|hs|lo"
_BRANCH = re.compile(rf"^(b|bl|cbz|cbnz|b({_CONDITIONS})|bl({_CONDITIONS}))(\.[nw])?$")


@dataclass(frozen=True)
class Instruction:
    """One instruction. `target` is where a branch or call with a fixed destination goes."""

    address: int
    mnemonic: str  # without condition and width where that does not matter
    operands: str
    target: int | None

    @property
    def is_call(self) -> bool:
        """A call with a fixed destination."""
        return self.mnemonic in ("bl", "blx") and self.target is not None

    @property
    def is_conditional(self) -> bool:
        """Flow also goes on behind it: a branch with a condition, or whatever an IT block made conditional."""
        return bool(re.search(rf"^(cbn?z|.+?({_CONDITIONS}))$", self.mnemonic)) and not self.mnemonic.startswith("vcmp")

    @property
    def returns(self) -> bool:
        """The function ends here, or may, where it is conditional."""
        loads = self.mnemonic.startswith(("pop", "ldmia", "ldr")) and "pc" in self.operands.split("[")[0]
        to_link = self.operands == "lr" and self.mnemonic.startswith("bx")
        return (loads and self.stack_change < 0) or to_link or self.operands == "pc, lr"

    @property
    def is_computed(self) -> bool:
        """It goes where a register says, and that is no return."""
        to_register = self.mnemonic.startswith(("tb", "bx", "blx")) and self.target is None
        to_counter = self.operands.startswith("pc,") and self.mnemonic.startswith(("mov", "ldr", "add"))
        return (to_register or to_counter) and not self.returns

    @property
    def loads_stack(self) -> bool:
        """The stack starts at an address: where nothing is on it yet, that is a handler that comes back to nobody."""
        return self.mnemonic == "mov" and bool(re.match(r"sp, r\d+$", self.operands))

    @property
    def stack_change(self) -> int:
        """Bytes by which the stack grows; negative where it shrinks. Raises ImageError when that is not fixed."""
        name, operands = self.mnemonic, self.operands
        if name.startswith(("push", "vpush")):
            return _registers(operands)
        if name.startswith(("pop", "vpop")):
            return -_registers(operands)
        if name.startswith(("stmdb", "vstmdb")) and operands.startswith("sp!"):
            return _registers(operands)
        if name.startswith(("ldmia", "vldmia")) and operands.startswith("sp!"):
            return -_registers(operands)
        if found := re.search(r"\[sp, #(-?\d+)\]!", operands):
            return -int(found[1])
        if found := re.search(r"\[sp\], #(-?\d+)", operands):
            return -int(found[1])
        if found := re.match(r"sp, (?:sp, )?#(\d+)\s*$", operands):
            if name.startswith("sub"):
                return int(found[1])
            if name.startswith("add"):
                return -int(found[1])
        if re.match(r"sp\b", operands) and not name.startswith(("cmp", "str", "stm", "tst")):
            raise ImageError(
                f"at {self.address:#x} `{name} {operands}` moves the stack by what only the run knows, "
                "expected constants: no variable-length arrays, no alloca"
            )
        return 0


def _registers(operands: str) -> int:
    """Bytes of a register list such as `{r4-r6, lr}` or `{d8-d9}`."""
    size = 0
    for item in operands[operands.index("{") + 1 : operands.index("}")].split(","):
        first, _, last = item.strip().partition("-")
        count = int(last[1:]) - int(first[1:]) + 1 if last else 1
        size += count * (8 if first.startswith("d") else 4)
    return size


def disassemble(image: Path) -> dict[int, Instruction]:
    """Every instruction by its address. Raises BuildError without the Arm tools, ImageError when they refuse it."""
    command = [find_cross(ARM, "objdump"), "--disassemble", "--no-show-raw-insn", str(image)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ImageError(f"{image} cannot be disassembled ({done.stderr.strip()}); build it again")
    found = {}
    for line in done.stdout.splitlines():
        matched = _LINE.match(line)
        if matched is None or matched[2].startswith((".", "...")):
            continue
        address, mnemonic, operands = int(matched[1], 16), matched[2], (matched[3] or "").strip()
        branch = _BRANCH.match(mnemonic)
        target = _TARGET.search(operands) if branch or mnemonic == "blx" else None
        name = mnemonic.removesuffix(".n").removesuffix(".w")
        found[address] = Instruction(address, name, operands, int(target[1], 16) if target else None)
    return found
