"""The log in the process that writes it: records become JSON, chunks are closed by time, parts follow one another.

Chunks are closed and handed to the kernel every `flush_interval_s`; a power cut loses at most that much, a bridge that
is killed nothing of what it had handed over. Each part is finished and synchronised before the next begins, and opens
alone.
"""

import contextlib
import errno
import stat
import time
from pathlib import Path

from firmware_bridge.logs import topics as log_topics
from firmware_bridge.logs.log_file import LogFile
from firmware_bridge.logs.parts import (
    LOG_NAME,
    delete_oldest,
    delete_parts,
    keep_previous,
    part_path,
    retire_connections,
)
from firmware_bridge.logs.record_pipe import LogSettings
from firmware_bridge.logs.topics import Topic

_NEW = ".new"  # behind the name of a file whose first record is not on the disk yet


class LogWriter:
    """One log. Opening it keeps an older run's of the same name as `<stem>.previous.mcap`.

    A file gets its name, and those of before lose theirs, once its first record is on the disk: on a full one a hundred
    attempts leave the logs that filled it as they are.

    `written` counts records. Every method raises OSError when the disk does not take it; call `abandon` then.
    """

    def __init__(self, settings: LogSettings) -> None:
        self.written = 0
        self._settings = settings
        self._part = 0
        settings.path.parent.mkdir(parents=True, exist_ok=True)
        self._part_started = self._flushed = time.monotonic()
        self._file = self._open_part()

    def add(self, topic: Topic, time_ns: int, packed: bytes) -> None:
        """One record, stamped with CLOCK_MONOTONIC [ns]."""
        self._write(self._file, topic, time_ns, topic.render(packed))

    def flush_when_due(self) -> None:
        """Close the chunk, and begin a new part, when it is time."""
        now = time.monotonic()
        if now - self._flushed < self._settings.flush_interval_s:
            return
        self._flushed = now
        size = self._file.flush()
        rotation = self._settings.rotation
        too_large = rotation.size_bytes and size >= rotation.size_bytes
        if too_large or (rotation.interval_s and now - self._part_started >= rotation.interval_s):
            self._file.finish()
            self._part += 1
            self._part_started = now
            self._file = self._open_part()

    def finish(self) -> None:
        """Write index and footer, wait until the disk has everything."""
        path = part_path(self._settings.path, self._part)
        there = self._file.is_at(path)
        self._file.finish()
        if not there:
            raise OSError(errno.ENOENT, f"{path.name} was deleted, renamed or replaced while it was written")

    def cut(self) -> None:
        """Keep everything that came, without a footer: the bridge did not get to the end."""
        self._file.flush()
        self._file.abandon()

    def abandon(self) -> None:
        """Close after a failure."""
        self._file.abandon()

    def _open_part(self) -> LogFile:
        path = part_path(self._settings.path, self._part)
        _refuse_special(path)
        new = path.with_name(path.name + _NEW)
        new.unlink(missing_ok=True)  # of a writer that was killed
        try:
            file = LogFile(new)
        except OSError:
            _remove(new)
            raise
        session = {**self._settings.session, "part": self._part}
        try:
            self._write(file, log_topics.SESSION, time.monotonic_ns(), log_topics.SESSION.pack(session))
            file.flush()
            if self._part == 0:
                file.synchronise()
                self._make_way()
            new.replace(path)
            keep = self._settings.rotation.keep_parts
            if deleted := delete_oldest(self._settings.path, keep):
                text = f"deleted {', '.join(old.name for old in deleted)}: {keep} files are kept"
                self._write(file, log_topics.EVENT, time.monotonic_ns(), log_topics.EVENT.pack(("log", text)))
            file.flush()
        except OSError:
            file.abandon()
            _remove(new)
            raise
        return file

    def _make_way(self) -> None:
        path = self._settings.path
        if not self._settings.first_of_run:
            delete_parts(path)
            return
        if path.name == LOG_NAME:
            retire_connections(path.parent)
        keep_previous(path)

    def _write(self, file: LogFile, topic: Topic, time_ns: int, data: bytes) -> None:
        # One clock for all records: the computer's own may be set while the log is written.
        file.add(topic.name, time_ns + self._settings.epoch_offset_ns, data, self.written)
        self.written += 1


def _refuse_special(path: Path) -> None:
    """Raise OSError where `path` is anything but a regular file, a link to one, or free."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if stat.S_ISLNK(mode) and not path.exists():
        raise OSError(errno.EEXIST, f"{path.name} is a symbolic link to nothing")
    if not path.is_file():
        raise OSError(errno.EEXIST, f"{path.name} is there and is no regular file")


def _remove(new: Path) -> None:
    with contextlib.suppress(OSError):  # what failed before is the reason to report
        new.unlink(missing_ok=True)
