"""The process that writes the log, `python -m firmware_bridge.logs.writer_process`: `recorder` starts it, nobody else.

A process of its own shares neither the interpreter nor, where there are two, the processor with the control loop. It
ends when the pipe on its standard input does, and only then: the braking is to be in the log.
"""

import contextlib
import os
import select
import sys
from typing import Any

from firmware_bridge.child_process import become_child
from firmware_bridge.logs.log_writer import LogWriter
from firmware_bridge.logs.record_pipe import PAUSE, PipeReader
from firmware_bridge.logs.topics import TOPICS, to_json

_READ_BYTES = 1024 * 1024
_NICE = 5  # where there is one processor only, the loop goes first
_LOOK_S = 0.1  # how often a chunk is closed although nothing comes


def write_log(source: int, answers: int) -> None:
    """Write what comes from descriptor `source` until it ends; say how it went on `answers`. Raises OSError."""
    reader = PipeReader()
    writer: LogWriter | None = None
    try:
        while True:
            if select.select([source], [], [], _LOOK_S)[0]:
                data = os.read(source, _READ_BYTES)
                if not data:
                    break
                for number, time_ns, packed in reader.feed(data):
                    writer = writer or _open(reader, answers)
                    if number == PAUSE:
                        writer.flush_when_due()
                    else:
                        writer.add(TOPICS[number], time_ns, packed)
                if reader.settings is not None:
                    writer = writer or _open(reader, answers)
            elif writer is not None:
                writer.flush_when_due()
        if writer is None:
            return  # the bridge ended before its log began
        if reader.ended:
            writer.finish()
        else:
            writer.cut()
        _say(answers, {"written": writer.written})
    except BaseException:
        if writer is not None:
            writer.abandon()
        raise


def _open(reader: PipeReader, answers: int) -> LogWriter:
    assert reader.settings is not None  # records come behind the settings
    writer = LogWriter(reader.settings)
    _say(answers, {"opened": True})
    return writer


def _say(answers: int, value: dict[str, Any]) -> None:
    with contextlib.suppress(OSError):  # the bridge is gone: the log is what is left to be saved
        os.write(answers, to_json(value) + b"\n")


def main() -> int:
    """Write, and say what failed."""
    source, answers = become_child()
    os.nice(_NICE)
    try:
        write_log(source, answers)
    except Exception as error:  # whatever it is, the loop must hear of it and brake
        reason = error.strerror if isinstance(error, OSError) and error.strerror else repr(error)
        _say(answers, {"error": reason, "errno": error.errno if isinstance(error, OSError) else None})
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
