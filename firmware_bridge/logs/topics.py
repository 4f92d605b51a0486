"""What is written into a log: one MCAP topic per kind of record, each with its schema inside the file.

Records are JSON with a JSON Schema, so Foxglove and PlotJuggler open them as they are. The topics of the wire are
rendered from `hardware.protocol` (names, units); the bridge's own are listed here. `/raw/received` and `/raw/sent` hold
the bytes of the port exactly as they came and went (no schema, encoding `application/octet-stream`), so that the parser
itself can be replayed; `/link_errors` says which of those bytes were no frames. `/dropped` stands where records are
missing because the disk was too slow. A number that JSON cannot say (NaN, infinity) is written as null, never as 0.

JSON is made in the writer's process: the loop only packs numbers (`Topic.pack`), and of a message it has the bytes.
"""

import dataclasses
import json
import math
import struct
from collections.abc import Callable
from typing import Any

from hardware import codec, protocol

FORMAT_VERSION = 1


@dataclasses.dataclass(frozen=True)
class Topic:
    """One kind of record: its MCAP names, its JSON Schema (None for raw bytes), and how a payload becomes bytes.

    `pack` is for the loop: the payload as bytes, cheaply. `render` makes of them the record that stands in the file.
    """

    name: str
    schema_name: str
    schema: dict[str, Any] | None
    pack: Callable[[Any], bytes]
    render: Callable[[bytes], bytes]

    @property
    def message_encoding(self) -> str:
        """MCAP's name for the payload's encoding."""
        return "json" if self.schema is not None else "application/octet-stream"


def _plain(value: object) -> str:
    if isinstance(value, bytes | bytearray):
        return value.hex()
    return str(value)


_JSON = json.JSONEncoder(allow_nan=False, separators=(",", ":"), default=_plain)


def to_json(value: Any) -> bytes:
    """Compact JSON; bytes become hex, numbers that are not finite become null."""
    try:
        text = _JSON.encode(value)
    except ValueError:
        text = _JSON.encode(_finite(value))
    return text.encode()


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


_JSON_TYPES = {"f32": "number", "char": "string"}


def _message_schema(message: type[protocol.Message]) -> dict[str, Any]:
    properties: dict[str, Any] = {"sequence": {"type": "integer", "description": "frame number of its direction"}}
    for name, wire in codec.wire_fields(message).items():
        kind: dict[str, Any] = {"type": _JSON_TYPES.get(wire.ctype, "integer")}
        if wire.ctype == "u8" and wire.count:
            kind = {"type": "string"}  # bytes, as hex
        elif wire.ctype == "f32" and wire.count:
            kind = {"type": "array", "items": kind, "minItems": wire.count, "maxItems": wire.count}
        properties[name] = {**kind, "description": f"[{wire.unit}]" if wire.unit else ""}
    return {"type": "object", "title": message.__name__, "properties": properties}


def _message_topic(message: type[protocol.Message]) -> Topic:
    def render(body: bytes) -> bytes:
        sequence, fields = codec.decode_body(body)
        return to_json({"sequence": sequence, **vars(fields)})

    name = f"/{codec.snake_case(message.__name__)}"
    return Topic(name, message.__name__, _message_schema(message), bytes, render)


def _tuple_topic(name: str, title: str, fields: dict[str, tuple[str, str]]) -> Topic:
    names = tuple(fields)
    schema = {
        "type": "object",
        "title": title,
        "properties": {key: {"type": kind, "description": text} for key, (kind, text) in fields.items()},
    }
    if any(kind == "string" for kind, _ in fields.values()):

        def pack_texts(payload: tuple[Any, ...]) -> bytes:
            return to_json(dict(zip(names, payload, strict=True)))

        return Topic(name, title, schema, pack_texts, bytes)
    layout = struct.Struct("<" + "".join("q" if kind == "integer" else "d" for kind, _ in fields.values()))

    def pack(payload: tuple[Any, ...]) -> bytes:
        return layout.pack(*payload)

    def render(packed: bytes) -> bytes:
        return to_json(dict(zip(names, layout.unpack(packed), strict=True)))

    return Topic(name, title, schema, pack, render)


def _object_topic(name: str, title: str, description: str) -> Topic:
    return Topic(name, title, {"type": "object", "title": title, "description": description}, to_json, bytes)


SESSION = _object_topic("/session", "Session", "first record: digests, configuration, versions, machine")
RESULT = _object_topic("/result", "Result", "last record: what `run --json` printed, and the histograms")
EVENT = _tuple_topic("/event", "Event", {"kind": ("string", "what happened"), "text": ("string", "details")})
HOST_ACTION = _tuple_topic(
    "/host_action",
    "HostAction",
    {
        "observation_tick": ("integer", "[control periods]"),
        "action": ("number", "[m/s^2] the host's policy; null while its history has a hole"),
    },
)
LATENCY = _tuple_topic(
    "/latency",
    "Latency",
    {
        "observation_tick": ("integer", "[control periods]"),
        "receive_ns": ("integer", "[ns] first byte of the frame to its last"),
        "decode_ns": ("integer", "[ns]"),
        "infer_ns": ("integer", "[ns]"),
        "encode_ns": ("integer", "[ns]"),
        "write_ns": ("integer", "[ns]"),
        "total_ns": ("integer", "[ns] last byte of the observation to the answer written"),
        "apply_ns": ("number", "[ns] written to its action applied on the device; null where it was not told"),
        "apply_uncertainty_ns": ("number", "[ns] of the clock that apply_ns was measured with; null like it"),
    },
)
CLOCK = _tuple_topic(
    "/clock",
    "Clock",
    {
        "offset_ns": ("integer", "[ns] host minus device time, which counts on where its 32 bits wrap"),
        "drift_ppm": ("number", "[ppm] by which the device's clock is slow"),
        "uncertainty_ns": ("integer", "[ns] the true offset lies within"),
        "round_trip_ns": ("integer", "[ns] smallest, without the time between receiving and sending"),
        "samples": ("integer", "answered observations since the estimate's last start"),
        "restarts": ("integer", "starts of the estimate behind the first"),
        "rejected": ("integer", "samples that no clock could give"),
    },
)
LINK_ERRORS = _tuple_topic(
    "/link_errors",
    "LinkErrors",
    {
        "rejected": ("integer", "[frames] no COBS code, too long, or a wrong CRC, since the port was opened"),
        "undecodable": ("integer", "[frames] unknown type, wrong length or wrong direction, with a right CRC"),
        "lost": ("integer", "[frames] that the sequence numbers say were sent"),
    },
)
"""Written when one of the numbers has changed, after the bytes that changed it; all zero for a port newly opened."""

DROPPED = _tuple_topic(
    "/dropped",
    "Dropped",
    {
        "topic": ("string", "whose records are missing here"),
        "count": ("integer", "[records] missing here"),
        "total": ("integer", "[records] missing of this topic since the log was opened"),
    },
)
RAW_RECEIVED = Topic("/raw/received", "", None, bytes, bytes)
RAW_SENT = Topic("/raw/sent", "", None, bytes, bytes)

MESSAGE_TOPICS: dict[type[protocol.Message], Topic] = {
    message: _message_topic(message) for message in protocol.MESSAGES if message.ROUTE in ("host>device", "device>host")
}
"""Topic of each message that travels on the link; the payload is the body of its frame."""

TOPICS: tuple[Topic, ...] = (
    SESSION,
    *MESSAGE_TOPICS.values(),
    HOST_ACTION,
    LATENCY,
    CLOCK,
    LINK_ERRORS,
    DROPPED,
    EVENT,
    RESULT,
    RAW_RECEIVED,
    RAW_SENT,
)

NUMBERS = {topic.name: number for number, topic in enumerate(TOPICS)}
"""Place of each topic in `TOPICS`, by its name."""
