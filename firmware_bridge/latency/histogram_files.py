"""Histograms as files: NAME.hgrm (percentiles, for HdrHistogram's plotters) and NAME.hlog (mergeable), and back.

Both are the usual text formats of HdrHistogram. Values are nanoseconds in .hlog and microseconds in .hgrm.
"""

import base64
import binascii
import re
import struct
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from export.errors import ExportError
from export.replace_files import replace_files
from firmware_bridge.errors import BridgeError, LogError
from firmware_bridge.latency.duration_counts import HIGHEST_NS, LOWEST_NS, DurationCounts, lower_edges, merge_counts
from firmware_bridge.latency.stage_histograms import decode_histogram
from firmware_bridge.logs.parts import refuse_to_replace

CORRECTED = ".corrected"
_FILE_LIMIT_BYTES = 16 * 1024 * 1024
_PAYLOAD_LIMIT_BYTES = 4 * 1024 * 1024  # of ours 40 kB at most
_LINE = re.compile(r"(?:Tag=[^,]*,)?([0-9.]{1,30}),([0-9.]{1,30}),([0-9.]{1,30}),([A-Za-z0-9+/=]+)")
_V2_HEAD = struct.Struct(">IIIIQQd")
_COOKIE_V2 = 0x1C849303
_COOKIE_V2_COMPRESSED = 0x1C849304
_COOKIE_MASK = ~0xF0  # the size of a word


def write_histograms(
    directory: Path, histograms: dict[str, DurationCounts], start_s: float, inputs: Iterable[Path] = ()
) -> list[str]:
    """Write both files of each histogram; `start_s` is when the first value was taken [s since 1970].

    The names of the files. A failure leaves earlier files as they were, and none of `inputs`, which were read, is
    replaced. Raises BridgeError.
    """
    files: dict[str, bytes] = {}
    for name, counts in histograms.items():
        files[f"{name}.hgrm"] = counts.hgrm().encode()
        files[f"{name}.hlog"] = _hlog(counts, start_s).encode()
    refuse_to_replace(inputs, (directory / name for name in files))
    try:
        replace_files(directory, files)
    except ExportError as error:
        raise BridgeError(str(error)) from error
    return sorted(files)


def read_histograms(directory: Path) -> dict[str, DurationCounts]:
    """All .hlog files of a folder by name, each with its intervals merged. Raises LogError."""
    paths = sorted(directory.glob("*.hlog"))
    if not paths:
        raise LogError(
            f"{directory}: no .hlog file and no run.mcap in it; expected a log, or a folder that "
            "`python -m firmware_bridge report LOG --histograms DIR` wrote"
        )
    return {path.stem: read_hlog(path) for path in paths}


def read_hlog(path: Path) -> DurationCounts:
    """One .hlog file, all its intervals merged. Raises LogError."""
    if path.stat().st_size > _FILE_LIMIT_BYTES:
        raise LogError(f"{path}: {path.stat().st_size} bytes, expected at most {_FILE_LIMIT_BYTES}; not a log of ours")
    parts = []
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
        if line.startswith(("#", '"')) or not line.strip():
            continue
        match = _LINE.fullmatch(line)
        try:
            if match is None:
                raise ValueError("is no interval of a histogram log")
            parts.append(_interval(float(match[2]), float(match[3]), match[4]))
        except ValueError as error:
            raise LogError(
                f"{path}, line {number}: {error}; expected what `report --histograms` writes; write it again"
            ) from error
    return merge_counts(parts)


def _hlog(counts: DurationCounts, start_s: float) -> str:
    maximum_ms = counts.maximum_ns / 1e6
    return (
        "#[Histogram log format version 1.3]\n"
        f"#[StartTime: {start_s:.3f} (seconds since epoch)]\n"
        f"#[BaseTime: {start_s:.3f} (seconds since epoch)]\n"
        f"#[values in ns; {counts.overflows} above one minute are not in the histogram]\n"
        '"StartTimestamp","Interval_Length","Interval_Max","Interval_Compressed_Histogram"\n'
        # A file may end with an empty histogram: that nothing was measured is a result, too.
        f"0.000,{counts.duration_s:.6f},{maximum_ms:.6f},{counts.encoded()}\n"
    )


def _interval(length_s: float, maximum_ms: float, text: str) -> DurationCounts:
    _check_head(text)
    histogram: Any = decode_histogram(text)
    values = [(step.value_iterated_to, step.count_at_value_iterated_to) for step in histogram.get_recorded_iterator()]
    table = np.array(values, np.int64).reshape(-1, 2)
    maximum_ns = round(maximum_ms * 1e6)
    if len(table) and (table.min() < 1 or not table[-1, 0] >= maximum_ns >= lower_edges(table[-1:, 0])[0]):
        raise ValueError(f"has its largest value near {table[-1, 0]} ns, but says {maximum_ns} ns")
    return DurationCounts(lower_edges(table[:, 0]), table[:, 1], maximum_ns, length_s)


def _check_head(text: str) -> None:
    """Refuse what is no histogram of our kind before a library takes memory for it. Raises ValueError."""
    try:
        packed = base64.b64decode(text, validate=True)
        cookie, length = struct.unpack_from(">II", packed)
        unpacker = zlib.decompressobj()
        plain = unpacker.decompress(packed[8 : 8 + length], _PAYLOAD_LIMIT_BYTES)
        head = _V2_HEAD.unpack_from(plain)
    except (binascii.Error, struct.error, zlib.error) as error:
        raise ValueError(f"is no compressed histogram ({error})") from error
    if unpacker.unconsumed_tail or [cookie & _COOKIE_MASK, head[0] & _COOKIE_MASK] != [
        _COOKIE_V2_COMPRESSED,
        _COOKIE_V2,
    ]:
        raise ValueError("is no compressed V2 histogram of a reasonable size")
    if head[3:6] != (3, LOWEST_NS, HIGHEST_NS):
        raise ValueError(
            f"has {head[3]} digits from {head[4]} to {head[5]}, expected 3 from {LOWEST_NS} to {HIGHEST_NS} ns"
        )
