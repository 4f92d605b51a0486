"""The verb `ping`: round trips of HELLO, and what most likely makes them slow. Arms nothing, configures nothing.

A round trip is HELLO written to HELLO_REPLY readable, on this computer's clock; one that is not answered within
`_TIMEOUT_S` is lost. It holds the wire both ways, the driver, and the device's look at its link (once per pass of its
main loop). A device that is armed answers, too, but HELLO takes the nonce of whoever is about to arm it: do not ping
while another program talks.
"""

import dataclasses
import gc
import math
import time
from pathlib import Path
from typing import Any

from firmware_bridge.config import Ping
from firmware_bridge.device.conversation import Conversation
from firmware_bridge.device.handshake import greet
from firmware_bridge.device.link_verdict import Evidence, latency_timer_ms, stolen_and_runnable, verdict_of
from firmware_bridge.latency.stage_histograms import DurationHistogram
from firmware_bridge.logs.recorder import Recorder
from firmware_bridge.ports.link import open_link
from hardware.codec import body_size
from hardware.protocol import PROTOCOL_VERSION, Hello, HelloReply

_TIMEOUT_S = 0.25
_SPACING_S = 0.01  # between two: a device answers once per pass of its loop
_OVERHEAD_BYTES = 4
_BITS_PER_BYTE = 10


def ping(config: Ping) -> dict[str, Any]:
    """Measure; the JSON of the verb. Raises BridgeError, also where nobody answers at all."""
    link = open_link(config.port, config.baudrate)
    try:
        conversation = Conversation(link, Recorder(Path("unused"), capacity_bytes=0))
        reply = greet(conversation)
        before = conversation.counters()
        load = stolen_and_runnable()
        round_trips = DurationHistogram()
        started = time.monotonic()
        collecting = gc.isenabled()
        gc.disable()
        try:
            sent, unanswered = _exchange(conversation, config, round_trips)
        finally:
            if collecting:
                gc.enable()
        duration_s = time.monotonic() - started
        counters = conversation.counters().since(before)
        baudrate = link.baudrate
    finally:
        link.close()
    percentiles = round_trips.percentiles(duration_s)
    after = stolen_and_runnable()
    wire_us = 0.0
    if baudrate is not None:
        size = body_size(Hello) + body_size(HelloReply) + 2 * _OVERHEAD_BYTES
        wire_us = size * _BITS_PER_BYTE * 1e6 / baudrate
    evidence = Evidence(
        round_trip=percentiles,
        sent=sent,
        unanswered=unanswered,
        crc_errors=counters.crc_errors,
        lost=counters.lost,
        wire_us=wire_us,
        latency_timer_ms=latency_timer_ms(link.name),
        stolen=(after.stolen_s - load.stolen_s) / duration_s if duration_s else 0.0,
        runnable=after.runnable,
        processors=after.processors,
    )
    return {
        "port": config.port,
        "board": reply.board,
        "round_trip_us": dataclasses.asdict(percentiles),
        "sent": sent,
        "unanswered": unanswered,
        "crc_errors": counters.crc_errors,
        "lost": counters.lost,
        "wire_us": wire_us,
        "latency_timer_ms": evidence.latency_timer_ms,
        "processor": {"stolen": evidence.stolen, "runnable": evidence.runnable, "processors": evidence.processors},
        "verdict": verdict_of(evidence),
    }


def _exchange(conversation: Conversation, config: Ping, round_trips: DurationHistogram) -> tuple[int, int]:
    sent = unanswered = 0
    count = config.count if config.count is not None else math.inf
    until = time.monotonic() + config.duration_s
    while sent < count and (sent == 0 or time.monotonic() < until):
        nonce = (sent + 1) & 0xFFFF_FFFF
        begin_ns = time.monotonic_ns()
        conversation.send(Hello(PROTOCOL_VERSION, nonce))
        sent += 1
        deadline = time.monotonic() + _TIMEOUT_S
        while (left := deadline - time.monotonic()) > 0:
            replies = [message for message in conversation.receive(left) if isinstance(message, HelloReply)]
            ready_ns = conversation.last_ns
            conversation.answer()  # in lock-step the device waits for it
            if any(reply.host_nonce == nonce for reply in replies):
                round_trips.record(ready_ns - begin_ns)
                break
        else:
            unanswered += 1
        pause = time.monotonic() + _SPACING_S
        while (left := pause - time.monotonic()) > 0:
            conversation.receive(left)
            conversation.answer()
    return sent, unanswered


def print_ping(result: dict[str, Any]) -> None:
    """Percentiles and the verdict."""
    from firmware_bridge.reports.tables import console, latency_text, two_columns

    timer = result["latency_timer_ms"]
    rows = [
        ("device", result["board"]),
        ("round trip of HELLO", latency_text(result["round_trip_us"])),
        ("of that the bits on the wire", f"{result['wire_us']:.0f} us"),
        ("unanswered", f"{result['unanswered']} of {result['sent']}"),
        ("checksum errors, both directions", str(result["crc_errors"])),
        ("frames lost, both directions", str(result["lost"])),
        ("latency timer of the adapter", "none" if timer is None else f"{timer} ms"),
        ("verdict", result["verdict"]["text"]),
    ]
    console().print(two_columns(f"ping {result['port']}", rows))
