"""Writes frames.json, the frames that Python and C are both held to. Run it after a change of the schema, and read
the difference before committing it."""

import dataclasses
import json
from pathlib import Path

from hardware.codec import SCHEMA_HASH, decode_body, encode_body
from hardware.framing import frame_body
from hardware.protocol import (
    Acknowledge,
    Action,
    Actuate,
    Arm,
    Command,
    Config,
    Disarm,
    ExchangeDone,
    FaultReport,
    Heartbeat,
    Hello,
    HelloReply,
    LinkStatistics,
    Observation,
    Sensors,
    Timing,
)

# Values with zero bytes inside, at the ends and everywhere; the extremes of every type; odd floats.
MESSAGES = (
    (0, Hello(1, 0)),
    (1, Hello(255, 0xDEADBEEF)),
    (0x00FF, Config(0x00112200, 2, 2, 0)),
    (0xFF00, Arm(0x01000000, 0x00000001)),
    (3, Disarm(0)),
    (4, Command(0xFFFFFFFF, 0x7FFFFFFF, -20.0)),
    (5, Command(1, 0, -0.0)),
    (6, Command(1, 2, float("inf"))),
    (7, Heartbeat(0x00010203, 0x04050600)),
    (65535, HelloReply(1, 2, 3, 0xFFFF, 20000, 5, 5, bytes(range(32)), "host", 20.0, 3, 1)),
    (0, HelloReply(1, 2, 3, 0, 0, 0, 0, bytes(32), "sixteen letters!", 1e-45, 255, 0)),
    (9, Acknowledge(3, 0xFF00, 6)),
    (10, Observation(1, 20000, (0.1, -0.2, 0.3, -0.4, 0.5), (0.0,) * 5, 12.5, 2, 0, 7)),
    (11, Observation(0xFFFFFFFF, 0, (1e38, -1e38, 1e-38, 0.0, 3.4e38), (1.0,) * 5, -20.0, 4, 1, 31)),
    (12, Action(7, 1.5)),
    (18, Timing(7, 20000, 0xFFFFFFFF, 65535)),
    (19, Timing(0, 0, 0, 0)),
    (13, FaultReport(1, 100, 2)),
    (14, LinkStatistics(1, 2, 3, 4)),
    (15, Sensors(1, 20000, -2147483648, 2147483647, 31)),
    (16, Actuate(1, -15.0, 0.25, 2, 5)),
    (17, ExchangeDone(0)),
)


def golden() -> dict[str, object]:
    """What the file holds."""
    frames = []
    for sequence, message in MESSAGES:
        body = encode_body(message, sequence)
        fields = {  # as text: JSON has neither infinity nor bytes
            name: value.hex() if isinstance(value, bytes) else repr(value)
            for name, value in dataclasses.asdict(decode_body(body)[1]).items()
        }
        frames.append(
            {
                "message": type(message).__name__,
                "sequence": sequence,
                "fields": fields,
                "body": body.hex(),
                "frame": frame_body(body).hex(),
            }
        )
    return {"schema_hash": SCHEMA_HASH, "frames": frames}


if __name__ == "__main__":
    Path(__file__).with_name("frames.json").write_text(json.dumps(golden(), indent=1) + "\n")
