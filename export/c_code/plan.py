"""Which shape the C of each layer takes."""

from dataclasses import dataclass
from typing import Literal, get_args

from export.c_code.layer_tables import LayerTables
from export.c_code.packed_columns import can_pack

Shape = Literal["packed", "loop", "unrolled", "blocked", "straight"]
"""packed: like loop, its columns a stream of bits, smallest; loop: one loop over rows and weights; unrolled: a loop for
each number of weights in a row; blocked: dense, eight rows at a time; straight: no loop, every number in the code."""

SHAPES: tuple[Shape, ...] = get_args(Shape)
FUSED_ACTIONS = 8
_BLOCKED_ROWS = 8
_STRAIGHT_WEIGHTS = 4000
_CODE_SHARE = 0.75


@dataclass(frozen=True)
class Plan:
    """shapes: one for every layer; fused: the last layer is taken from each unit as soon as it is known, so that the
    last hidden layer is never stored."""

    shapes: tuple[Shape, ...]
    fused: bool


def can_fuse(layers: tuple[LayerTables, ...]) -> bool:
    """Tell whether taking the last layer column by column, zeros included, costs no more bytes than row by row."""
    if len(layers) < 2 or layers[-1].rows > FUSED_ACTIONS:
        return False
    last = layers[-1]
    value_bytes, _ = _weight_bytes(last)
    return last.rows * last.columns_total * value_bytes <= _table_bytes(last) + 16


def plans(layers: tuple[LayerTables, ...]) -> dict[str, Plan]:
    """Return the plans worth trying, by name, smallest code first."""
    fused = can_fuse(layers)
    result = {}
    for name in ("packed", "loop", "unrolled", "straight"):
        shapes = tuple(_shape(layer, name) for layer in layers)
        if name == "packed" and name not in shapes:
            continue
        if name != "straight" or sum(layer.weights for layer in layers) <= _STRAIGHT_WEIGHTS:
            result[name] = Plan(shapes, fused)
    return result


def default_plan(layers: tuple[LayerTables, ...]) -> Plan:
    """Return the plan without counting: a layer is unrolled where the code for that is small beside its numbers."""
    tried = plans(layers)
    shapes = tuple(
        small if _written_bytes(layer) > _CODE_SHARE * _table_bytes(layer) else fast
        for layer, small, fast in zip(layers, tried["loop"].shapes, tried["unrolled"].shapes, strict=True)
    )
    return Plan(shapes, tried["loop"].fused)


def _written_bytes(layer: LayerTables) -> int:
    """About what Thumb-2 code takes for the rows of a layer written out by their lengths."""
    return sum(40 + 20 * min(count, 16) for _, count in layer.runs())


def _table_bytes(layer: LayerTables) -> int:
    value_bytes, index_bytes = _weight_bytes(layer)
    return layer.weights * (value_bytes + index_bytes)


def _weight_bytes(layer: LayerTables) -> tuple[int, int]:
    """Bytes of a value and of a column."""
    value_bytes = 4 if not layer.fixed else int(layer.kind.removeprefix("int")) // 8
    return value_bytes, 1 if layer.column_kind == "uint8" else 2


def _shape(layer: LayerTables, wanted: str) -> Shape:
    if wanted == "unrolled" and _worth_blocks(layer):
        return "blocked"
    if wanted == "packed" and not can_pack(layer):
        return "loop"
    return wanted if wanted in SHAPES else "loop"


def _worth_blocks(layer: LayerTables) -> bool:
    """Dense blocks, zeros included: where they take fewer bytes than values and columns."""
    dense = layer.rows * layer.columns_total * _weight_bytes(layer)[0]
    return layer.rows >= _BLOCKED_ROWS and dense <= _table_bytes(layer)
