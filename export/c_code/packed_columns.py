"""Columns as distances in a stream of bits: where the next weight is, counted on from the last one across row ends.

A distance is one field of few bits, or several: a field with all bits set says to go on by as much and read another.
"""

import numpy as np

from export.c_code.layer_tables import LayerTables

_NARROWEST, _WIDEST = 2, 8  # bits of a field; a field lies in at most two bytes
_BITS_LIMIT = 2**16  # a place in the stream is counted in 16 bits on the smallest processors


def can_pack(layer: LayerTables) -> bool:
    """Tell whether the columns of every row rise, and packing them takes fewer bytes than one number each."""
    if layer.full or not all((np.diff(row) > 0).all() for row in layer.columns):
        return False
    bits = _stream_bits(layer, field_bits(layer))
    plain = layer.weights * (1 if layer.column_kind == "uint8" else 2)
    return bits < _BITS_LIMIT and bits // 8 + 2 < plain


def field_bits(layer: LayerTables) -> int:
    """Return the width of a field that takes the fewest bits in all."""
    return min(range(_NARROWEST, _WIDEST + 1), key=lambda bits: _stream_bits(layer, bits))


def _distances(layer: LayerTables) -> np.ndarray:
    """Return the distance after every weight; the last one leads to the row behind the last."""
    places = [row * layer.columns_total + columns for row, columns in enumerate(layer.columns)]
    return np.diff(np.concatenate([*places, [layer.rows * layer.columns_total]]).astype(np.int64))


def _stream_bits(layer: LayerTables, bits: int) -> int:
    return int((_distances(layer) // (2**bits - 1) + 1).sum()) * bits


def packed_columns(layer: LayerTables) -> np.ndarray:
    """Return the stream as bytes, lowest bit first, and one byte more so that reading two never ends outside."""
    bits = field_bits(layer)
    full = 2**bits - 1
    fields = [field for distance in _distances(layer) for field in [full] * (distance // full) + [distance % full]]
    stream = (np.array(fields)[:, None] >> np.arange(bits) & 1).astype(np.uint8).ravel()
    return np.append(np.packbits(stream, bitorder="little"), np.uint8(0))
