"""The files of one log: run.mcap, and where it was rotated run.0001.mcap, run.0002.mcap, ...

Each further connection of a run (--reconnect) has a log of its own: run-2.mcap, run-2.0001.mcap, ...
"""

import itertools
import re
from collections.abc import Iterable
from pathlib import Path

from firmware_bridge import notices
from firmware_bridge.errors import LogError

LOG_NAME = "run.mcap"
_PREVIOUS = ".previous"


def part_path(path: Path, part: int) -> Path:
    """Path of part `part` of the log whose first file is `path`; part 0 is `path` itself."""
    return path if part == 0 else path.with_suffix(f".{part:04d}{path.suffix}")


def parts_on_disk(path: Path) -> list[Path]:
    """The files of the log whose first file is `path`, in order. The first ones may be gone: somebody made space."""
    pattern = re.compile(re.escape(path.stem) + r"\.(\d{4,6})" + re.escape(path.suffix))
    later = [
        (int(match[1]), file)
        for file in (path.parent.iterdir() if path.parent.is_dir() else ())
        if (match := pattern.fullmatch(file.name)) and file.is_file()
    ]
    return ([path] if path.is_file() else []) + [file for _, file in sorted(later)]


def delete_oldest(path: Path, keep: int) -> list[Path]:
    """Delete the oldest files of the run whose log at `path` is being written, until `keep` are left; which ones.

    Files of its earlier connections count, and go first; the newest, the one being written, never does. `keep` 0 is no
    bound. Raises OSError.
    """
    if keep <= 0:
        return []
    name, own = _family(path)
    pattern = re.compile(re.escape(name) + r"(?:-(\d+))?(?:\.(\d{4,6}))?" + re.escape(path.suffix))
    files = sorted(
        (int(match[1] or 1), int(match[2] or 0), file)
        for file in path.parent.iterdir()
        if (match := pattern.fullmatch(file.name)) and int(match[1] or 1) <= own and file.is_file()
    )
    deleted = [file for _, _, file in files[:-keep]]
    for file in deleted:
        file.unlink(missing_ok=True)
    return deleted


def retire_connections(folder: Path) -> None:
    """Make the run whose logs lie in `folder` the previous one: the logs of the one before it go, all of them.

    Those of its further connections are renamed; `keep_previous` renames the first. Raises OSError.
    """
    pattern = re.compile(r"(run(?:-\d+)?)(\.previous)?(?:\.\d{4,6})?\.mcap")
    logs = [(match, file) for file in folder.glob("run*.mcap") if (match := pattern.fullmatch(file.name))]
    names = {match[1] for match, file in logs if not match[2] and _holds_something(file)}
    if not names:
        return  # nothing has come since: what is there is the previous run
    for match, file in logs:
        if match[2]:
            file.unlink(missing_ok=True)
    for name in sorted(names - {"run"}):
        keep_previous(folder / f"{name}.mcap")


def keep_previous(path: Path) -> None:
    """Rename the log at `path`, if there is one, to `<stem>.previous.mcap`, its parts too; an older one goes.

    Files of no bytes are no log, and go. Raises OSError.
    """
    for file in parts_on_disk(path):
        if not _holds_something(file):
            file.unlink()
    files = parts_on_disk(path)
    if not files:
        return
    kept = path.with_suffix(_PREVIOUS + path.suffix)
    for old in parts_on_disk(kept):
        old.unlink()
    for file in files:
        file.replace(kept.with_name(kept.stem + file.name.removeprefix(path.stem)))


def delete_parts(path: Path) -> None:
    """Delete the log at `path` with all its parts, if there is one. Raises OSError."""
    for file in parts_on_disk(path):
        file.unlink(missing_ok=True)


def _holds_something(file: Path) -> bool:
    return file.is_file() and file.stat().st_size > 0


def find_parts(path: Path) -> list[Path]:
    """The files of the log that `path` names: a folder or a first file means all of them, a later part only itself.

    A folder's is that of the first connection; where none of its files is left, the last connection's, and it is said.
    Raises LogError when there is none.
    """
    first = _first_file(path)
    parts = parts_on_disk(first)
    if not parts and path.is_dir():
        parts = _newest_connection(path)
    if not parts:
        others = sorted(file.name for file in path.glob("*.mcap")) if path.is_dir() else []
        there = f"; {path} holds {', '.join(others[:8])}: name one of these" if others else ""
        raise LogError(
            f"log {first}: no such file; expected the {LOG_NAME} that `python -m firmware_bridge run --log DIR` "
            f"writes{there}"
        )
    numbers = [part_number(file) for file in parts]
    # A hole: what comes after it is another stretch of time; it opens by itself.
    whole = itertools.takewhile(lambda pair: pair[1] == numbers[0] + pair[0], enumerate(numbers))
    return parts[: len(list(whole))]


def refuse_to_replace(inputs: Iterable[Path], outputs: Iterable[Path]) -> None:
    """Raise LogError where one of `outputs` is a file that was read, whatever name or link leads there."""
    read = {file_identity(path): path for path in inputs}
    for output in outputs:
        identity = file_identity(output)
        if identity is not None and (found := read.get(identity)) is not None:
            raise LogError(f"{output}: is {found}, which is read, expected another file; choose another name or folder")


def files_of(path: Path) -> list[Path]:
    """Every file of the log that `path` names, also those behind a hole, which are not read with it."""
    return parts_on_disk(_first_file(path)) or (_newest_connection(path) if path.is_dir() else [])


def file_identity(path: Path) -> tuple[int, int] | None:
    """Device and inode of the file that `path` leads to; None where there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def part_number(part: Path) -> int:
    """Which part of its log a file is by its name; 0 for the first."""
    match = re.search(r"\.(\d{4,6})\.[^.]+$", part.name)
    return int(match[1]) if match else 0


def _first_file(path: Path) -> Path:
    return path / LOG_NAME if path.is_dir() else path


def _newest_connection(folder: Path) -> list[Path]:
    """The files of the last connection whose log is in `folder`: --log-keep-parts deletes those of the first ones."""
    pattern = re.compile(r"run-(\d+)(?:\.\d{4,6})?\.mcap")
    numbers = [int(match[1]) for file in folder.iterdir() if (match := pattern.fullmatch(file.name))]
    if not numbers:
        return []
    parts = parts_on_disk(folder / f"run-{max(numbers)}.mcap")
    if parts:
        others = f" (there are logs of {len(set(numbers))} connections)" if len(set(numbers)) > 1 else ""
        notices.say(f"log {folder}: {LOG_NAME} was deleted, {parts[0].name}, of the last connection, is read{others}")
    return parts


def _family(path: Path) -> tuple[str, int]:
    """The name that all logs of the run begin with, and the number of this one's connection."""
    match = re.fullmatch(r"(.+)-(\d+)", path.stem)
    return (match[1], int(match[2])) if match else (path.stem, 1)
