"""What one row of a layer is in C: its terms, its bias, and what becomes of its sum."""

import numpy as np

from export.c_code.dialect import Dialect, number
from export.c_code.layer_tables import LayerTables
from export.c_code.plan import Plan


class RowWriter:
    """Writes the rows of one network as its plan and the processor ask."""

    def __init__(self, layers: tuple[LayerTables, ...], plan: Plan, dialect: Dialect) -> None:
        self.layers = layers
        self.plan = plan
        self.dialect = dialect
        fixed = layers[0].fixed
        self.sum_type = "int32_t" if fixed else "float"
        self.value_type = "int16_t" if fixed else "float"

    def last(self, layer: LayerTables) -> bool:
        """Tell whether the layer's sums are the network's outputs."""
        return layer.index + 1 == len(self.layers)

    def fused(self, layer: LayerTables) -> bool:
        """Tell whether the layer takes the last one along."""
        return self.plan.fused and layer.index + 2 == len(self.layers)

    def fused_away(self, layer: LayerTables) -> bool:
        """Tell whether the layer before takes this one along."""
        return self.plan.fused and self.last(layer)

    def literal_bias(self, layer: LayerTables, row: int) -> str:
        """Return the bias of one row as a number in the sums' unit."""
        if layer.fixed:
            return number(int(layer.bias[row]) << layer.bias_shift, "int32")
        return number(layer.bias[row])

    def bias(self, layer: LayerTables, place: int | None = None) -> str:
        """Return the bias of the next row, or of the one `place` rows on, as an expression."""
        table, output = ("*b", "*y") if place is None else (f"b[{place}]", f"y[{place}]")
        if self.last(layer):
            return output  # where the caller left it
        read = self.dialect.read(layer.bias_kind, table)
        return f"(int32_t){read} * {1 << layer.bias_shift}" if layer.bias_shift else read

    @staticmethod
    def times(layer: LayerTables, weight: str, value: str) -> str:
        """Return a weight times a value, exact in the sums' type."""
        return f"(int32_t){weight} * {value}" if layer.fixed else f"{weight} * {value}"

    def finish(self, layer: LayerTables, row: int | None = None) -> list[str]:
        """Return what becomes of the sum `s` of the next row, or of `row`, whose numbers are then in the code."""
        if self.last(layer):
            return ["*y++ = s;" if row is None else f"y[{row}] = s;"]
        value = self._activation(layer, row)
        if not self.fused(layer):
            store = f"({self.value_type})({value})" if layer.fixed else value
            return [f"*y++ = {store};" if row is None else f"y[{row}] = {store};"]
        last = self.layers[-1]
        lines = [f"const {self.sum_type} h = {value};"]
        dense = last.dense()
        for k in range(last.rows):
            if row is None:
                weight = self.dialect.read(last.kind, f"v[{k}]")
                lines.append(f"o{k} += {self.times(last, weight, 'h')};")
            elif dense[k, row] != 0:
                lines.append(f"o{k} += {self.times(last, number(dense[k, row], last.kind), 'h')};")
        if row is None:
            lines.append(f"v += {last.rows};")
        return lines

    def _activation(self, layer: LayerTables, row: int | None) -> str:
        if not layer.fixed:
            return {"relu": "policy_relu(s)", "tanh": "policy_tanh(s)", "identity": "s"}[layer.activation]
        if layer.activation == "tanh":
            multiplier = self.dialect.read("int16", "*m" if row is None else f"policy_multipliers_{layer.index}[{row}]")
            return f"policy_tanh({self.argument(layer, 's', multiplier)})"
        value = "(s & ~(s >> 31))" if layer.activation == "relu" else "s"
        return f"{value} >> {layer.shift}" if layer.shift else value

    @staticmethod
    def argument(layer: LayerTables, value: str, multiplier: str) -> str:
        """Return the argument of tanh or the clip for a sum."""
        shifted = f"{value} >> {layer.shift}" if layer.shift else value
        return f"((policy_limited({shifted}, 32767) * {multiplier}) >> {layer.multiplier_shift})"

    def epilogue(self, layer: LayerTables) -> list[str]:
        """Return what follows the last row."""
        if self.fused(layer):
            return [f"y[{k}] = o{k};" for k in range(self.layers[-1].rows)]
        return []

    def advance(self, layer: LayerTables) -> list[str]:
        """Return the steps to the next row's bias and multiplier."""
        if self.last(layer):
            return []
        return ["++b;"] + (["++m;"] if layer.multiplier is not None and layer.activation == "tanh" else [])

    def place(self, layer: LayerTables, offset: int | None) -> str:
        """Return the value that a weight multiplies: by its column, or next to the one before in a full row."""
        if layer.full:
            return "*p++" if offset is None else f"p[{offset}]"
        column = self.dialect.read(layer.column_kind, "*c" if offset is None else f"c[{offset}]")
        return f"x[{column}]"

    def row_start(self, layer: LayerTables) -> str:
        """Return the declaration of the sum `s` of the next row."""
        return f"{self.sum_type} s = {self.bias(layer) if layer.bias_first else number(np.float32(0))};"

    def row_end(self, layer: LayerTables) -> list[str]:
        """Return what follows the last term of the next row."""
        added = [] if layer.bias_first else [f"s += {self.bias(layer)};"]
        return added + self.finish(layer) + self.advance(layer)
