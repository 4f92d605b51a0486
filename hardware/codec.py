"""Bodies of messages as bytes, and the hash of the schema. Layouts come from `protocol`; nothing is typed twice."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable
from dataclasses import fields
from enum import IntEnum
from operator import attrgetter, itemgetter
from typing import Any, get_type_hints

from hardware.errors import ProtocolError
from hardware.protocol import ENUMERATIONS, MESSAGES, PROTOCOL_VERSION, Message, Wire

_FORMATS = {"u8": "B", "u16": "H", "u32": "I", "i32": "i", "f32": "f"}


def wire_fields(message: type[Message]) -> dict[str, Wire]:
    """The fields of a message in wire order, each with its C type, unit and array length."""
    hints = get_type_hints(message, include_extras=True)
    return {field.name: hints[field.name].__metadata__[0] for field in fields(message)}


class _Codec:
    """Struct format of one message and the places of its fields in the flat tuple."""

    def __init__(self, message: type[Message]) -> None:
        self.message = message
        wires = wire_fields(message)
        self.values = [(attrgetter(name), wire) for name, wire in wires.items()]
        self.names = tuple(wires)
        plain = all(not wire.count for wire in wires.values())
        # Of one name an itemgetter or attrgetter gives no tuple.
        self.pick = None if plain else itemgetter(*_places(wires).values())
        self.texts = tuple(name for name, wire in wires.items() if wire.ctype == "char")
        self.all = attrgetter(*wires) if plain and len(wires) > 1 else None
        self.struct = struct.Struct("<BH" + "".join(_struct_format(wire) for wire in wires.values()))

    def pack(self, message: Message, sequence: int) -> bytes:
        if self.all is not None:
            return self.struct.pack(message.TYPE, sequence, *self.all(message))
        flat: list[Any] = [message.TYPE, sequence]
        for get, wire in self.values:
            value = get(message)
            if wire.ctype == "f32" and wire.count:
                if len(value) != wire.count:
                    raise ValueError(f"got an array of {len(value)}, expected {wire.count}")
                flat.extend(value)
            elif wire.count:
                encoded = value.encode("ascii") if wire.ctype == "char" else value
                exact = wire.ctype != "char"
                if len(encoded) > wire.count or (exact and len(encoded) != wire.count):
                    raise ValueError(f"got {len(encoded)} bytes, expected {wire.count}")
                flat.append(encoded)
            else:
                flat.append(value)
        return self.struct.pack(*flat)

    def unpack(self, body: bytes) -> tuple[int, Message]:
        flat = self.struct.unpack(body)
        values = flat[2:] if self.pick is None else self.pick(flat)
        # Past the constructor: for a frozen dataclass it takes as long as all the rest of a decoded frame.
        message = self.message.__new__(self.message)
        message.__dict__.update(zip(self.names, values, strict=True))
        for name in self.texts:
            message.__dict__[name] = message.__dict__[name].split(b"\0", 1)[0].decode("ascii", "replace")
        return flat[1], message


def _places(wires: dict[str, Wire]) -> dict[str, int | slice]:
    """Where the fields stand in the flat tuple of struct, which starts with type and sequence."""
    position, places = 2, dict[str, int | slice]()
    for name, wire in wires.items():
        width = wire.count if wire.ctype == "f32" else 0
        places[name] = slice(position, position + width) if width else position
        position += width or 1
    return places


def _struct_format(wire: Wire) -> str:
    if wire.count and wire.ctype in ("u8", "char"):
        return f"{wire.count}s"
    return f"{wire.count or ''}{_FORMATS[wire.ctype]}"


_CODECS: dict[int, _Codec] = {message.TYPE: _Codec(message) for message in MESSAGES}
MAXIMUM_BODY_SIZE = max(codec.struct.size for codec in _CODECS.values())


def body_size(message: type[Message]) -> int:
    """Bytes of a body of this message, type and sequence included."""
    return _CODECS[message.TYPE].struct.size


def schema_text() -> str:
    """Canonical text of everything both sides must agree on; its hash seeds the CRC."""
    lines = [f"protocol {PROTOCOL_VERSION}"]
    lines += [f"{kind.__name__}.{item.name}={int(item)}" for kind in ENUMERATIONS for item in list[Any](kind)]
    for message in MESSAGES:
        body = " ".join(
            f"{name}:{wire.ctype}[{wire.count}]({wire.unit})" for name, wire in wire_fields(message).items()
        )
        lines.append(f"{message.TYPE:#04x} {message.ROUTE} {message.__name__} {body}")
    return "\n".join(lines) + "\n"


SCHEMA_HASH = int.from_bytes(hashlib.sha256(schema_text().encode()).digest()[:2], "little")


def encode_body(message: Message, sequence: int) -> bytes:
    """Body of one message: type, sequence (modulo 65536), fields.

    Raises ProtocolError when a value does not fit its C type.
    """
    try:
        return _CODECS[message.TYPE].pack(message, sequence & 0xFFFF)
    except (struct.error, OverflowError, ValueError, TypeError) as error:
        name = type(message).__name__
        raise ProtocolError(
            f"cannot encode {message!r}: {error}; expected the C types of {name} in hardware/protocol.py"
        ) from error


def packer(message: type[Message]) -> Callable[..., bytes]:
    """`pack(type, sequence, *fields)` of a message without arrays: `encode_body` without the message.

    Raises ValueError for a message with arrays; what it returns raises struct.error where a value does not fit.
    """
    codec = _CODECS[message.TYPE]
    if codec.pick is not None:
        raise ValueError(f"{message.__name__} has arrays, expected plain numbers; use encode_body")
    return codec.struct.pack


def picker(message: type[Message], *names: str) -> tuple[int, Callable[[bytes], tuple[Any, ...]]]:
    """Size of a body of this message, and what takes two or more of its fields out of one: faster than the message.

    An array becomes a tuple. What it is given must be a body of that type and size.
    """
    codec = _CODECS[message.TYPE]
    places = _places(wire_fields(message))
    unpack, pick = codec.struct.unpack, itemgetter(*(places[name] for name in names))
    return codec.struct.size, lambda body: pick(unpack(body))


def decode_body(body: bytes) -> tuple[int, Message]:
    """Sequence number and message of one body whose CRC was right.

    Raises ProtocolError for an unknown type or a wrong length; values are not judged (an enumeration may hold an
    unknown number, a float may be NaN): that is the receiver's business.
    """
    codec = _CODECS.get(body[0]) if body else None
    if codec is None:
        got = f"type {body[0]:#04x}" if body else "an empty body"
        raise ProtocolError(
            f"cannot decode a body: got {got}, expected one of hardware.protocol.MESSAGES; is the sender newer?"
        )
    if len(body) != codec.struct.size:
        raise ProtocolError(
            f"cannot decode {codec.message.__name__}: got {len(body)} bytes, expected {codec.struct.size}; "
            "is the sender newer?"
        )
    return codec.unpack(body)


def snake_case(name: str) -> str:
    """HelloReply -> hello_reply."""
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name).lstrip("_")


def name_of(kind: type[IntEnum], value: int) -> str:
    """Name of an enumeration's value, or `unknown N`: what came over a wire may be anything."""
    try:
        return kind(value).name
    except ValueError:
        return f"unknown {value}"
