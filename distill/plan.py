"""Which size comes next: look for the smallest student that holds the target, or visit the sizes asked for."""

from __future__ import annotations

from dataclasses import dataclass

_PATIENCE = 2  # sizes


@dataclass(frozen=True)
class Rung:
    """One descent of fine-tuning: prune to `keep` weights first, train `iterations` steps, then judge or not."""

    keep: int
    iterations: int
    judged: bool


class Plan:
    """Prune a little, fine-tune, judge, repeat.

    A size that does not hold the target is trained on, twice as long each time, `doublings` times. Searching: a size
    is followed by one `factor` as large, and the search ends after two in a row that never held (one alone may have had
    bad luck). Visiting: sizes on the way are only trained, those asked for are judged, all of them.
    """

    def __init__(self, *, sizes: tuple[int, ...], factor: float, iterations: int, doublings: int) -> None:
        self._sizes = tuple(sorted(sizes, reverse=True))
        self._factor = factor
        self._iterations = iterations
        self._doublings = doublings
        self.attempt = 0  # doublings spent on the current size
        self.missed = 0  # sizes in a row that never held
        self.visited = 0  # sizes asked for and done with

    def first(self, alive: int) -> Rung | None:
        """The first descent of a student with `alive` weights; None without fine-tuning."""
        if self._iterations == 0:
            return None
        return self._towards(alive) if self._sizes else Rung(alive, self._iterations, True)

    def following(self, rung: Rung, *, holds: bool) -> Rung | None:
        """What to do after `rung`, given whether its student holds the target; None: nothing more."""
        if rung.judged and not holds and self.attempt < self._doublings:
            self.attempt += 1
            return Rung(rung.keep, self._iterations << self.attempt, True)
        self.attempt = 0
        self.missed = 0 if holds else self.missed + 1
        if self._sizes:
            self.visited += rung.judged
            return self._towards(rung.keep)
        keep = int(rung.keep * self._factor)
        return Rung(keep, self._iterations, True) if self.missed < _PATIENCE and keep > 0 else None

    def _towards(self, alive: int) -> Rung | None:
        if self.visited == len(self._sizes):
            return None
        target = self._sizes[self.visited]
        keep = int(alive * self._factor)
        if keep > target:
            return Rung(keep, self._iterations, False)
        return Rung(min(alive, target), self._iterations, True)
