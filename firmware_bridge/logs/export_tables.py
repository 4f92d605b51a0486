"""Tables as files: CSV, Parquet, and lines of JSON for records that are no rows. Each is written beside its name and
renamed at the end, so a failure leaves earlier files as they were."""

import contextlib
import csv
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from export.replace_files import regular_target
from firmware_bridge.errors import BridgeError
from firmware_bridge.logs import topics as log_topics
from firmware_bridge.logs.columns import Kind

_BATCH_ROWS = 8192

Head = Sequence[tuple[str, Kind | None]]
"""Name and kind of each column; kind None for bytes."""


class TableFile(Protocol):
    """One table being written; nothing is at `path` before `keep`."""

    path: Path

    def add(self, row: Sequence[Any]) -> None:
        """Append a row, one value a column; None in a column of numbers stands for what was not finite."""

    def keep(self) -> None:
        """Finish the file and give it its name."""

    def discard(self) -> None:
        """Forget the file, finished or not."""


class CsvFile:
    """RFC 4180, UTF-8. Numbers with as many digits as give them back; what was not finite is NaN; bytes in hex."""

    def __init__(self, path: Path, head: Head) -> None:
        self.path = path
        self._temporary = temporary_path(path)
        self._stream = self._temporary.open("w", encoding="utf-8", newline="")
        self._writer = csv.writer(self._stream, lineterminator="\n")
        self._kinds = [kind for _, kind in head]
        self._writer.writerow([name for name, _ in head])

    def add(self, row: Sequence[Any]) -> None:
        """Append a row."""
        self._writer.writerow([_csv_cell(value, kind) for value, kind in zip(row, self._kinds, strict=True)])

    def keep(self) -> None:
        """Finish the file and give it its name."""
        keep_stream(self._stream, self._temporary, self.path)

    def discard(self) -> None:
        """Forget the file."""
        self._temporary.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # on a full disk closing fails, too
            self._stream.close()


class ParquetFile:
    """Apache Parquet by pyarrow: int64, float64 (NaN for what was not finite), string, binary."""

    def __init__(self, path: Path, head: Head, metadata: dict[str, str]) -> None:
        pyarrow, parquet = load_pyarrow()
        kinds = {"integer": pyarrow.int64(), "number": pyarrow.float64(), "string": pyarrow.string()}
        fields = [(name, kinds[kind] if kind is not None else pyarrow.binary()) for name, kind in head]
        self.path = path
        self._temporary = temporary_path(path)
        self._schema = pyarrow.schema(fields, metadata=metadata)
        self._batch = pyarrow.record_batch
        self._numbers = [kind == "number" for _, kind in head]
        self._columns: list[list[Any]] = [[] for _ in head]
        self._writer: Any = parquet.ParquetWriter(self._temporary, self._schema, compression="zstd")

    def add(self, row: Sequence[Any]) -> None:
        """Append a row; rows are written in batches."""
        for values, value, number in zip(self._columns, row, self._numbers, strict=True):
            values.append(float("nan") if number and value is None else value)
        if len(self._columns[0]) >= _BATCH_ROWS:
            self._write()

    def keep(self) -> None:
        """Finish the file and give it its name."""
        self._write()
        self._writer.close()
        with self._temporary.open("rb+") as stream:
            os.fsync(stream.fileno())
        self._temporary.replace(regular_target(self.path))

    def discard(self) -> None:
        """Forget the file."""
        self._temporary.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self._writer.close()

    def _write(self) -> None:
        if self._columns[0]:
            self._writer.write_batch(self._batch(self._columns, schema=self._schema))
            self._columns = [[] for _ in self._columns]


class JsonLinesFile:
    """One JSON object a line, for records of any shape: time and record."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._temporary = temporary_path(path)
        self._stream = self._temporary.open("w", encoding="utf-8", newline="")

    def add(self, row: Sequence[Any]) -> None:
        """Append (number of the record, its time [ns since 1970], seconds, object)."""
        number, time_ns, time_s, value = row
        line = {"record": number, "log_time_ns": time_ns, "time_s": time_s, "value": value}
        self._stream.write(log_topics.to_json(line).decode() + "\n")

    def keep(self) -> None:
        """Finish the file and give it its name."""
        keep_stream(self._stream, self._temporary, self.path)

    def discard(self) -> None:
        """Forget the file."""
        self._temporary.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # on a full disk closing fails, too
            self._stream.close()


def load_pyarrow() -> tuple[Any, Any]:
    """pyarrow and pyarrow.parquet. Raises BridgeError naming the extra."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise BridgeError(
            f"--parquet: pyarrow is not there ({error}); install it with `pip install "
            "'bayesian-policy-distillation[parquet]'`, or use --csv"
        ) from error
    return pyarrow, parquet


def temporary_path(path: Path) -> Path:
    """Where a file is written before it gets its name. Raises OSError where that belongs to no regular file."""
    target = regular_target(path)
    return target.with_name(f".{target.name}.{os.getpid()}.part")


def keep_stream(stream: Any, temporary: Path, path: Path) -> None:
    """Close a stream once the disk has everything, and rename its file. Raises OSError."""
    stream.flush()
    os.fsync(stream.fileno())
    stream.close()
    temporary.replace(regular_target(path))


def _csv_cell(value: Any, kind: Kind | None) -> Any:
    if kind is None:
        return value.hex()
    return "NaN" if value is None and kind == "number" else value
