"""Float layers as straight Thumb-2 assembly: several weights in one load, no store where a value is used at once.

A compiler loads every weight by itself and will not merge a multiplication with an addition where contraction is off;
VMLA rounds both, so it gives the bits of the C beside it.
"""

from collections.abc import Iterator

import numpy as np

from export.c_code.dialect import Dialect
from export.c_code.layer_tables import LayerTables

CONDITION = "defined(__GNUC__) && defined(__thumb2__) && defined(__ARM_FP)"
_REGISTERS = 32
_INPUT_OFFSETS = 256  # floats that VLDR reaches
_OUTPUT_OFFSETS = 256  # floats that STRD reaches
_SMALLEST_BUFFER = 4
_OUTPUTS = 8


def can_assemble(layer: LayerTables, last: LayerTables | None) -> bool:
    """Tell whether a hidden layer (and the last one that it takes along, or None) can be written in assembly."""
    return (
        not layer.fixed
        and layer.activation in ("relu", "identity")
        and layer.columns_total <= _INPUT_OFFSETS
        and (layer.rows <= _OUTPUT_OFFSETS if last is None else last.rows <= _OUTPUTS)
    )


class LayerAssembly:
    """The instructions of one layer and the stream of numbers that they load, in the order of their use.

    Registers: the inputs if they fit, else one for each in turn; two sums; the last layer's sums; a buffer of numbers.
    """

    def __init__(self, layer: LayerTables, last: LayerTables | None) -> None:
        self.layer = layer
        self.last = last
        outputs = 0 if last is None else last.rows
        resident = layer.columns_total + 2 + outputs + _SMALLEST_BUFFER <= _REGISTERS
        self._inputs = list(range(layer.columns_total)) if resident else None
        first = layer.columns_total if resident else 1
        self._loaded = 0
        self._sums = (first, first + 1)
        self._outputs = list(range(first + 2, first + 2 + outputs))
        self._buffer = list(range(first + 2 + outputs, _REGISTERS))
        self._numbers: list[np.float32] = []
        self._lines: list[str] = []

    def write(self) -> tuple[list[str], list[np.float32]]:
        """Return (instructions, numbers)."""
        self._stream = list(self._order())
        self._taken = 0
        if self._inputs is not None:
            self._lines.append(f"vldmia %[x], {{s0-s{self._inputs[-1]}}}")
        for register in self._outputs:
            self._lines.append(f"vmov.f32 s{register}, s{self._next()}")
        rows = list(range(self.layer.rows))
        for pair in (rows[start : start + 2] for start in range(0, len(rows), 2)):
            for row, total in zip(pair, self._sums, strict=False):
                self._row(row, total)
            self._finish(pair)
        for place, register in enumerate(self._outputs):
            self._lines.append(f"vstr s{register}, [%[y], #{4 * place}]")
        return self._lines, self._stream

    def _order(self) -> Iterator[np.float32]:
        """Yield every number in the order of its use."""
        dense = None if self.last is None else self.last.dense()
        if self.last is not None:
            yield from self.last.bias
        for start in range(0, self.layer.rows, 2):
            pair = range(start, min(start + 2, self.layer.rows))
            for row in pair:
                yield from self.layer.values[row]
                yield self.layer.bias[row]
            if dense is not None:
                for row in pair:
                    yield from (value for value in dense[:, row] if value != 0)

    def _next(self) -> int:
        """Return the register that holds the next number; load as many as the buffer takes when it is used up."""
        place = self._taken % len(self._buffer)
        if place == 0:
            count = min(len(self._buffer), len(self._stream) - self._taken)
            names = f"s{self._buffer[0]}" if count == 1 else f"s{self._buffer[0]}-s{self._buffer[count - 1]}"
            self._lines.append(f"vldmia %[w]!, {{{names}}}")
        self._taken += 1
        return self._buffer[place]

    def _row(self, row: int, total: int) -> None:
        for position, column in enumerate(self.layer.columns[row]):
            weight = self._next()
            if self._inputs is not None:
                value = self._inputs[column]
            else:
                value = self._loaded
                self._lines.append(f"vldr s{value}, [%[x], #{4 * column}]")
            self._lines.append(f"{'vmla' if position else 'vmul'}.f32 s{total}, s{weight}, s{value}")
        self._lines.append(f"vadd.f32 s{total}, s{total}, s{self._next()}")

    def _finish(self, pair: list[int]) -> None:
        """Two rows at once: their sums to core registers, negative ones to 0, and on."""
        both = len(pair) == 2
        first, second = self._sums
        relu = self.layer.activation == "relu"
        if relu:
            self._lines.append(f"vmov %[a], %[b], s{first}, s{second}" if both else f"vmov %[a], s{first}")
            self._lines += [f"bic %[{name}], %[{name}], %[{name}], asr #31" for name in ("ab" if both else "a")]
        if self.last is None:
            place = 4 * pair[0]
            if relu:
                store = f"strd %[a], %[b], [%[y], #{place}]" if both else f"str %[a], [%[y], #{place}]"
                self._lines.append(store)
            else:
                self._lines += [
                    f"vstr s{total}, [%[y], #{4 * row}]" for row, total in zip(pair, self._sums, strict=False)
                ]
            return
        if relu:
            self._lines.append(f"vmov s{first}, s{second}, %[a], %[b]" if both else f"vmov s{first}, %[a]")
        dense = self.last.dense()
        for row, total in zip(pair, self._sums, strict=False):
            for register, value in zip(self._outputs, dense[:, row], strict=True):
                if value != 0:
                    self._lines.append(f"vmla.f32 s{register}, s{self._next()}, s{total}")


def assembly(layer: LayerTables, last: LayerTables | None, dialect: Dialect) -> tuple[str, list[str]]:
    """Return (the table of its numbers, the lines of the body) of a layer in assembly."""
    lines, numbers = LayerAssembly(layer, last).write()
    name = f"policy_values_{layer.index}"
    used = ", ".join(f'"s{register}"' for register in range(_REGISTERS))
    body = [
        f"const float *w = {name};",
        "uint32_t a, b;",
        "__asm__ volatile(",
        *(f'    "{line}\\n\\t"' for line in lines),
        '    : [w] "+r"(w), [a] "=&r"(a), [b] "=&r"(b)',
        '    : [x] "r"(x), [y] "r"(y)',
        f'    : "memory", {used});',
    ]
    return dialect.array(name, np.array(numbers, np.float32)), body
