"""A progress bar on the terminal while a long log is read."""

from collections.abc import Iterator

from firmware_bridge.logs.read_log import LogReader, Record

_RECORDS = 4096  # between two looks


def with_progress(reader: LogReader, what: str) -> Iterator[Record]:
    """The records of `reader`; a bar on standard error shows how far in its files they are, if that is a terminal."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(what, total=reader.size_bytes)
        for number, record in enumerate(reader):
            if number % _RECORDS == 0:
                progress.update(task, completed=reader.position_bytes)
            yield record
