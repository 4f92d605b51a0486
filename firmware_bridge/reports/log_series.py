"""What a report needs of a log, as columns: read once, record by record, so that an hour at 1 kHz fits in memory."""

import array
import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from firmware_bridge.device.observation_order import ObservationOrder
from firmware_bridge.errors import LogError
from firmware_bridge.logs import topics as log_topics
from firmware_bridge.logs.columns import Column, Field, columns_of, known_fields, require
from firmware_bridge.logs.read_log import LogReader, Record
from firmware_bridge.logs.read_progress import with_progress
from hardware.protocol import Disarm, FaultReport, LinkStatistics, Observation, State, Timing

Array = NDArray[np.float64]

OBSERVATION = log_topics.MESSAGE_TOPICS[Observation].name
TIMING = log_topics.MESSAGE_TOPICS[Timing].name
STATISTICS = log_topics.MESSAGE_TOPICS[LinkStatistics].name
DISARM = log_topics.MESSAGE_TOPICS[Disarm].name
FAULT = log_topics.MESSAGE_TOPICS[FaultReport].name
LATENCY = log_topics.LATENCY.name
ERRORS = log_topics.LINK_ERRORS.name
CLOCK = "/clock"

_NUMBERS = (OBSERVATION, LATENCY, TIMING, STATISTICS, ERRORS, CLOCK, DISARM)
_TEXTS = (log_topics.EVENT.name, FAULT, log_topics.DROPPED.name)
_TICKS = 0xFFFF_FFFF
_TEXTS_LIMIT = 100_000  # events; a run has a handful
_KEYS: dict[str, tuple[str, ...]] = {
    OBSERVATION: ("tick", "current", "applied_action", "state", "flags"),
    TIMING: ("tick", "action_age_us", "response_us", "inference_us"),
}
"""Of these topics only what is drawn; of the others every number."""


@dataclasses.dataclass(frozen=True)
class Series:
    """One topic: when each record was stamped [ns since 1970], and its columns, all (n,). NaN stands for null."""

    time_ns: NDArray[np.int64]
    columns: dict[str, Array]

    def __len__(self) -> int:
        return len(self.time_ns)

    def __getitem__(self, name: str) -> Array:
        return self.columns[name]

    def where(self, chosen: NDArray[np.bool_]) -> "Series":
        """The records that are `chosen`, (n,)."""
        return Series(self.time_ns[chosen], {name: values[chosen] for name, values in self.columns.items()})

    def last(self, count: int) -> "Series":
        """The newest `count` records."""
        return Series(self.time_ns[-count:], {name: values[-count:] for name, values in self.columns.items()})


@dataclasses.dataclass(frozen=True)
class LogSeries:
    """A log as columns. `events` are (time [ns], topic, record) of what is rare; see `LogReader` for the rest."""

    path: Path
    parts: int
    session: dict[str, Any]
    result: dict[str, Any] | None
    complete: bool
    damaged: bool
    cut: str
    events: list[tuple[int, str, dict[str, Any]]]
    topics: dict[str, Series]

    def __getitem__(self, topic: str) -> Series:
        return self.topics[topic]

    @property
    def period_s(self) -> float:
        """Control period [s]; 0 when the session does not say one that can be."""
        period_us = self.session.get("period_us")
        # The bounds are the protocol's: nothing slower balances, nothing faster is a period of this loop.
        return period_us * 1e-6 if type(period_us) is int and 100 <= period_us <= 10_000_000 else 0.0

    @property
    def armed(self) -> Series:
        """The observations in state ARMED."""
        observations = self[OBSERVATION]
        return observations.where(observations["state"] == State.ARMED)

    @property
    def steps(self) -> Series:
        """The ARMED observations that are steps of the run, answered or not, as the run itself counts them.

        From the one that answered ARM (which state ARMED begins with), for as many periods as the run was to last, and
        until DISARM was sent. The newest before that ended the run if it has no answer. In a log that was cut off the
        last answer is the end: those behind it may be missing. None in a log without answers (a dry run).
        """
        observations = self[OBSERVATION]
        armed = observations["state"] == State.ARMED
        answered = armed & np.isin(observations["tick"], self[LATENCY]["observation_tick"])
        places = np.flatnonzero(answered)
        if not len(places):
            return observations.where(answered)
        idle = np.flatnonzero(~armed[: places[0]])
        start = int(idle[-1]) + 1 if len(idle) else 0
        armed[:start] = False
        if self.result is None:
            armed[places[-1] + 1 :] = False
            return observations.where(armed)
        stops_ns = self[DISARM].time_ns
        later_ns = stops_ns[stops_ns > observations.time_ns[start]]
        seen = observations.time_ns < (later_ns[0] if len(later_ns) else np.iinfo(np.int64).max)
        newest = np.flatnonzero(seen)[-1]
        armed[newest] = answered[newest]
        periods = self.session.get("periods")
        if type(periods) is int:
            seen &= ticks_since(observations["tick"], observations["tick"][start]) < periods
        return observations.where(armed & seen)


def ticks_since(ticks: Array, first: float) -> NDArray[np.int64]:
    """How many ticks each of `ticks` is behind `first`, (n,); a device's counter goes on at 0 after 2^32 - 1."""
    behind: NDArray[np.int64] = (ticks.astype(np.int64) - int(first)) & _TICKS
    return behind


class _Columns:
    """Columns of one topic while they grow; 8 bytes a number."""

    def __init__(self) -> None:
        self.time_ns = array.array("q")
        self.columns: list[tuple[Column, array.array[float]]] = []

    def add(self, record: Record) -> None:
        self.time_ns.append(min(record.time_ns, 2**63 - 1))
        for column, values in self.columns:
            value = record.value[column.key]
            if column.index is not None:
                value = value[column.index]
            values.append(math.nan if value is None else value)

    def series(self, names: Sequence[str]) -> Series:
        # frombuffer would do without the copy, but not for an empty array.
        found = {_plain_name(column): np.array(values, np.float64) for column, values in self.columns}
        empty = {name: np.zeros(0) for name in names if name not in found}
        return Series(np.array(self.time_ns, np.int64), {**found, **empty})


def read_series(path: Path) -> LogSeries:
    """Read a log into columns; observations that came late or again are left out. Raises LogError."""
    reader = LogReader(path, (*_NUMBERS, *_TEXTS, log_topics.RESULT.name))
    tables = {topic: _Columns() for topic in _NUMBERS}
    events: list[tuple[int, str, dict[str, Any]]] = []
    result: dict[str, Any] | None = None
    order = ObservationOrder()
    for record in with_progress(reader, "reading"):
        if record.topic in tables:
            table = tables[record.topic]
            if not table.time_ns:
                table.columns = _chosen(reader, record.topic)
            if record.topic != OBSERVATION or order.take(record.value["tick"], record.value["state"]):
                table.add(record)
        elif record.topic in _TEXTS:
            if len(events) >= _TEXTS_LIMIT:
                raise LogError(
                    f"log {reader.path}: more than {_TEXTS_LIMIT} events and faults, expected a handful; "
                    "export it instead"
                )
            events.append((record.time_ns, record.topic, record.value))
        elif record.topic == log_topics.RESULT.name:
            result = record.value
    topics = {topic: table.series(_names(topic)) for topic, table in tables.items()}
    return LogSeries(
        path=reader.path,
        parts=len(reader.parts),
        session=reader.session,
        result=result,
        complete=reader.complete,
        damaged=reader.damaged,
        cut=reader.cut,
        events=events,
        topics=topics,
    )


def _chosen(reader: LogReader, topic: str) -> list[tuple[Column, "array.array[float]"]]:
    fields = reader.fields[topic] or ()
    require(topic, fields, _expected(topic), reader.path)
    keys = _KEYS.get(topic) or tuple(field.key for field in fields)
    columns = [column for column in columns_of(fields) if column.key in keys and column.kind != "string"]
    return [(column, array.array("d")) for column in columns]


def _expected(topic: str) -> list[Field]:
    """What must be in a topic, as this version writes it; nothing for topics that it does not know."""
    keys = ("observation_tick", "total_ns") if topic == LATENCY else _KEYS.get(topic)
    return [field for field in known_fields(topic) if keys is None or field.key in keys]


def _names(topic: str) -> list[str]:
    return [_plain_name(column) for column in columns_of(_expected(topic))]


def _plain_name(column: Column) -> str:
    return column.key if column.index is None else f"{column.key}.{column.index}"
