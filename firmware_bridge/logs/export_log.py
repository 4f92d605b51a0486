"""The verb `export`: a log as tables for pandas, polars, R, a spreadsheet; one file a topic."""

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from firmware_bridge.config import Export
from firmware_bridge.errors import LogError
from firmware_bridge.logs import topics as log_topics
from firmware_bridge.logs.columns import Column, columns_of
from firmware_bridge.logs.export_tables import CsvFile, Head, JsonLinesFile, ParquetFile, TableFile, load_pyarrow
from firmware_bridge.logs.parts import files_of, refuse_to_replace
from firmware_bridge.logs.read_log import LogReader, Record
from firmware_bridge.logs.read_progress import with_progress

_TOPICS_LIMIT = 200
_NAME_LIMIT = 80
_FIRST: Head = (("record", "integer"), ("log_time_ns", "integer"), ("time_s", "number"))
"""In every table: the record's place in the whole log, its time since 1970, and since the first record."""


class _Topic:
    """The files that one topic goes into."""

    def __init__(self, reader: LogReader, record: Record, folders: dict[str, Path]) -> None:
        self.rows = 0
        self.files: list[TableFile] = []
        name = _file_name(record.topic)
        fields = reader.fields.get(record.topic)
        self._raw = not isinstance(record.value, dict)
        self._columns = columns_of(fields, _element_names(reader)) if fields is not None else None
        metadata = {"log": reader.path.name, "session": log_topics.to_json(reader.session).decode()}
        for kind, folder in folders.items():
            if self._columns is None and not self._raw:
                self.files.append(JsonLinesFile(folder / f"{name}.jsonl"))
            elif kind == "csv":
                self.files.append(CsvFile(folder / f"{name}.csv", self._head("data_hex")))
            else:
                self.files.append(ParquetFile(folder / f"{name}.parquet", self._head("data"), metadata))

    def add(self, number: int, time_s: float, record: Record) -> None:
        """Append one record to every file."""
        row = [number, record.time_ns, time_s]
        if self._columns is None:
            row.append(record.value)
        else:
            row += [_cell(record.value, column) for column in self._columns]
        for file in self.files:
            file.add(row)
        self.rows += 1

    def _head(self, bytes_name: str) -> Head:
        if self._columns is None:
            return (*_FIRST, (bytes_name, None))
        return (*_FIRST, *((column.name, column.kind) for column in self._columns))


def export_log(config: Export) -> dict[str, Any]:
    """Write all tables; none is replaced before all are complete. Raises LogError, BridgeError, OSError."""
    if config.parquet is not None:
        load_pyarrow()
    folders = {kind: folder for kind, folder in (("csv", config.csv), ("parquet", config.parquet)) if folder}
    reader, inputs = LogReader(config.log), files_of(config.log)
    for folder in folders.values():
        folder.mkdir(parents=True, exist_ok=True)
    with _topics() as topics:
        first_ns: int | None = None
        for number, record in enumerate(with_progress(reader, "exporting")):
            first_ns = record.time_ns if first_ns is None else first_ns
            topic = topics.get(record.topic)
            if topic is None:
                topic = topics[record.topic] = _open(reader, record, folders, topics)
                refuse_to_replace(inputs, (file.path for file in topic.files))
            topic.add(number, (record.time_ns - first_ns) / 1e9, record)
        for topic in topics.values():
            for file in topic.files:
                file.keep()
        return {
            "log": str(reader.path),
            "parts": len(reader.parts),
            "complete": reader.complete,
            "cut": reader.cut,
            "records": sum(topic.rows for topic in topics.values()),
            "files": [
                {"topic": name, "path": str(file.path), "rows": topic.rows}
                for name, topic in topics.items()
                for file in topic.files
            ],
        }


def print_export(result: dict[str, Any]) -> None:
    """The files as a table."""
    from rich.table import Table

    from firmware_bridge.reports.tables import console

    out = console()
    table = Table("topic", "rows", "file", title=f"{result['records']:,} records", title_justify="left")
    for file in result["files"]:
        table.add_row(file["topic"], f"{file['rows']:,}", file["path"])
    out.print(table)
    if not result["complete"]:
        out.print(f"the log was cut off: {result['cut']}; the tables hold what came before")


@contextlib.contextmanager
def _topics() -> Iterator[dict[str, _Topic]]:
    topics: dict[str, _Topic] = {}
    try:
        yield topics
    except BaseException:
        for topic in topics.values():
            for file in topic.files:
                with contextlib.suppress(Exception):  # the first failure is the one to report
                    file.discard()
        raise


def _open(reader: LogReader, record: Record, folders: dict[str, Path], topics: dict[str, _Topic]) -> _Topic:
    if len(topics) >= _TOPICS_LIMIT:
        raise LogError(f"log {reader.path}: more than {_TOPICS_LIMIT} topics, expected a log of firmware_bridge")
    name = _file_name(record.topic)
    twin = next((other for other in topics if _file_name(other) == name), None)
    if twin is not None:
        raise LogError(f"log {reader.path}: topics {twin!r} and {record.topic!r} would both go into {name}; rename one")
    return _Topic(reader, record, folders)


def _file_name(topic: str) -> str:
    """A name without folders, whatever the topic is called."""
    return re.sub(r"[^A-Za-z0-9_-]+", "_", topic.strip("/"))[:_NAME_LIMIT] or "_"


def _element_names(reader: LogReader) -> tuple[str, ...]:
    names = reader.session.get("observation_names")
    if not isinstance(names, list) or not all(isinstance(name, str) and len(name) < _NAME_LIMIT for name in names):
        return ()
    return tuple(names)


def _cell(value: dict[str, Any], column: Column) -> Any:
    found = value[column.key]
    return found if column.index is None else found[column.index]
