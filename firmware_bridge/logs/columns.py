"""The columns of a topic, from the schema that travels in the log: names with units, arrays spread, types checked."""

import dataclasses
import json
import re
from collections.abc import Sequence
from typing import Any, Literal

from firmware_bridge.errors import LogError
from firmware_bridge.logs import topics as log_topics

Kind = Literal["integer", "number", "string"]

_COLUMNS_LIMIT = 512
_ARRAY_LIMIT = 64
_INTEGER_LIMIT = 2**62  # nanoseconds since 1970 have 61 bits; float64 and int64 both hold the rest
_UNIT = re.compile(r"\[([^\]]{1,40})\]")


@dataclasses.dataclass(frozen=True)
class Column:
    """One number or text of a record: `record[key]`, or `record[key][index]` of an array."""

    name: str
    key: str
    index: int | None
    kind: Kind


@dataclasses.dataclass(frozen=True)
class Field:
    """One key of a record; `count` numbers in an array, or None for a scalar. `units`: one, or one an element."""

    key: str
    kind: Kind
    count: int | None
    units: tuple[str, ...]


def fields_of(schema: bytes) -> tuple[Field, ...] | None:
    """The fields that a JSON Schema lists; None for an object of any shape. Raises ValueError."""
    try:
        value = json.loads(schema)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    properties = value.get("properties") if isinstance(value, dict) else None
    if not isinstance(properties, dict):
        return None
    if len(properties) > _COLUMNS_LIMIT:
        raise ValueError(f"{len(properties)} fields, expected at most {_COLUMNS_LIMIT}")
    return tuple(_field(key, text) for key, text in properties.items())


def known_fields(topic: str) -> tuple[Field, ...]:
    """The fields of a topic as this version writes it; none for a topic that it does not know."""
    schema = next((known.schema for known in log_topics.TOPICS if known.name == topic), None)
    return (fields_of(log_topics.to_json(schema)) or ()) if schema is not None else ()


def columns_of(fields: Sequence[Field], element_names: Sequence[str] = ()) -> list[Column]:
    """One column a scalar, one an array's element.

    `element_names` names the elements of arrays of that length (the session's `observation_names`, which carry units).
    """
    columns = []
    for field in fields:
        if field.count is None:
            unit = field.units[0] if field.units else ""
            columns.append(Column(_with_unit(field.key, unit), field.key, None, field.kind))
            continue
        for index in range(field.count):
            if len(element_names) == field.count:
                name = f"{field.key}.{element_names[index]}"
            else:
                unit = field.units[index] if len(field.units) == field.count else ""
                name = _with_unit(f"{field.key}.{index}", unit)
            columns.append(Column(name, field.key, index, field.kind))
    return columns


def check_record(fields: Sequence[Field], record: Any) -> None:
    """Raise ValueError when a record is not what its schema says. A number may be null (it was not finite)."""
    if not isinstance(record, dict):
        raise ValueError(f"is {_shown(record)}, expected an object")
    for field in fields:
        value = record.get(field.key, _MISSING)
        if field.count is None:
            # A float is what it is; everything else is looked at closely.
            good = (type(value) is float and field.kind == "number") or _fits(field.kind, value)
        else:
            good = type(value) is list and len(value) == field.count and _all_fit(field.kind, value)
        if not good:
            array = "" if field.count is None else f"{field.count} times "
            raise ValueError(f"field {field.key!r} is {_shown(value)}, expected {array}{field.kind}")


_MISSING = object()


def _shown(value: Any) -> str:
    return "missing" if value is _MISSING else repr(value)[:60]


def _fits(kind: Kind, value: Any) -> bool:
    if kind == "number":
        if value is None or type(value) is float:
            return True
        return type(value) is int and -_INTEGER_LIMIT <= value < _INTEGER_LIMIT
    if kind == "integer":
        return type(value) is int and -_INTEGER_LIMIT <= value < _INTEGER_LIMIT
    return type(value) is str


def _all_fit(kind: Kind, values: list[Any]) -> bool:
    if kind == "number" and set(map(type, values)) == {float}:
        return True
    return all(_fits(kind, value) for value in values)


def _field(key: str, text: Any) -> Field:
    if not isinstance(text, dict):
        raise ValueError(f"field {key!r} has no description")
    description = text.get("description", "")
    match = _UNIT.match(description) if isinstance(description, str) else None
    units = tuple(unit.strip() for unit in match[1].split(",")) if match else ()
    if text.get("type") != "array":
        # A scalar's unit may hold a comma of its own.
        return Field(key, _kind(key, text), None, (match[1],) if match else ())
    items = text.get("items")
    count = text.get("minItems", len(units))
    if not isinstance(items, dict) or type(count) is not int or not 0 < count <= _ARRAY_LIMIT:
        raise ValueError(f"field {key!r} is an array of {count!r}, expected 1 to {_ARRAY_LIMIT} numbers")
    return Field(key, _kind(key, items), count, units)


def _kind(key: str, text: dict[str, Any]) -> Kind:
    kind = text.get("type")
    if kind not in ("integer", "number", "string"):
        raise ValueError(f"field {key!r} is of type {kind!r}, expected integer, number or string")
    found: Kind = kind
    return found


def _with_unit(name: str, unit: str) -> str:
    # `time_us` and `total_ns` say it already; "1" is no unit.
    return name if unit in ("", "1") or name.endswith(f"_{unit}") else f"{name} [{unit}]"


def require(topic: str, found: Sequence[Field] | None, wanted: Sequence[Field], log: object) -> None:
    """Raise LogError when a topic's schema lacks one of the `wanted` fields, or has another kind or length of it."""
    by_key = {field.key: field for field in found or ()}
    for field in wanted:
        other = by_key.get(field.key)
        if other is None or (other.kind, other.count) != (field.kind, field.count):
            got = "none" if other is None else _told(other)
            raise LogError(
                f"log {log}: field {field.key!r} of {topic} is {got}, expected {_told(field)}; "
                "expected a log of firmware_bridge; read it with the version that wrote it"
            )


def _told(field: Field) -> str:
    return field.kind if field.count is None else f"{field.count} times {field.kind}"
