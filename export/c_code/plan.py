"""Which shape the C of each layer takes."""

from dataclasses import dataclass
from typing import Literal, get_args

from export.c_code.layer_tables import LayerTables

Shape = Literal["loop", "unrolled", "blocked", "straight"]
"""loop: one loop over rows and weights, smallest; unrolled: a loop for each number of weights in a row; blocked: dense,
eight rows at a time; straight: no loop, every number in the code."""

SHAPES: tuple[Shape, ...] = get_args(Shape)
FUSED_ACTIONS = 8
_BLOCKED_ROWS = 8
_STRAIGHT_WEIGHTS = 4000


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
    value_bytes = 4 if not last.fixed else int(last.kind.removeprefix("int")) // 8
    index_bytes = 1 if last.column_kind == "uint8" else 2
    return last.rows * last.columns_total * value_bytes <= last.weights * (value_bytes + index_bytes) + 16


def plans(layers: tuple[LayerTables, ...]) -> dict[str, Plan]:
    """Return the plans worth trying, by name, smallest code first."""
    fused = can_fuse(layers)
    result = {}
    for name in ("loop", "unrolled", "straight"):
        shapes = tuple(_shape(layer, name) for layer in layers)
        if name != "straight" or sum(layer.weights for layer in layers) <= _STRAIGHT_WEIGHTS:
            result[name] = Plan(shapes, fused)
    return result


def default_plan(layers: tuple[LayerTables, ...]) -> Plan:
    """Return the plan without counting: unrolled."""
    return plans(layers)["unrolled"]


def _shape(layer: LayerTables, wanted: str) -> Shape:
    if wanted == "unrolled" and _worth_blocks(layer):
        return "blocked"
    return wanted if wanted in SHAPES else "loop"  # type: ignore[return-value]


def _worth_blocks(layer: LayerTables) -> bool:
    """Dense blocks, zeros included: where they take fewer bytes than values and columns."""
    value_bytes = 4 if not layer.fixed else int(layer.kind.removeprefix("int")) // 8
    index_bytes = 1 if layer.column_kind == "uint8" else 2
    dense = layer.rows * layer.columns_total * value_bytes
    return layer.rows >= _BLOCKED_ROWS and dense <= layer.weights * (value_bytes + index_bytes)
