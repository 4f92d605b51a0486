"""The host-built firmware as a child process, with its pty and its plant socket; leaves nothing behind."""

from __future__ import annotations

import os
import select
import socket
import subprocess
import tty
from pathlib import Path
from types import TracebackType
from typing import ClassVar

from hardware.errors import SimulatorError
from hardware.last_words import LastWords
from hardware.link_name import LinkName

END_TIMEOUT_S = 2.0


class FirmwareProcess:
    """Context manager: starts `image`, offers its link as a pty behind the symlink `link`, and ends both.

    The slave side of the pty is raw and is held open here, so that hosts may come and go without the firmware's side
    ever hanging up. `plant` is this end of the plant port. Raises SimulatorError when the image or the symlink's place
    is unusable.
    """

    CAN_RESET: ClassVar[bool] = False
    plant: socket.socket

    def __init__(self, image: Path, link: Path, lockstep: bool) -> None:
        self._slave = -1
        if not os.access(image, os.X_OK) or image.is_dir():
            raise SimulatorError(
                f"no firmware image at {image}: expected an executable; "
                "build it with `python -m hardware build --policy DIR --out DIR`"
            )
        self._name = LinkName(link)
        self._last_words = LastWords()
        self.plant, plant_child = socket.socketpair()
        master, self._slave = os.openpty()
        tty.setraw(self._slave)
        self._terminal = os.ttyname(self._slave)  # asked now: a pty whose firmware died has no name any more
        command = [str(image.resolve()), "--link-fd", str(master), "--plant-fd", str(plant_child.fileno())]
        if lockstep:
            command.append("--lockstep")
        try:
            # Its own session: Ctrl-C in a terminal must not reach the firmware, which has to brake first.
            self._child = subprocess.Popen(
                command,
                pass_fds=(master, plant_child.fileno()),
                stdin=subprocess.DEVNULL,
                stdout=self._last_words.file,
                stderr=self._last_words.file,
                start_new_session=True,
            )
        except OSError as error:
            self._close_ports()
            raise SimulatorError(
                f"cannot start {image}: {error.strerror}; expected a program of this machine; build it again"
            ) from error
        finally:
            os.close(master)
            plant_child.close()

    def __enter__(self) -> FirmwareProcess:
        try:
            self._name.take(self._terminal)
        except SimulatorError:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._name.release()
        self._end()

    def _close_ports(self) -> None:
        self.plant.close()
        if self._slave >= 0:
            os.close(self._slave)
            self._slave = -1

    def _end(self) -> None:
        """Close the plant socket, which ends the firmware; kill it when it does not."""
        self._close_ports()
        try:
            self._child.wait(END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        self._last_words.close()

    def reset(self) -> None:
        """Never: a process has no supply that could fail. Raises SimulatorError."""
        raise SimulatorError(
            "the firmware is a process, expected an emulated chip to reset; build its image for a board"
        )

    def has_ended(self) -> bool:
        """Whether it closed its side of the link: a host sees that before the process is quite gone."""
        poll = select.poll()
        poll.register(self._slave, 0)
        return bool(poll.poll(0))

    def why_it_ended(self) -> SimulatorError:
        """The error to raise when the plant socket turned out closed: exit status and last words."""
        ending = self._last_words.of(self._child, END_TIMEOUT_S)
        if ending is None:
            return SimulatorError("the firmware closed its plant port but still runs: expected it open; rebuild it")
        return SimulatorError(
            f"the firmware ended during the simulation: got {ending}, expected it to run until the end; "
            "build it again or run its image under a debugger"
        )
