"""The C function of each layer: tables, rows, and what becomes of a row's sum."""

from collections.abc import Iterator

import numpy as np

from export.c_code.assembly import CONDITION, assembly, can_assemble
from export.c_code.dialect import Dialect, c_type, number
from export.c_code.layer_tables import LayerTables
from export.c_code.packed_columns import field_bits, packed_columns
from export.c_code.plan import Plan

_BARRIER = 3  # terms of a float row; then loads wait, or compilers load all of them first and run out of registers
_UNROLLED = 8  # weights of a row written out; longer rows loop over so many
_BLOCK = 8


class LayerWriter:
    """Writes the functions policy_layer_N of one network."""

    def __init__(self, layers: tuple[LayerTables, ...], plan: Plan, dialect: Dialect) -> None:
        self.layers = layers
        self.plan = plan
        self.dialect = dialect
        fixed = layers[0].fixed
        self.sum_type = "int32_t" if fixed else "float"
        self.value_type = "int16_t" if fixed else "float"

    def tables(self, layer: LayerTables) -> str:
        """Return the constant tables of a layer."""
        shape = self.plan.shapes[layer.index]
        array = self.dialect.array
        name = f"_{layer.index}"
        rows, columns, weights = layer.rows, layer.columns_total, layer.weights
        flagged = "; the highest bit of a column ends its row" if shape == "loop" and self._flagged(layer) else ""
        head = f"/* Layer {layer.index}: {columns} -> {rows}, {weights} weights, {layer.activation}{flagged}. */"
        if self._fused_away(layer):
            if self.plan.shapes[layer.index - 1] == "straight":
                return ""
            return "\n".join([head, array(f"policy_values{name}", layer.dense().T.ravel(), layer.kind)])
        parts = [head]
        if shape == "straight":
            if layer.multiplier is not None and not self._last(layer):
                parts.append(array(f"policy_multipliers{name}", layer.multiplier, "int16"))
            return "\n".join(parts) if len(parts) > 1 else ""
        if shape == "blocked":
            parts.append(array(f"policy_values{name}", _blocked(layer), layer.kind))
        else:
            parts.append(array(f"policy_values{name}", np.concatenate(layer.values), layer.kind))
            if shape == "loop" and self._flagged(layer):
                parts.append(array(f"policy_columns{name}", _flagged_columns(layer), layer.column_kind))
            elif shape == "packed":
                parts.append(array(f"policy_columns{name}", packed_columns(layer), "uint8"))
            elif not layer.full:
                parts.append(array(f"policy_columns{name}", np.concatenate(layer.columns), layer.column_kind))
        if shape == "loop" and not self._flagged(layer):
            parts.append(array(f"policy_runs{name}", self._run_table(layer), self._run_kind(layer)))
        if not self._last(layer):
            parts.append(array(f"policy_biases{name}", layer.bias, layer.bias_kind))
            if layer.multiplier is not None:
                parts.append(array(f"policy_multipliers{name}", layer.multiplier, "int16"))
        return "\n".join(parts)

    def function(self, layer: LayerTables) -> str:
        """Return the function of a layer; empty for a last layer that the one before takes along."""
        if self._fused_away(layer):
            return ""
        body = {
            "packed": self._packed,
            "loop": self._loop,
            "unrolled": self._unrolled,
            "blocked": self._blocked,
            "straight": self._straight,
        }[self.plan.shapes[layer.index]](layer)
        target = self.sum_type if self._fused(layer) or self._last(layer) else self.value_type
        head = f"POLICY_KERNEL void policy_layer_{layer.index}(const {self.value_type} *x, {target} *y) {{"
        function = _function(head, self._pointers(layer) + body)
        if not self._assembled(layer):
            return function
        table, instructions = assembly(layer, self.layers[-1] if self._fused(layer) else None, self.dialect)
        return f"#if {CONDITION}\n{table}\n{_function(head, instructions)}#else\n{function}#endif\n"

    def _assembled(self, layer: LayerTables) -> bool:
        return (
            self.dialect.float_assembly
            and self.plan.shapes[layer.index] == "straight"
            and not self._last(layer)
            and can_assemble(layer, self.layers[-1] if self._fused(layer) else None)
        )

    def calls(self) -> list[str]:
        """Return the statements of policy_network that leave the last layer's sums in `sums`."""
        widths = [layer.rows for layer in self.layers]
        functions = [layer for layer in self.layers if not self._fused_away(layer)]
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

    def _last(self, layer: LayerTables) -> bool:
        return layer.index + 1 == len(self.layers)

    def _fused(self, layer: LayerTables) -> bool:
        return self.plan.fused and layer.index + 2 == len(self.layers)

    def _fused_away(self, layer: LayerTables) -> bool:
        return self.plan.fused and self._last(layer)

    def _run_kind(self, layer: LayerTables) -> str:
        return "uint8" if max(count for _, _, count in layer.runs()) <= 255 else "uint16"

    def _run_table(self, layer: LayerTables) -> np.ndarray:
        """Pairs (rows, weights of each); a run of more rows than a number holds is split."""
        most = 255 if self._run_kind(layer) == "uint8" else 65535
        pairs = []
        for _, rows, count in layer.runs():
            for start in range(0, rows, most):
                pairs.append((min(most, rows - start), count))
        return np.array(pairs, np.int64).ravel()

    def _pointers(self, layer: LayerTables) -> list[str]:
        """Declare what the rows walk along."""
        shape = self.plan.shapes[layer.index]
        lines = []
        if shape not in ("straight", "blocked"):
            lines.append(f"const {c_type(layer.kind)} *w = policy_values_{layer.index};")
            if not layer.full:
                kind = "uint8" if shape == "packed" else layer.column_kind
                lines.append(f"const {c_type(kind)} *c = policy_columns_{layer.index};")
            if not self._last(layer):
                lines.append(f"const {c_type(layer.bias_kind)} *b = policy_biases_{layer.index};")
                if layer.multiplier is not None:
                    lines.append(f"const int16_t *m = policy_multipliers_{layer.index};")
        if self._fused(layer):
            last = self.layers[-1]
            if shape != "straight":
                lines.append(f"const {c_type(last.kind)} *v = policy_values_{last.index};")
            lines += [f"{self.sum_type} o{k} = {self.literal_bias(last, k)};" for k in range(last.rows)]
        return lines

    def literal_bias(self, layer: LayerTables, row: int) -> str:
        """Return the bias of one row as a number in the sums' unit."""
        if layer.fixed:
            return number(int(layer.bias[row]) << layer.bias_shift, "int32")
        return number(layer.bias[row])

    def _bias(self, layer: LayerTables, row: int | None) -> str:
        """The bias as an expression: the next of the table, or (row) its number."""
        if row is not None:
            return self.literal_bias(layer, row)
        read = self.dialect.read(layer.bias_kind, "*b")
        if not layer.fixed:
            return read
        return f"(int32_t){read} * {1 << layer.bias_shift}" if layer.bias_shift else read

    def _bias_first(self, layer: LayerTables) -> bool:
        """Floats add it last: folded normalisers make it large, and a sum rounds at its own size until then."""
        return layer.fixed

    def _times(self, layer: LayerTables, weight: str, value: str) -> str:
        return f"(int32_t){weight} * {value}" if layer.fixed else f"{weight} * {value}"

    def _finish(self, layer: LayerTables, row: int | None = None) -> list[str]:
        """What becomes of the sum `s` of a row."""
        if self._last(layer):
            return ["*y++ = s;" if row is None else f"y[{row}] = s;"]
        value = self._activation(layer, row)
        if not self._fused(layer):
            store = f"({self.value_type})({value})" if layer.fixed else value
            return [f"*y++ = {store};" if row is None else f"y[{row}] = {store};"]
        last = self.layers[-1]
        lines = [f"const {self.sum_type} h = {value};"]
        dense = last.dense()
        for k in range(last.rows):
            if row is None:
                weight = self.dialect.read(last.kind, f"v[{k}]")
                lines.append(f"o{k} += {self._times(last, weight, 'h')};")
            elif dense[k, row] != 0:
                lines.append(f"o{k} += {self._times(last, number(dense[k, row], last.kind), 'h')};")
        if row is None:
            lines.append(f"v += {last.rows};")
        return lines

    def _activation(self, layer: LayerTables, row: int | None) -> str:
        if not layer.fixed:
            return {"relu": "policy_relu(s)", "tanh": "policy_tanh(s)", "identity": "s"}[layer.activation]
        if layer.activation == "tanh":
            multiplier = self.dialect.read("int16", "*m" if row is None else f"policy_multipliers_{layer.index}[{row}]")
            return f"policy_limited(policy_tanh({self.argument(layer, 's', multiplier)}), 32767)"
        value = "(s & ~(s >> 31))" if layer.activation == "relu" else "s"
        return f"{value} >> {layer.shift}" if layer.shift else value

    @staticmethod
    def argument(layer: LayerTables, value: str, multiplier: str) -> str:
        """Return the argument of tanh or the clip for a sum."""
        shifted = f"{value} >> {layer.shift}" if layer.shift else value
        return f"((policy_limited({shifted}, 32767) * {multiplier}) >> {layer.multiplier_shift})"

    def _epilogue(self, layer: LayerTables) -> list[str]:
        if self._fused(layer):
            return [f"y[{k}] = o{k};" for k in range(self.layers[-1].rows)]
        return []

    def _advance(self, layer: LayerTables) -> list[str]:
        """Step to the next row's bias and multiplier."""
        if self._last(layer):
            return []
        return ["++b;"] + (["++m;"] if layer.multiplier is not None and layer.activation == "tanh" else [])

    def _sum(self, layer: LayerTables, terms: list[str], row: int | None) -> Iterator[str]:
        """Add up `terms` with the bias in its place."""
        biased = self._bias(layer, row) if not (self._last(layer) and row is None) else None
        assert biased is not None
        if self._bias_first(layer):
            yield f"{self.sum_type} s = {biased};"
        else:
            yield f"{self.sum_type} s = {terms[0]};"
            terms = terms[1:]
        for term in terms:
            yield f"s += {term};"
        if not self._bias_first(layer):
            yield f"s += {biased};"

    def _place(self, layer: LayerTables, offset: int | None) -> str:
        """The value that a weight multiplies: by its column, or next to the one before in a full row."""
        if layer.full:
            return "*p++" if offset is None else f"p[{offset}]"
        column = self.dialect.read(layer.column_kind, "*c" if offset is None else f"c[{offset}]")
        return f"x[{column}]"

    @staticmethod
    def _flagged(layer: LayerTables) -> bool:
        """Whether a column leaves a bit free to say that it is the last of its row."""
        return not layer.full and (layer.columns_total <= 128 or 256 < layer.columns_total <= 2**15)

    def _loop(self, layer: LayerTables) -> list[str]:
        inner = self._flagged_rows(layer) if self._flagged(layer) else self._counted_rows(layer)
        return inner + self._epilogue(layer)

    def _row_start(self, layer: LayerTables) -> str:
        first = self._bias_first(layer)
        bias = "*y" if self._last(layer) else self._bias(layer, None)
        return f"{self.sum_type} s = {bias if first else number(np.float32(0))};"

    def _row_end(self, layer: LayerTables) -> list[str]:
        bias = "*y" if self._last(layer) else self._bias(layer, None)
        added = [] if self._bias_first(layer) else [f"s += {bias};"]
        return added + self._finish(layer) + self._advance(layer)

    def _flagged_rows(self, layer: LayerTables) -> list[str]:
        """Rows end where a column has its highest bit set: no counts, few registers."""
        kind = layer.column_kind
        flag = 128 if kind == "uint8" else 2**15
        weight = self.dialect.read(layer.kind, "*w")
        return [
            "do {",
            f"    {self._row_start(layer)}",
            f"    {c_type(kind)} column;",
            "    do {",
            f"        column = {self.dialect.read(kind, '*c')};",
            "        ++c;",
            f"        s += {self._times(layer, weight, f'x[column & {flag - 1}u]')};",
            "        ++w;",
            f"    }} while (column < {flag}u);",
            *(f"    {line}" for line in self._row_end(layer)),
            f"}} while (c != policy_columns_{layer.index} + {layer.weights});",
        ]

    def _packed(self, layer: LayerTables) -> list[str]:
        """The next column is a distance on from the last; one beyond the row's end is in the next row."""
        bits = field_bits(layer)
        mask = 2**bits - 1
        low, high = (self.dialect.read("uint8", f"c[{place}]") for place in ("n >> 3", "(n >> 3) + 1u"))
        advance = [
            "uint_fast16_t field;",
            "do {",
            f"    field = ((((uint_fast16_t){high} << 8) | {low}) >> (n & 7u)) & {mask}u;",
            f"    n += {bits};",
            "    column += field;",
            f"}} while (field == {mask}u);",
        ]
        weight = self.dialect.read(layer.kind, "*w")
        return [
            "uint_fast16_t n = 0u;",
            f"uint_fast16_t column = {int(layer.columns[0][0])}u;",
            "do {",
            f"    {self._row_start(layer)}",
            "    do {",
            f"        s += {self._times(layer, weight, 'x[column]')};",
            "        ++w;",
            *(f"        {line}" for line in advance),
            f"    }} while (column < {layer.columns_total}u);",
            f"    column -= {layer.columns_total}u;",
            *(f"    {line}" for line in self._row_end(layer)),
            f"}} while (w != policy_values_{layer.index} + {layer.weights});",
            *self._epilogue(layer),
        ]

    def _counted_rows(self, layer: LayerTables) -> list[str]:
        """Runs of rows, each with its number of rows and of weights in a row."""
        kind = self._run_kind(layer)
        table = self._run_table(layer)
        weight = self.dialect.read(layer.kind, "*w")
        return [
            f"const {c_type(kind)} *run = policy_runs_{layer.index};",
            "do {",
            f"    uint_fast16_t rows = {self.dialect.read(kind, 'run[0]')};",
            "    do {",
            f"        uint_fast16_t n = {self.dialect.read(kind, 'run[1]')};",
            f"        {self._row_start(layer)}",
            *([f"        const {self.value_type} *p = x;"] if layer.full else []),
            "        do {",
            f"            s += {self._times(layer, weight, self._place(layer, None))};",
            "            ++w;",
            *([] if layer.full else ["            ++c;"]),
            "        } while (--n > 0u);",
            *(f"        {line}" for line in self._row_end(layer)),
            "    } while (--rows > 0u);",
            "    run += 2;",
            f"}} while (run != policy_runs_{layer.index} + {len(table)});",
        ]

    def _unrolled(self, layer: LayerTables) -> list[str]:
        lines: list[str] = []
        for _, rows, count in layer.runs():
            body = self._row(layer, count)
            if rows == 1:
                lines += [f"/* 1 row of {count} */", "{", *(f"    {line}" for line in body), "}"]
                continue
            lines += [f"/* {rows} rows of {count} */"]
            lines += [f"for (uint_fast16_t n = {rows}u; n > 0u; --n) {{", *(f"    {line}" for line in body), "}"]
        return lines + self._epilogue(layer)

    def _row(self, layer: LayerTables, count: int) -> list[str]:
        """One row of `count` weights: written out, or a loop over so many and the rest."""
        lines: list[str] = []
        first = self._bias_first(layer)
        bias = "*y" if self._last(layer) else self._bias(layer, None)
        whole, rest = divmod(count, _UNROLLED) if count > 2 * _UNROLLED else (0, count)
        step = [] if layer.full else ["c"]

        def terms(amount: int) -> list[str]:
            return [
                self._times(layer, self.dialect.read(layer.kind, f"w[{i}]"), self._place(layer, i))
                for i in range(amount)
            ]

        def advance(amount: int) -> list[str]:
            return [f"{name} += {amount};" for name in (["w", *step] if not layer.full else ["w", "p"])]

        if layer.full:
            lines.append(f"const {self.value_type} *p = x;")
        written = terms(rest)
        if first or whole:
            lines.append(f"{self.sum_type} s = {bias if first else number(np.float32(0))};")
        else:
            lines.append(f"{self.sum_type} s = {written[0]};")
            written = written[1:]
        if whole:
            loop = [f"s += {term};" for term in terms(_UNROLLED)] + advance(_UNROLLED)
            lines += [f"for (uint_fast16_t k = {whole}u; k > 0u; --k) {{", *(f"    {line}" for line in loop), "}"]
        for place, term in enumerate(written, start=1):
            lines.append(f"s += {term};")
            if not layer.fixed and place % _BARRIER == 0 and place < len(written):
                lines.append("POLICY_BARRIER;")
        if rest:
            lines += advance(rest) if not layer.full else [f"w += {rest};"]
        if not first:
            lines.append(f"s += {bias};")
        return lines + self._finish(layer) + self._advance(layer)

    def _straight(self, layer: LayerTables) -> list[str]:
        lines: list[str] = []
        for row in range(layer.rows):
            terms = [
                self._times(layer, number(value, layer.kind), f"x[{column}]")
                for value, column in zip(layer.values[row], layer.columns[row], strict=True)
            ]
            body = [*self._sum(layer, terms, row), *self._finish(layer, row)]
            lines += ["{", *(f"    {line}" for line in body), "}"]
        return lines + self._epilogue(layer)

    def _blocked(self, layer: LayerTables) -> list[str]:
        """Eight rows at a time, two columns at a time: every input is loaded once for eight weights."""
        first, last = self._bias_first(layer), self._last(layer)
        zero = number(np.float32(0))
        blocks, rest = divmod(layer.rows, _BLOCK)
        read = self.dialect.read

        def bias(place: int) -> str:
            if last:
                return f"y[{place}]"
            value = read(layer.bias_kind, f"b[{place}]")
            return f"(int32_t){value} * {1 << layer.bias_shift}" if layer.bias_shift else value

        def columns(amount: int) -> list[str]:
            lines = [f"const {self.value_type} x{k} = p[{k}];" for k in range(amount)]
            for k in range(amount):
                for row in range(_BLOCK):
                    weight = read(layer.kind, f"w[{k * _BLOCK + row}]")
                    lines.append(f"s{row} += {self._times(layer, weight, f'x{k}')};")
            return [*lines, f"p += {amount};", f"w += {amount * _BLOCK};"]

        pairs, odd = divmod(layer.columns_total, 2)
        body = [f"const {self.value_type} *p = x;"]
        body += [f"{self.sum_type} s{row} = {bias(row) if first else zero};" for row in range(_BLOCK)]
        body += [f"for (uint_fast16_t k = {pairs}u; k > 0u; --k) {{", *(f"    {line}" for line in columns(2)), "}"]
        if odd:
            body += ["{", *(f"    {line}" for line in columns(1)), "}"]
        for row in range(_BLOCK):
            if not first:
                body.append(f"s{row} += {bias(0 if last else row)};")
            finish = [f"const {self.sum_type} s = s{row};", *self._finish(layer)]
            step = ["++m;"] if layer.multiplier is not None and layer.activation == "tanh" and not last else []
            body += ["{", *(f"    {line}" for line in finish + step), "}"]
        if not last:
            body.append(f"b += {_BLOCK};")
        lines = [f"const {c_type(layer.kind)} *w = policy_values_{layer.index};"]
        if not last:
            lines.append(f"const {c_type(layer.bias_kind)} *b = policy_biases_{layer.index};")
            if layer.multiplier is not None:
                lines.append(f"const int16_t *m = policy_multipliers_{layer.index};")
        lines += [f"for (uint_fast16_t n = {blocks}u; n > 0u; --n) {{", *(f"    {line}" for line in body), "}"]
        if rest:
            term = self._times(layer, read(layer.kind, "*w"), "*p")
            single = [
                f"const {self.value_type} *p = x;",
                f"{self.sum_type} s = {bias(0) if first else zero};",
                f"for (uint_fast16_t k = {layer.columns_total}u; k > 0u; --k) {{",
                f"    s += {term};",
                "    ++w;",
                "    ++p;",
                "}",
                *([] if first else [f"s += {bias(0)};"]),
                *self._finish(layer),
                *self._advance(layer),
            ]
            lines += [f"for (uint_fast16_t n = {rest}u; n > 0u; --n) {{", *(f"    {line}" for line in single), "}"]
        return lines + self._epilogue(layer)


def _function(head: str, body: list[str]) -> str:
    indented = "\n".join(f"    {line}" if line else "" for line in body)
    return f"{head}\n{indented}\n}}\n"


def _flagged_columns(layer: LayerTables) -> np.ndarray:
    """Columns, the last of every row with the highest bit of its type set."""
    columns = np.concatenate(layer.columns)
    columns[np.cumsum([len(row) for row in layer.columns]) - 1] |= 128 if layer.column_kind == "uint8" else 2**15
    return columns


def _blocked(layer: LayerTables) -> np.ndarray:
    """Blocks of eight rows column by column, then the rows left over."""
    weight = layer.dense()
    whole = layer.rows // _BLOCK * _BLOCK
    interleaved = weight[:whole].reshape(-1, _BLOCK, layer.columns_total).transpose(0, 2, 1).ravel()
    return np.concatenate([interleaved, weight[whole:].ravel()])
