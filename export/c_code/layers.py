"""The C function of each layer and its tables."""

import numpy as np

from export.c_code.assembly import CONDITION, assembly, can_assemble
from export.c_code.bodies import BODIES, blocked_values
from export.c_code.dialect import c_type
from export.c_code.layer_tables import LayerTables
from export.c_code.packed_columns import packed_columns
from export.c_code.row_ends import flagged, flagged_columns, run_kind, run_table
from export.c_code.rows import RowWriter


class LayerWriter(RowWriter):
    """Writes the functions policy_layer_N of one network."""

    def tables(self, layer: LayerTables) -> str:
        """Return the constant tables of a layer."""
        shape = self.plan.shapes[layer.index]
        array = self.dialect.array
        name = f"_{layer.index}"
        rows, columns, weights = layer.rows, layer.columns_total, layer.weights
        ends = "; the highest bit of a column ends its row" if shape == "loop" and flagged(layer) else ""
        head = f"/* Layer {layer.index}: {columns} -> {rows}, {weights} weights, {layer.activation}{ends}. */"
        if self.fused_away(layer):
            if self.plan.shapes[layer.index - 1] == "straight":
                return ""
            return "\n".join([head, array(f"policy_values{name}", layer.dense().T.ravel(), layer.kind)])
        parts = [head]
        if shape == "straight":
            if layer.multiplier is not None and not self.last(layer):
                parts.append(array(f"policy_multipliers{name}", layer.multiplier, "int16"))
            return "\n".join(parts) if len(parts) > 1 else ""
        if shape == "blocked":
            parts.append(array(f"policy_values{name}", blocked_values(layer), layer.kind))
        else:
            parts.append(array(f"policy_values{name}", np.concatenate(layer.values), layer.kind))
            if shape == "loop" and flagged(layer):
                parts.append(array(f"policy_columns{name}", flagged_columns(layer), layer.column_kind))
            elif shape == "packed":
                parts.append(array(f"policy_columns{name}", packed_columns(layer), "uint8"))
            elif not layer.full:
                parts.append(array(f"policy_columns{name}", np.concatenate(layer.columns), layer.column_kind))
        if shape == "loop" and not flagged(layer):
            parts.append(array(f"policy_runs{name}", run_table(layer), run_kind(layer)))
        if not self.last(layer):
            parts.append(array(f"policy_biases{name}", layer.bias, layer.bias_kind))
            if layer.multiplier is not None:
                parts.append(array(f"policy_multipliers{name}", layer.multiplier, "int16"))
        return "\n".join(parts)

    def function(self, layer: LayerTables) -> str:
        """Return the function of a layer; empty for a last layer that the one before takes along."""
        if self.fused_away(layer):
            return ""
        body = BODIES[self.plan.shapes[layer.index]](self, layer)
        target = self.sum_type if self.fused(layer) or self.last(layer) else self.value_type
        head = f"POLICY_KERNEL void policy_layer_{layer.index}(const {self.value_type} *x, {target} *y) {{"
        function = _function(head, self._pointers(layer) + body)
        if not self._assembled(layer):
            return function
        table, instructions = assembly(layer, self.layers[-1] if self.fused(layer) else None, self.dialect)
        return f"#if {CONDITION}\n{table}\n{_function(head, instructions)}#else\n{function}#endif\n"

    def _assembled(self, layer: LayerTables) -> bool:
        return (
            self.dialect.float_assembly
            and self.plan.shapes[layer.index] == "straight"
            and not self.last(layer)
            and can_assemble(layer, self.layers[-1] if self.fused(layer) else None)
        )

    def calls(self) -> list[str]:
        """Return the statements of policy_network that leave the last layer's sums in `sums`."""
        widths = [layer.rows for layer in self.layers]
        functions = [layer for layer in self.layers if not self.fused_away(layer)]
        buffers: dict[int, int] = {}
        for index in range(len(functions) - 1):
            buffers[index % 2] = max(buffers.get(index % 2, 0), widths[index])
        names = ("first", "second")
        lines = [f"{self.value_type} {names[which]}[{size}];" for which, size in sorted(buffers.items())]
        source = "x"
        for index, layer in enumerate(functions):
            target = "sums" if index + 1 == len(functions) else names[index % 2]
            lines.append(f"policy_layer_{layer.index}({source}, {target});")
            source = target
        return lines

    def _pointers(self, layer: LayerTables) -> list[str]:
        """Declare what the rows walk along."""
        shape = self.plan.shapes[layer.index]
        lines = []
        if shape not in ("straight", "blocked"):
            lines.append(f"const {c_type(layer.kind)} *w = policy_values_{layer.index};")
            if not layer.full:
                kind = "uint8" if shape == "packed" else layer.column_kind
                lines.append(f"const {c_type(kind)} *c = policy_columns_{layer.index};")
            if not self.last(layer):
                lines.append(f"const {c_type(layer.bias_kind)} *b = policy_biases_{layer.index};")
                if layer.multiplier is not None:
                    lines.append(f"const int16_t *m = policy_multipliers_{layer.index};")
        if self.fused(layer):
            last = self.layers[-1]
            if shape != "straight":
                lines.append(f"const {c_type(last.kind)} *v = policy_values_{last.index};")
            lines += [f"{self.sum_type} o{k} = {self.literal_bias(last, k)};" for k in range(last.rows)]
        return lines


def _function(head: str, body: list[str]) -> str:
    indented = "\n".join(f"    {line}" if line else "" for line in body)
    return f"{head}\n{indented}\n}}\n"
