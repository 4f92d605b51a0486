"""How a loop over weights knows where a row ends: a bit of the column says so, or a table of the rows' lengths."""

import numpy as np

from export.c_code.layer_tables import LayerTables


def flagged(layer: LayerTables) -> bool:
    """Tell whether a column leaves a bit free to say that it is the last of its row."""
    return not layer.full and (layer.columns_total <= 128 or 256 < layer.columns_total <= 2**15)


def flag(layer: LayerTables) -> int:
    """Return the highest bit of a column's type."""
    return 2**7 if layer.column_kind == "uint8" else 2**15


def flagged_columns(layer: LayerTables) -> np.ndarray:
    """Return the columns of all rows, the last of every row with the highest bit of its type set."""
    columns = np.concatenate(layer.columns)
    columns[np.cumsum([len(row) for row in layer.columns]) - 1] |= flag(layer)
    return columns


def run_kind(layer: LayerTables) -> str:
    """Return the narrowest type of a row's length."""
    return "uint8" if max(count for _, count in layer.runs()) <= 255 else "uint16"


def run_table(layer: LayerTables) -> np.ndarray:
    """Return pairs (rows, weights of each); a run of more rows than a number holds is split."""
    most = 255 if run_kind(layer) == "uint8" else 65535
    pairs = []
    for rows, count in layer.runs():
        for start in range(0, rows, most):
            pairs.append((min(most, rows - start), count))
    return np.array(pairs, np.int64).ravel()
