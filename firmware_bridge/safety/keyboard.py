"""Any key stops: the terminal's keyboard while a run goes on, each key at once and without an echo.

Ctrl-C stays the signal that it is. Ctrl-Z and Ctrl-\\ would leave an armed cart behind; here they are keys like any
other, and stop. What was typed before counts for nothing, and what is left over is thrown away: a key pressed twice in
haste does not end up in the shell.
"""

import atexit
import contextlib
import os
import select
import signal
import socket
import sys
import termios
import threading
import tty
from types import TracebackType
from typing import Any, Self

from firmware_bridge import notices
from firmware_bridge.safety.controls import Controls
from firmware_bridge.safety.host_state import HostState, HostStateMachine

_ENTER = frozenset(b"\r\n")


class Keyboard:
    """Context manager that reads standard input where that is the terminal we are in the foreground of; else nothing.

    The terminal is put back on every way out but SIGKILL. `active` says whether keys are read.
    """

    def __init__(self, controls: Controls, states: HostStateMachine, descriptor: int | None = None) -> None:
        self.active = False
        self._controls = controls
        self._states = states
        self._descriptor = _standard_input() if descriptor is None else descriptor
        self._saved: list[Any] | None = None
        self._end, self._ended = socket.socketpair()
        self._thread = threading.Thread(target=self._read, name="keyboard", daemon=True)

    def __enter__(self) -> Self:
        if not _in_foreground(self._descriptor):
            return self
        try:
            self._saved = termios.tcgetattr(self._descriptor)
            atexit.register(self._restore)  # should an exception hit between here and the caller's `with`
            tty.setcbreak(self._descriptor, termios.TCSAFLUSH)
            attributes = termios.tcgetattr(self._descriptor)
            for key in (termios.VSUSP, termios.VQUIT):
                attributes[6][key] = b"\0"
            termios.tcsetattr(self._descriptor, termios.TCSANOW, attributes)
            self._thread.start()
        except termios.error:
            self._restore()
            return self
        except BaseException:
            self._restore()
            raise
        self.active = True
        notices.say("any key stops the run")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.close()
        if self._thread.is_alive():
            self._thread.join(1.0)
        self._ended.close()
        self._restore()

    def pressed(self, keys: bytes) -> None:
        """What keys mean: Enter arms what waits for it and means nothing before; everything else stops."""
        enter = frozenset(keys) <= _ENTER
        if enter and self._states.state not in (HostState.ARMED, HostState.RUN):
            self._controls.request_arm()
        else:
            self._controls.request_stop("a key")

    def _read(self) -> None:
        sources: list[int | socket.socket] = [self._descriptor, self._ended]
        while True:
            ready, _, _ = select.select(sources, [], [])
            # In the background a read would suspend the whole process.
            if self._ended in ready or not _in_foreground(self._descriptor):
                return
            try:
                keys = os.read(self._descriptor, 64)
            except OSError:
                return  # the terminal is gone: SIGHUP tells
            if not keys:
                return
            self.pressed(keys)

    def _restore(self) -> None:
        saved, self._saved = self._saved, None
        atexit.unregister(self._restore)
        if saved is None:
            return
        # From the background the kernel answers tcsetattr() with SIGTTOU, which suspends; blocked, it lets it happen.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTTOU})
        try:
            with contextlib.suppress(termios.error):
                termios.tcsetattr(self._descriptor, termios.TCSAFLUSH, saved)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _standard_input() -> int:
    try:
        return sys.stdin.fileno()
    except (AttributeError, OSError, ValueError):  # closed, or replaced by something that is no file
        return -1


def _in_foreground(descriptor: int) -> bool:
    try:
        return os.isatty(descriptor) and os.tcgetpgrp(descriptor) == os.getpgrp()
    except OSError:
        return False
