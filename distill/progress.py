"""The progress bar of a training run, on stderr: stage, share done, loss, density, return."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


class TrainingProgress:
    """Context manager around one rich progress display with one task a stage."""

    def __init__(self, *, only_on_a_terminal: bool = False) -> None:
        """In a file one line a stage is left, unless `only_on_a_terminal`."""
        console = Console(stderr=True)
        self._bar = Progress(
            TextColumn("{task.description:>10}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[figures]}"),
            console=console,
            disable=only_on_a_terminal and not console.is_terminal,
            refresh_per_second=2,
        )
        self._task = self._bar.add_task("start", total=None, figures="")
        self._held = 0

    def __enter__(self) -> TrainingProgress:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._flush()
        self._bar.stop()

    def stage(self, name: str, total: int | None, done: int = 0) -> None:
        """Begin a new stage of `total` steps (None: unknown), of which a resumed run may have `done` some."""
        self._flush()
        self._task = self._bar.add_task(name, total=total, completed=done, figures="")

    def advance(self, steps: int) -> None:
        """Count steps; cheap enough to call every iteration."""
        self._held += steps
        if self._held >= 100:
            self._flush()

    def show(self, *, loss: float, density: float, mean_return: float | None) -> None:
        """Put the newest figures beside the bar."""
        text = f"loss {loss:.4f}  density {density:.1%}"
        if mean_return is not None:
            text += f"  return {mean_return:.1f}"
        self._bar.update(self._task, figures=text)

    def _flush(self) -> None:
        self._bar.advance(self._task, self._held)
        self._held = 0
