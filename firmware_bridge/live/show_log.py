"""The verb `live`: a log shown on the live page at the speed at which it was recorded, or another."""

import dataclasses
import time
from typing import Any

from firmware_bridge.config import Live
from firmware_bridge.errors import LogError
from firmware_bridge.live.feed import Counts
from firmware_bridge.live.page import LivePage, LiveSettings, live_page
from firmware_bridge.logs import topics as log_topics
from firmware_bridge.logs.read_log import LogReader, Record, number
from firmware_bridge.safety.controls import Controls
from firmware_bridge.safety.signals import StopSignals
from hardware.codec import encode_body
from hardware.errors import ProtocolError
from hardware.framing import SequenceCounter
from hardware.protocol import MESSAGES, LinkStatistics, Observation, Timing

_OBSERVATION = log_topics.MESSAGE_TOPICS[Observation]
_TIMING = log_topics.MESSAGE_TOPICS[Timing]
_STATISTICS = log_topics.MESSAGE_TOPICS[LinkStatistics].name
_FROM_DEVICE = {log_topics.MESSAGE_TOPICS[message].name for message in MESSAGES if message.ROUTE == "device>host"}
_TOPICS = (*_FROM_DEVICE, log_topics.LATENCY.name, log_topics.EVENT.name, log_topics.RESULT.name)
_POLL_S = 0.1
_LONGEST_GAP_S = 86_400  # a device that says nothing for half a second has ended its log


@dataclasses.dataclass
class _Counted:
    """What the log says of the link: frames missing here, and the device's own counters since its first report."""

    received: SequenceCounter
    first: dict[str, int] | None = None
    newest: dict[str, int] | None = None

    def counts(self) -> Counts:
        """The page's counters; what only the running bridge knew is 0."""
        if self.first is None or self.newest is None:
            return Counts(0, self.received.lost, 0, 0, 0, 0)
        names = ("crc_errors", "lost", "stale_commands", "refused")
        crc_errors, lost, stale, refused = (max(0, self.newest[name] - self.first[name]) for name in names)
        return Counts(crc_errors, self.received.lost + lost, stale, refused, 0, 0)


def show_log(config: Live) -> dict[str, Any]:
    """Wait until the page is opened, then show the log; the JSON of the verb. Raises BridgeError, StopRequested."""
    reader = LogReader(config.log, _TOPICS)
    settings = LiveSettings(config.live_bind, config.live_port)
    shown = 0
    with Controls() as controls, StopSignals(controls), live_page(settings, controls) as page:
        while not page.watched.is_set():
            controls.wait(_POLL_S)
            controls.poll()
        counted = _Counted(SequenceCounter())
        page.feed.counts = counted.counts
        page.feed.take(log_topics.SESSION, time.monotonic_ns(), reader.session)
        started_ns, first_ns, newest_ns = time.monotonic_ns(), 0, 0
        for record in reader:
            first_ns = first_ns or record.time_ns
            gap_s = (record.time_ns - (newest_ns or first_ns)) / 1e9
            newest_ns = max(newest_ns, record.time_ns)
            if gap_s > _LONGEST_GAP_S:
                raise LogError(
                    f"log {reader.path}: a record of {record.topic} is {gap_s:.0f} s later than all before, expected "
                    "a day at most; its stamps are damaged: read it with `python -m firmware_bridge report`"
                )
            due_ns = started_ns + round((record.time_ns - first_ns) / config.speed)
            while (left_ns := due_ns - time.monotonic_ns()) > 0:
                controls.wait(left_ns / 1e9)
                controls.poll()
            try:
                _show(record, page, counted)
            except (KeyError, TypeError, ValueError, OverflowError, ProtocolError) as error:
                raise LogError(
                    f"log {reader.path}: a record of {record.topic} is not what firmware_bridge writes ({error!r}); "
                    "expected a log of this version; record it again"
                ) from error
            shown += 1
        if page.result is None:
            page.result = {"text": f"the log ends here: {reader.cut or 'no result'}", "armed": True, "stop": None}
    return {"log": str(reader.path), "complete": reader.complete, "cut": reader.cut, "records": shown}


def _show(record: Record, page: LivePage, counted: _Counted) -> None:
    now, value, take = time.monotonic_ns(), record.value, page.feed.take
    if record.topic in _FROM_DEVICE:
        counted.received.update(value["sequence"])
    if record.topic == _OBSERVATION.name:
        # Shown at once: nobody waits for an answer here.
        take(_OBSERVATION, now, encode_body(_observation(value), 0))
        take(log_topics.RAW_SENT, now, b"")
    elif record.topic == _TIMING.name:
        take(_TIMING, now, encode_body(Timing(**_fields(value)), 0))
    elif record.topic == _STATISTICS:
        counted.newest = value
        counted.first = counted.first or value
    elif record.topic == log_topics.LATENCY.name:
        take(log_topics.LATENCY, now, (0, 0, 0, 0, 0, 0, value["total_ns"]))
    elif record.topic == log_topics.EVENT.name:
        take(log_topics.EVENT, now, (str(value["kind"]), str(value["text"])))
    elif record.topic == log_topics.RESULT.name:
        page.result = {"text": f"the log is over ({value['ended_by']})", "armed": True, "stop": value["stop"]}


def _fields(value: dict[str, Any]) -> dict[str, Any]:
    return {name: field for name, field in value.items() if name != "sequence"}


def _observation(value: dict[str, Any]) -> Observation:
    fields = _fields(value)
    for name in ("current", "previous"):
        fields[name] = tuple(number(item) for item in fields[name])
    return Observation(**{**fields, "applied_action": number(fields["applied_action"])})


def print_shown(result: dict[str, Any]) -> None:
    """What was shown, as a table."""
    from firmware_bridge.reports.tables import console, two_columns

    complete = "yes" if result["complete"] else f"no: {result['cut']}"
    rows = [("complete", complete), ("records shown", str(result["records"]))]
    console().print(two_columns(f"log {result['log']}", rows))
