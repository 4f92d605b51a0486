"""The log in the process that writes it: records become JSON, chunks are closed by time, parts follow one another.

Chunks are closed and handed to the kernel every `flush_interval_s`; a power cut loses at most that much, a bridge that
is killed nothing of what it had handed over. Each part is finished and synchronised before the next begins, and opens
alone.
"""

import time

from firmware_bridge.logs import topics as log_topics
from firmware_bridge.logs.log_file import LogFile
from firmware_bridge.logs.parts import delete_oldest, keep_previous, part_path
from firmware_bridge.logs.record_pipe import LogSettings
from firmware_bridge.logs.topics import Topic


class LogWriter:
    """One log. Opening it keeps an older one of the same name as `<stem>.previous.mcap`.

    `written` counts records. Every method raises OSError when the disk does not take it; call `abandon` then.
    """

    def __init__(self, settings: LogSettings) -> None:
        self.written = 0
        self._settings = settings
        self._part = 0
        settings.path.parent.mkdir(parents=True, exist_ok=True)
        keep_previous(settings.path)
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
        self._file.finish()

    def cut(self) -> None:
        """Keep everything that came, without a footer: the bridge did not get to the end."""
        self._file.flush()
        self._file.abandon()

    def abandon(self) -> None:
        """Close after a failure."""
        self._file.abandon()

    def _open_part(self) -> LogFile:
        file = LogFile(part_path(self._settings.path, self._part))
        session = {**self._settings.session, "part": self._part}
        try:
            self._write(file, log_topics.SESSION, time.monotonic_ns(), log_topics.SESSION.pack(session))
            keep = self._settings.rotation.keep_parts
            if deleted := delete_oldest(self._settings.path, keep):
                text = f"deleted {', '.join(old.name for old in deleted)}: {keep} files are kept"
                self._write(file, log_topics.EVENT, time.monotonic_ns(), log_topics.EVENT.pack(("log", text)))
            file.flush()
        except OSError:
            file.abandon()
            raise
        return file

    def _write(self, file: LogFile, topic: Topic, time_ns: int, data: bytes) -> None:
        # One clock for all records: the computer's own may be set while the log is written.
        file.add(topic.name, time_ns + self._settings.epoch_offset_ns, data, self.written)
        self.written += 1
