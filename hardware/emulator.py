"""An emulated microcontroller with its firmware, with the same two ends as a `FirmwareProcess`: a pty, a plant socket.

The emulator's serial ports are stream sockets that exist before it starts, so no byte is lost. A thread carries bytes
between them, the pty and the plant. On a board with one serial port link and plant share it: what the device sends is
told apart by the type of each frame, and the plant's frames go in between whole frames of the host.
"""

from __future__ import annotations

import os
import select
import socket
import subprocess
import tempfile
import threading
import tty
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import ClassVar

from hardware.board import Board
from hardware.errors import HardwareError, SimulatorError
from hardware.framing import MAXIMUM_ENCODED_SIZE, FrameDecoder
from hardware.last_words import LastWords
from hardware.link_name import LinkName
from hardware.machine import machine_for
from hardware.parent_death import dies_with_parent
from hardware.protocol import Actuate, ExchangeDone

END_TIMEOUT_S = 5.0
_START_TIMEOUT_S = 30.0
_PLANT_TYPES = (Actuate.TYPE, ExchangeDone.TYPE)
_CHUNK = 4096
_TOLD_TO_STOP = "the relay between them and the pty was told to stop"
_EMULATOR_CLOSED = "the emulator closed one"
_SIMULATOR_CLOSED = "the simulator closed its plant port"


class EmulatedFirmware:
    """Context manager: runs `image` on an emulated `board` and ends it. Raises SimulatorError as `FirmwareProcess`."""

    CAN_RESET: ClassVar[bool] = True
    plant: socket.socket
    monitor: socket.socket
    """The emulator's own control: QMP in QEMU, the letters of simavr_runner.c for an AVR."""

    def __init__(self, image: Path, board: Board, link: Path) -> None:
        self._name = LinkName(link)
        self._decoder = FrameDecoder()
        self._last_words = LastWords()
        self._relay_end = "it still carries"
        self._master, self._slave = os.openpty()
        tty.setraw(self._slave)
        os.set_blocking(self._master, False)
        self.plant, self._plant = socket.socketpair()
        self._stop, self._stopped = socket.socketpair()
        pairs = [socket.socketpair() for _ in range(board.serial_ports + 1)]
        *self._serial, self.monitor = [ours for ours, _ in pairs]
        theirs = [their for _, their in pairs]
        contents = tempfile.TemporaryFile()  # noqa: SIM115 - closed below
        try:
            *serial, monitor = [end.fileno() for end in theirs]
            self._machine = machine_for(board, image, serial, monitor)
            contents.write(self._machine.contents)
            contents.seek(0)
            # Its own session: Ctrl-C in a terminal must not reach the firmware, which has to brake first.
            self._child = subprocess.Popen(
                [*dies_with_parent(), *self._machine.command],
                pass_fds=[*serial, monitor],
                stdin=contents,
                stdout=self._last_words.file,
                stderr=self._last_words.file,
                start_new_session=True,
            )
        except OSError as error:
            self._close()
            raise SimulatorError(f"cannot start the emulator: {error}; install it again") from error
        except HardwareError:
            self._close()
            raise
        finally:
            contents.close()
            for end in theirs:
                end.close()
        self._carry = self._relay_apart if board.serial_ports > 1 else self._relay_shared
        self._relay = threading.Thread(target=self._relay_until_closed, name="serial relay", daemon=True)

    def __enter__(self) -> EmulatedFirmware:
        self._relay.start()
        try:
            self._wait_until_it_is_up()
            self._name.take(os.ttyname(self._slave))
        except BaseException:  # Ctrl-C, too: nothing may stay behind
            self._name.release()
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._name.release()
        self._end()

    def _wait_until_it_is_up(self) -> None:
        """Its first word goes to the plant. A serial port that is not switched on yet loses what it is sent."""
        ready, _, _ = select.select([self.plant], [], [], _START_TIMEOUT_S)
        if not ready:
            raise SimulatorError(
                f"the image said nothing within {_START_TIMEOUT_S:g} s in the emulator, expected it to say that "
                "it is up; build it again, or run it under a debugger"
            )
        if not self.plant.recv(1, socket.MSG_PEEK):
            raise self.why_it_ended()

    def reset(self) -> None:
        """Pull the chip's reset, as a supply that fails does. It is up again with its next word to the plant."""
        self.monitor.sendall(self._machine.reset)

    def has_ended(self) -> bool:
        """Whether the emulator is gone."""
        return self._child.poll() is not None

    def why_it_ended(self) -> SimulatorError:
        """The error to raise when the plant socket turned out closed: what ended, and why."""
        ending = self._last_words.of(self._child, END_TIMEOUT_S)
        if ending is None:
            return SimulatorError(
                f"the emulator still runs, but its serial ports are lost: {self._relay_end}; expected them open until "
                "the end; try again"
            )
        remedy = "look for who killed it (memory?)" if ending.startswith("SIGKILL") else "build the image again"
        return SimulatorError(
            f"the emulator ended during the simulation: got {ending}, expected it to run until the end; {remedy}"
        )

    def _relay_until_closed(self) -> None:
        """However it ends, the simulator learns it from its plant socket, and `why_it_ended` has the reason."""
        try:
            self._relay_end = self._carry()
        except OSError as error:
            self._relay_end = f"the relay between them and the pty failed ({error})"
        except BaseException as error:  # a mistake in here; its traceback is printed by the thread
            self._relay_end = f"the relay between them and the pty failed ({error!r})"
            raise
        finally:
            self._plant.close()

    def _relay_apart(self) -> str:
        """Link and plant have a serial port each. Returns why there is nothing to carry any more."""
        link, plant = self._serial
        sources: list[socket.socket | int] = [link, plant, self._plant, self._master, self._stopped]
        while True:
            ready, _, _ = select.select(sources, [], [])
            if self._stopped in ready:
                return _TOLD_TO_STOP
            for source, sink, end in ((plant, self._plant, _EMULATOR_CLOSED), (self._plant, plant, _SIMULATOR_CLOSED)):
                if source in ready:
                    data = source.recv(_CHUNK)
                    if not data:
                        return end
                    sink.sendall(data)
            if link in ready:
                data = link.recv(_CHUNK)
                if not data:
                    return _EMULATOR_CLOSED
                self._to_host(data)
            if self._master in ready:
                link.sendall(self._from_host())

    def _relay_shared(self) -> str:
        """Link and plant share a serial port. Returns why there is nothing to carry any more."""
        wire = self._serial[0]
        sources: list[socket.socket | int] = [wire, self._plant, self._master, self._stopped]
        from_device, from_host = b"", b""
        while True:
            ready, _, _ = select.select(sources, [], [])
            if self._stopped in ready:
                return _TOLD_TO_STOP
            if wire in ready:
                data = wire.recv(_CHUNK)
                if not data:
                    return _EMULATOR_CLOSED
                *frames, from_device = (from_device + data).split(b"\0")
                for frame in filter(None, frames):
                    self._sort(frame)
            if self._master in ready:
                *frames, from_host = (from_host + self._from_host()).split(b"\0")
                wire.sendall(b"".join(frame + b"\0" for frame in frames))
                if len(from_host) > MAXIMUM_ENCODED_SIZE:  # no frame any more: let the device count it
                    wire.sendall(from_host)
                    from_host = b""
            if self._plant in ready:
                data = self._plant.recv(_CHUNK)
                if not data:
                    return _SIMULATOR_CLOSED
                # A delimiter first: garbage of the host that has no end must not swallow a period.
                wire.sendall(b"\0" + data)

    def _sort(self, frame: bytes) -> None:
        whole = frame + b"\0"
        bodies = self._decoder.feed(whole)
        if bodies and bodies[0][0] in _PLANT_TYPES:
            self._plant.sendall(whole)
        else:
            self._to_host(whole)

    def _from_host(self) -> bytes:
        """What the host sent; nothing where it took that back after select() saw it."""
        try:
            return os.read(self._master, _CHUNK)
        except BlockingIOError:
            return b""

    def _to_host(self, data: bytes) -> None:
        """What nobody reads is dropped, as on a wire."""
        with suppress(BlockingIOError):
            os.write(self._master, data)

    def _close(self) -> None:
        for end in (self.plant, self._plant, self._stop, self._stopped, self.monitor, *self._serial):
            end.close()
        for descriptor in (self._master, self._slave):
            with suppress(OSError):
                os.close(descriptor)
        self._last_words.close()

    def _end(self) -> None:
        self._child.kill()
        self._child.wait()
        if self._relay.is_alive():
            self._stop.send(b"x")
            self._relay.join(END_TIMEOUT_S)
        self._close()
