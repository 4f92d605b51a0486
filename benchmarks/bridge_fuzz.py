"""Ten million hostile bytes at the host's side of the link: framing, codec, Conversation, and what the log makes of it.

    python -m benchmarks.bridge_fuzz [--bytes 10000000] [--seed 0]

Ends with 1 at the first thing that is not as it must be. `--keep` writes the figures into
docs/results/bridge_faults.json, where `make bench-faults` has left its own.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
import tracemalloc
from pathlib import Path
from typing import Any

from benchmarks.hostile_bytes import LANDMARK_TICK, hostile_pieces
from benchmarks.provenance import ROOT
from distill.result_file import write_json
from firmware_bridge.device.conversation import Conversation
from firmware_bridge.device.stopped_device import stopped_error
from firmware_bridge.logs.recorder import Recorder
from firmware_bridge.logs.topics import LINK_ERRORS, Topic
from firmware_bridge.loop.history import History
from firmware_bridge.loop.tally import Tally
from firmware_bridge.ports.link import Link
from hardware.framing import MAXIMUM_ENCODED_SIZE
from hardware.protocol import Action, Mode, Observation, Timing

STORED = ROOT / "docs" / "results" / "bridge_faults.json"
_GROWTH_LIMIT_BYTES = 1_000_000
_WARM_UP_PIECES = 200


class Fed(Link):
    """A link that has been given its bytes."""

    def __init__(self) -> None:
        self.name, self.baudrate, self.data = "fed", None, b""
        self.written = bytearray()

    def wait(self, timeout_s: float) -> bool:
        """There is always something."""
        return True

    def read(self) -> bytes:
        """What was given, once."""
        data, self.data = self.data, b""
        return data

    def write(self, data: bytes) -> None:
        """Keep what was sent."""
        self.written += data


class NoPolicy:
    """A backend that computes nothing: what is hostile here is the link, not the network."""

    name = "none"

    def reset(self) -> None:
        """Nothing is kept."""

    def observe(self, frame: tuple[float, ...]) -> None:
        """Nothing is kept."""

    def step(self, frame: tuple[float, ...]) -> float:
        """Any finite number."""
        return 1.0


def log(topic: Topic, time_ns: int, payload: Any) -> None:
    """Every record must be one that the log's writer takes."""
    record = topic.render(topic.pack(payload))
    if topic.schema is not None:
        json.loads(record)


def fuzz(size: int, seed: int) -> dict[str, Any]:
    """Feed `size` bytes; figures. Raises AssertionError, or whatever the bridge should not have raised."""
    link, recorder = Fed(), Recorder(Path("unused"), capacity_bytes=0)
    recorder.tap = log
    conversation = Conversation(link, recorder)
    history, tally = History(NoPolicy(), 5), Tally(20_000)
    total = segments = messages = reads = 0
    base = peak = 0
    tracemalloc.start()
    try:
        for index, piece in enumerate(hostile_pieces(size, seed)):
            total += len(piece)
            segments += sum(map(bool, piece.split(b"\0")))
            link.data = piece
            received = conversation.receive(0.0)
            reads += 1
            messages += len(received)
            newest = received[-1] if received else None
            tick = (LANDMARK_TICK + index) & 0xFFFF_FFFF
            assert isinstance(newest, Observation), "the frame behind the garbage was not decoded"
            assert newest.tick == tick, f"decoded tick {newest.tick:#x}, expected {tick:#x}"
            assert conversation.observation is newest
            for message in received:
                assert message.ROUTE == "device>host"
                if isinstance(message, Observation):
                    stopped_error(conversation, message, tick)
                    action = history.step(message.tick, message.current, message.previous)
                    assert action is None or math.isfinite(action)
                    tally.host_action(message.tick, 1.0)
                elif isinstance(message, Action):
                    tally.device_action(message)
                elif isinstance(message, Timing):
                    tally.device_timing(message, Mode.SHADOW)
            recorder.pump()
            link.written.clear()
            conversation.answer()
            assert conversation.unanswered is False
            assert len(link.written) > 0
            conversation.answer()  # answered once, whatever came how often
            assert len(conversation.faults) <= 1000
            assert len(conversation._decoder._pending) <= MAXIMUM_ENCODED_SIZE
            if index == _WARM_UP_PIECES:
                base = tracemalloc.get_traced_memory()[0]
            elif index > _WARM_UP_PIECES and index % 100 == 0:
                peak = max(peak, tracemalloc.get_traced_memory()[0] - base)
    finally:
        tracemalloc.stop()
    recorder.pump()
    decoder = conversation._decoder
    assert decoder.frames + decoder.rejected == segments, "a frame was counted twice, or not at all"
    passed_over = conversation.counters().out_of_order
    assert decoder.frames == messages + conversation._undecodable + passed_over
    assert conversation.bytes_received == total
    # Every message, every read, and a heartbeat (message and bytes) for each piece went to the log.
    dropped = recorder.dropped - recorder.dropped_by_topic.get(LINK_ERRORS.name, 0)
    assert dropped == messages + passed_over + reads + 2 * reads
    assert peak < _GROWTH_LIMIT_BYTES, f"memory grew by {peak:,} bytes"
    return {
        "bytes": total,
        "seed": seed,
        "frames": decoder.frames,
        "messages": messages,
        "undecodable": conversation._undecodable,
        "crc_errors": decoder.crc_errors,
        "garbage": decoder.garbage,
        "oversize": decoder.oversize,
        "memory_growth_bytes": peak,
    }


def main() -> None:
    """Feed, say what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bytes", type=int, default=10_000_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", action="store_true", help="write the figures into docs/results/bridge_faults.json")
    arguments = parser.parse_args()
    started = time.monotonic()
    result = fuzz(arguments.bytes, arguments.seed)
    print(json.dumps({**result, "seconds": time.monotonic() - started}))
    if arguments.keep:
        if not STORED.is_file():
            sys.exit(f"error: {STORED}: no such file, expected the results of `make bench-faults`; run it first")
        write_json(STORED, {**json.loads(STORED.read_text(encoding="utf-8")), "fuzz": result})


if __name__ == "__main__":
    main()
