"""The symlink under which a simulated device offers its serial port: made when all is ready, removed at the end."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from hardware.errors import SimulatorError


class LinkName:
    """`take` makes the symlink, `release` removes it if it is still ours. Raises SimulatorError for a place that is
    unusable, at construction where that shows."""

    def __init__(self, link: Path) -> None:
        self.link = link
        self._terminal = ""
        if not link.parent.is_dir():
            raise SimulatorError(
                f"cannot create {link}: got no folder {link.parent}, expected an existing one; create it"
            )
        if os.path.lexists(link) and not link.is_symlink():
            raise SimulatorError(
                f"cannot create {link}: got a file that is no symlink, expected a free name; "
                "remove it or choose another"
            )
        self._refuse_a_live_one()

    def take(self, terminal: str) -> None:
        """Let the name point to `terminal`."""
        self._refuse_a_live_one()
        try:
            self.link.unlink(missing_ok=True)  # left behind by a simulator that was killed
            self.link.symlink_to(terminal)  # never over another's: one made in between is an error
        except OSError as error:
            raise SimulatorError(f"cannot create the symlink {self.link}: {error.strerror}; choose another") from error
        self._terminal = terminal

    def release(self) -> None:
        """Remove the name, unless somebody else's stands there now."""
        with suppress(OSError):
            if os.readlink(self.link) == self._terminal:
                self.link.unlink()

    def _refuse_a_live_one(self) -> None:
        """Raise SimulatorError when the name is a symlink to something that was there when it was made.

        A killed simulator leaves its symlink, and the next terminal that anybody opens gets the freed number: a target
        younger than the symlink is such a stranger.
        """
        try:
            stale = self.link.stat().st_ctime_ns > self.link.lstat().st_ctime_ns
        except OSError:  # dangling, or nothing there
            return
        if not stale:
            raise SimulatorError(
                f"cannot create {self.link}: got a symlink to {os.readlink(self.link)}, which is in use, expected a "
                "free name or a stale symlink; end the simulator that serves it or choose another --link"
            )
