"""The statements of a layer in each shape (plan.py); a RowWriter gives the parts of a row."""

from collections.abc import Callable

import numpy as np

from export.c_code.dialect import c_type, number
from export.c_code.layer_tables import LayerTables
from export.c_code.packed_columns import field_bits
from export.c_code.plan import Shape
from export.c_code.row_ends import flag, flagged, run_kind, run_table
from export.c_code.rows import RowWriter

_BARRIER = 3  # terms of a float row; then loads wait, or compilers load all of them first and run out of registers
_UNROLLED = 8  # weights of a row written out; longer rows loop over so many
_BLOCK = 8


def loop(rows: RowWriter, layer: LayerTables) -> list[str]:
    """Return one loop over rows and weights: the least code."""
    inner = _flagged_rows(rows, layer) if flagged(layer) else _counted_rows(rows, layer)
    return inner + rows.epilogue(layer)


def _flagged_rows(rows: RowWriter, layer: LayerTables) -> list[str]:
    """Return rows that end where a column has its highest bit set: no counts, few registers."""
    kind = layer.column_kind
    weight = rows.dialect.read(layer.kind, "*w")
    return [
        "do {",
        f"    {rows.row_start(layer)}",
        f"    {c_type(kind)} column;",
        "    do {",
        f"        column = {rows.dialect.read(kind, '*c')};",
        "        ++c;",
        f"        s += {rows.times(layer, weight, f'x[column & {flag(layer) - 1}u]')};",
        "        ++w;",
        f"    }} while (column < {flag(layer)}u);",
        *(f"    {line}" for line in rows.row_end(layer)),
        f"}} while (c != policy_columns_{layer.index} + {layer.weights});",
    ]


def _counted_rows(rows: RowWriter, layer: LayerTables) -> list[str]:
    """Return runs of rows, each with its number of rows and of weights in a row."""
    kind = run_kind(layer)
    table = run_table(layer)
    weight = rows.dialect.read(layer.kind, "*w")
    return [
        f"const {c_type(kind)} *run = policy_runs_{layer.index};",
        "do {",
        f"    uint_fast16_t rows = {rows.dialect.read(kind, 'run[0]')};",
        "    do {",
        f"        uint_fast16_t n = {rows.dialect.read(kind, 'run[1]')};",
        f"        {rows.row_start(layer)}",
        *([f"        const {rows.value_type} *p = x;"] if layer.full else []),
        "        do {",
        f"            s += {rows.times(layer, weight, rows.place(layer, None))};",
        "            ++w;",
        *([] if layer.full else ["            ++c;"]),
        "        } while (--n > 0u);",
        *(f"        {line}" for line in rows.row_end(layer)),
        "    } while (--rows > 0u);",
        "    run += 2;",
        f"}} while (run != policy_runs_{layer.index} + {len(table)});",
    ]


def packed(rows: RowWriter, layer: LayerTables) -> list[str]:
    """Return one loop whose next column is a distance on from the last; one beyond the row's end is in the next row."""
    bits = field_bits(layer)
    mask = 2**bits - 1
    low, high = (rows.dialect.read("uint8", f"c[{place}]") for place in ("n >> 3", "(n >> 3) + 1u"))
    advance = [
        "uint_fast16_t field;",
        "do {",
        f"    field = ((((uint_fast16_t){high} << 8) | {low}) >> (n & 7u)) & {mask}u;",
        f"    n += {bits};",
        "    column += field;",
        f"}} while (field == {mask}u);",
    ]
    weight = rows.dialect.read(layer.kind, "*w")
    return [
        "uint_fast16_t n = 0u;",
        f"uint_fast16_t column = {int(layer.columns[0][0])}u;",
        "do {",
        f"    {rows.row_start(layer)}",
        "    do {",
        f"        s += {rows.times(layer, weight, 'x[column]')};",
        "        ++w;",
        *(f"        {line}" for line in advance),
        f"    }} while (column < {layer.columns_total}u);",
        f"    column -= {layer.columns_total}u;",
        *(f"    {line}" for line in rows.row_end(layer)),
        f"}} while (w != policy_values_{layer.index} + {layer.weights});",
        *rows.epilogue(layer),
    ]


def unrolled(rows: RowWriter, layer: LayerTables) -> list[str]:
    """Return a loop for every number of weights in a row."""
    lines: list[str] = []
    for amount, count in layer.runs():
        body = _row(rows, layer, count)
        if amount == 1:
            lines += [f"/* 1 row of {count} */", "{", *(f"    {line}" for line in body), "}"]
            continue
        lines += [f"/* {amount} rows of {count} */"]
        lines += [f"for (uint_fast16_t n = {amount}u; n > 0u; --n) {{", *(f"    {line}" for line in body), "}"]
    return lines + rows.epilogue(layer)


def _row(rows: RowWriter, layer: LayerTables, count: int) -> list[str]:
    """Return one row of `count` weights: written out, or a loop over so many and the rest."""
    lines: list[str] = []
    whole, rest = divmod(count, _UNROLLED) if count > 2 * _UNROLLED else (0, count)
    step = [] if layer.full else ["c"]

    def terms(amount: int) -> list[str]:
        return [
            rows.times(layer, rows.dialect.read(layer.kind, f"w[{i}]"), rows.place(layer, i)) for i in range(amount)
        ]

    def advance(amount: int) -> list[str]:
        return [f"{name} += {amount};" for name in (["w", *step] if not layer.full else ["w", "p"])]

    if layer.full:
        lines.append(f"const {rows.value_type} *p = x;")
    written = terms(rest)
    if layer.bias_first or whole:
        lines.append(rows.row_start(layer))
    else:
        lines.append(f"{rows.sum_type} s = {written[0]};")
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
    return lines + rows.row_end(layer)


def straight(rows: RowWriter, layer: LayerTables) -> list[str]:
    """Return every row by itself, its numbers in the code."""
    lines: list[str] = []
    for row in range(layer.rows):
        terms = [
            rows.times(layer, number(value, layer.kind), f"x[{column}]")
            for value, column in zip(layer.values[row], layer.columns[row], strict=True)
        ]
        bias = rows.literal_bias(layer, row)
        first, *others = [bias, *terms] if layer.bias_first else [*terms, bias]
        body = [f"{rows.sum_type} s = {first};", *(f"s += {term};" for term in others), *rows.finish(layer, row)]
        lines += ["{", *(f"    {line}" for line in body), "}"]
    return lines + rows.epilogue(layer)


def blocked(rows: RowWriter, layer: LayerTables) -> list[str]:
    """Return a dense layer, eight rows and two columns at a time: every input is loaded once for eight weights."""
    first, last = layer.bias_first, rows.last(layer)
    zero = number(np.float32(0))
    blocks, rest = divmod(layer.rows, _BLOCK)
    read = rows.dialect.read

    def columns(amount: int) -> list[str]:
        lines = [f"const {rows.value_type} x{k} = p[{k}];" for k in range(amount)]
        for k in range(amount):
            for row in range(_BLOCK):
                weight = read(layer.kind, f"w[{k * _BLOCK + row}]")
                lines.append(f"s{row} += {rows.times(layer, weight, f'x{k}')};")
        return [*lines, f"p += {amount};", f"w += {amount * _BLOCK};"]

    pairs, odd = divmod(layer.columns_total, 2)
    body = [f"const {rows.value_type} *p = x;"]
    body += [f"{rows.sum_type} s{row} = {rows.bias(layer, row) if first else zero};" for row in range(_BLOCK)]
    body += [f"for (uint_fast16_t k = {pairs}u; k > 0u; --k) {{", *(f"    {line}" for line in columns(2)), "}"]
    if odd:
        body += ["{", *(f"    {line}" for line in columns(1)), "}"]
    for row in range(_BLOCK):
        if not first:
            body.append(f"s{row} += {rows.bias(layer, 0 if last else row)};")
        finish = [f"const {rows.sum_type} s = s{row};", *rows.finish(layer)]
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
        term = rows.times(layer, read(layer.kind, "*w"), "*p")
        single = [
            f"const {rows.value_type} *p = x;",
            rows.row_start(layer),
            f"for (uint_fast16_t k = {layer.columns_total}u; k > 0u; --k) {{",
            f"    s += {term};",
            "    ++w;",
            "    ++p;",
            "}",
            *rows.row_end(layer),
        ]
        lines += [f"for (uint_fast16_t n = {rest}u; n > 0u; --n) {{", *(f"    {line}" for line in single), "}"]
    return lines + rows.epilogue(layer)


def blocked_values(layer: LayerTables) -> np.ndarray:
    """Return blocks of eight rows column by column, then the rows left over."""
    weight = layer.dense()
    whole = layer.rows // _BLOCK * _BLOCK
    interleaved = weight[:whole].reshape(-1, _BLOCK, layer.columns_total).transpose(0, 2, 1).ravel()
    return np.concatenate([interleaved, weight[whole:].ravel()])


BODIES: dict[Shape, Callable[[RowWriter, LayerTables], list[str]]] = {
    "packed": packed,
    "loop": loop,
    "unrolled": unrolled,
    "blocked": blocked,
    "straight": straight,
}
