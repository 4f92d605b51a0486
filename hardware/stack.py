"""How deep an image's stack can get: every path through its instructions, libraries included.

The bound is the deepest chain of calls from the reset handler, what the processor pushes for an interrupt, and the
deepest interrupt handler. All interrupts have the same priority, so that none interrupts another; a fault may, and is
counted too.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from hardware.board import Board, Chip
from hardware.disassembly import Instruction, disassemble
from hardware.errors import ImageError

# Eight registers, with a hardware floating-point unit 18 more, and a word that aligns.
_INTEGER_FRAME, _FLOAT_FRAME, _ALIGNMENT = 32, 104, 4
_WORD = 4
_RESET = 1  # place in the vector table
_EXTERNAL = 16
_DEEPEST = 1 << 16  # bytes: more than any of these chips can spare


@dataclass(frozen=True)
class StackUse:
    """Bytes of the deepest stack; `path` names the functions of the deepest chain of calls from reset."""

    main_bytes: int
    interrupt_bytes: int  # with what the processor pushes
    fault_bytes: int  # the same for a fault on top of it all
    path: tuple[str, ...]

    @property
    def total_bytes(self) -> int:
        """Everything at once."""
        return self.main_bytes + self.interrupt_bytes + self.fault_bytes


@dataclass(frozen=True)
class Function:
    """One function: its own deepest stack in bytes, and how deep it is at each call."""

    name: str
    frame_bytes: int
    calls: dict[int, int]  # address: bytes


class Functions:
    """An image's functions, walked when they are asked for."""

    def __init__(self, code: dict[int, Instruction], symbols: dict[int, tuple[str, int]]) -> None:
        self._code = code
        self._next = dict(zip(code, list(code)[1:], strict=False))
        self.symbols = symbols
        self._depths: dict[int, tuple[int, tuple[str, ...]]] = {}

    def function(self, entry: int) -> Function:
        """Walk one function. Raises ImageError for a call through a pointer and for an unknown stack."""
        name, size = self.symbols.get(entry, (f"{entry:#x}", 0))
        depths: dict[int, int] = {}
        calls: dict[int, int] = {}
        jumps: list[int] = []
        waiting = [(entry, 0)]
        while waiting:
            address, depth = waiting.pop()
            if depths.get(address, -1) < depth:
                if address not in self._code or depth > _DEEPEST:
                    raise ImageError(
                        f"{name} gets to {address:#x} with {depth} bytes of stack, expected code "
                        f"and at most {_DEEPEST}: it cannot be followed"
                    )
                depths[address] = depth
                waiting += self._follow(self._code[address], depth, entry, calls, jumps)
            if not waiting and jumps:  # a table's targets are the instructions that nothing else reaches
                left = (at for at in self._code if entry <= at < entry + size and at not in depths)
                waiting += [(at, max(jumps)) for at in islice(left, 1)]
        return Function(name, max(depths.values()), calls)

    def _follow(
        self, instruction: Instruction, depth: int, entry: int, calls: dict[int, int], jumps: list[int]
    ) -> list[tuple[int, int]]:
        """Where the flow goes on, and how deep the stack is there; notes calls and computed jumps."""
        behind = self._next.get(instruction.address)
        target = instruction.target
        anew = depth == 0 and instruction.loads_stack
        after = 0 if anew else depth + instruction.stack_change
        if after < 0:
            raise ImageError(f"at {instruction.address:#x} more is taken from the stack than was put there")
        ends = behind is None or (behind in self.symbols and behind != entry)
        leaves = instruction.is_call or instruction.returns or instruction.is_computed
        if ends and behind is not None and not leaves and (target is None or instruction.is_conditional):
            calls[behind] = max(calls.get(behind, 0), after)  # it runs on into the next function
        # A call that ends a function is one that does not come back.
        onward = [(behind, after)] if behind is not None and not ends else []
        if instruction.returns:
            return [(behind, depth)] if instruction.is_conditional and behind is not None and not ends else []
        if instruction.is_computed:
            if instruction.mnemonic.startswith("bl"):
                raise ImageError(
                    f"at {instruction.address:#x} `{instruction.mnemonic} {instruction.operands}` calls "
                    "through a pointer: nobody knows how deep that goes; call a function by its name"
                )
            jumps.append(depth)
            return []
        if target is None:
            return onward
        if instruction.is_call:
            calls[target] = max(calls.get(target, 0), depth)
            return onward
        if target != entry and target in self.symbols:
            calls[target] = max(calls.get(target, 0), depth)  # a tail call
            return onward if instruction.is_conditional else []
        return [(target, depth), *(onward if instruction.is_conditional else [])]

    def depth(self, entry: int, above: tuple[int, ...] = ()) -> tuple[int, tuple[str, ...]]:
        """Bytes below a function's entry, and the chain that needs them. Raises ImageError for recursion."""
        if entry in above:
            names = [self.symbols.get(at, (f"{at:#x}", 0))[0] for at in (*above[above.index(entry) :], entry)]
            raise ImageError(f"recursion: {' -> '.join(names)}; nobody knows how deep it goes, write a loop")
        if entry not in self._depths:
            function = self.function(entry)
            deepest = function.frame_bytes
            path: tuple[str, ...] = (function.name,)
            for callee, at_call in function.calls.items():
                below, chain = self.depth(callee, (*above, entry))
                if at_call + below > deepest:
                    deepest, path = at_call + below, (function.name, *chain)
            self._depths[entry] = deepest, path
        return self._depths[entry]


def read_functions(image: Path) -> tuple[Functions, list[int]]:
    """The functions of an image, and its vector table. Raises ImageError, BuildError."""
    from elftools.common.exceptions import ELFError
    from elftools.elf.elffile import ELFFile

    try:
        with image.open("rb") as opened:
            elf = ELFFile(opened)
            table = elf.get_section_by_name(".symtab")
            entries = [(symbol.name, symbol.entry) for symbol in table.iter_symbols()] if table else []
            text = elf.get_section_by_name(".text")
            contents, start = (bytes(text.data()), text["sh_addr"]) if text else (b"", 0)
    except (ELFError, OSError) as error:
        raise ImageError(f"{image} cannot be read as an ELF file ({error}); build it again") from error
    symbols = {
        entry["st_value"] & ~1: (name, entry["st_size"])
        for name, entry in entries
        if entry["st_info"]["type"] == "STT_FUNC"
    }
    places = {name: (entry["st_value"] - start, entry["st_size"]) for name, entry in entries if "vectors" in name}
    if "vectors" not in places:
        raise ImageError(
            f"{image} has no vector table, expected an image of a Cortex-M; the stack of others is unknown"
        )
    vectors = []
    for name in ("vectors", "chip_vectors"):
        at, size = places.get(name, (0, 0))
        vectors += [int.from_bytes(contents[at + i : at + i + _WORD], "little") for i in range(0, size, _WORD)]
    return Functions(disassemble(image), symbols), vectors


def stack_use(image: Path, chip: Chip) -> StackUse:
    """The deepest stack of a Cortex-M image. Raises ImageError where that has no bound, BuildError without tools."""
    functions, vectors = read_functions(image)
    frame = _ALIGNMENT + (_FLOAT_FRAME if "-mfloat-abi=hard" in chip.flags else _INTEGER_FRAME)
    main_bytes, path = functions.depth(vectors[_RESET] & ~1)
    faults = {functions.depth(vector & ~1)[0] for vector in vectors[_RESET + 1 : _EXTERNAL] if vector}
    interrupts = {functions.depth(vector & ~1)[0] for vector in vectors[_EXTERNAL:] if vector}
    return StackUse(
        main_bytes,
        frame + max(interrupts) if interrupts else 0,
        frame + max(faults) if faults else 0,
        path,
    )


def stack_bytes(image: Path, board: Board) -> int | None:
    """Bytes of stack that an image needs; None where they are not bounded by the image (host, other processors)."""
    if board.chip is None or not any(flag.startswith("-mcpu=cortex-m") for flag in board.chip.flags):
        return None
    return stack_use(image, board.chip).total_bytes
