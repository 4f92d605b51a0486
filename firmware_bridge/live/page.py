"""The live page of a run: its process started, fed and ended; stop and arm from the page handed to the run.

The loop is not slowed by who watches: it packs 64 bytes a period and writes them to a pipe that never blocks
(`feed`). Everything else - HTTP, percentiles, JSON - happens in the other process (`process`). A page or a
process that is gone changes nothing for the run.
"""

import contextlib
import dataclasses
import fcntl
import os
import secrets
import socket
import subprocess
import threading
from collections.abc import Iterator
from typing import Any

from firmware_bridge import notices
from firmware_bridge.child_process import start_child
from firmware_bridge.device.conversation import Conversation, LinkCounters
from firmware_bridge.errors import LiveError
from firmware_bridge.live.feed import ARM, STOP, WATCHED, Counts, LiveFeed, PageSettings
from firmware_bridge.loop.tally import Tally
from firmware_bridge.safety.controls import Controls

LOOPBACK = "127.0.0.1"
_PIPE_BYTES = 1024 * 1024  # what a page that gets no processor for four seconds misses nothing of, at 1 kHz
_END_TIMEOUT_S = 3.0
_BACKLOG = 16


@dataclasses.dataclass(frozen=True)
class LiveSettings:
    """Where the page is served; `port` 0 takes a free one."""

    bind: str = LOOPBACK
    port: int = 0


@dataclasses.dataclass
class LivePage:
    """A page that is being served.

    `result` is shown when the run is over: {"text": why it ended, "armed": whether anything was, "stop": how braking
    went, or None}. `watched` is set once somebody has opened the page.
    """

    feed: LiveFeed
    url: str
    process_id: int
    watched: threading.Event
    result: dict[str, Any] | None = None

    def watch(self, conversation: Conversation, tally: Tally) -> None:
        """Show this connection from now on. Its counters start with the device's first report: they go back to its
        boot."""
        recorder = conversation.recorder
        before: LinkCounters | None = None

        def counts() -> Counts:
            nonlocal before
            link = conversation.counters()
            if before is None and conversation.statistics is not None:
                before = link
            new = link.since(before or link)
            return Counts(new.crc_errors, new.lost, new.stale_commands, new.refused, tally.unanswered, recorder.dropped)

        self.feed.counts = counts
        recorder.tap = self.feed.take

    def farewell(self) -> None:
        """Send what has gathered, and the result."""
        if self.result is not None:
            self.feed.tell("result", self.result)
        self.feed.close()


@contextlib.contextmanager
def live_page(settings: LiveSettings, controls: Controls) -> Iterator[LivePage]:
    """Serve the page while the context is open; its address goes to standard error. Raises LiveError."""
    listener = _listen(settings)
    token = secrets.token_urlsafe(24)
    with listener:
        port = listener.getsockname()[1]
        url = f"http://{_shown(settings.bind)}:{port}/?token={token}"
        page = PageSettings(listener.fileno(), token, _names(settings.bind))
        process = start_child("firmware_bridge.live.process", [page.listener])
    if process.stdin is None or process.stdout is None:
        raise LiveError("the live page's process has no pipes; run without --live")
    descriptor = process.stdin.fileno()
    try:
        os.write(descriptor, page.encoded())
    except OSError as error:
        process.kill()
        process.wait()
        raise LiveError(f"the live page's process ended at once ({error.strerror}); run without --live") from error
    os.set_blocking(descriptor, False)
    with contextlib.suppress(AttributeError, OSError):  # Linux only, and bounded by fs.pipe-max-size
        fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
    served = LivePage(LiveFeed(descriptor), url, process.pid, threading.Event())
    served.feed.awaiting_arm = lambda: controls.awaiting_arm
    closing = threading.Event()
    arguments = (process.stdout.fileno(), controls, served.watched, closing)
    listening = threading.Thread(target=_hear, args=arguments, name="live", daemon=True)
    listening.start()
    if settings.bind not in (LOOPBACK, "localhost", "::1"):
        notices.say(
            f"warning: the live page is bound to {settings.bind}: whoever has its address can watch, arm and stop, and "
            "nothing is encrypted; leave --live-bind out and use a tunnel (ssh -L) where others share the network",
            notices.WARNING,
        )
    notices.say(f"live page: {url}")
    try:
        yield served
    finally:
        closing.set()
        served.farewell()
        process.stdin.close()
        try:
            process.wait(_END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        listening.join()
        process.stdout.close()


def _listen(settings: LiveSettings) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in settings.bind else socket.AF_INET
        return socket.create_server((settings.bind, settings.port), family=family, backlog=_BACKLOG)
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise LiveError(
            f"live page on {settings.bind} port {settings.port}: cannot be served ({reason}), expected an address of "
            "this computer and a free port; pass another --live-port, or 0 for any"
        ) from error


def _hear(descriptor: int, controls: Controls, watched: threading.Event, closing: threading.Event) -> None:
    """Hand requests of the page to the run, until the page's process ends."""
    while request := os.read(descriptor, 1):
        if request == STOP:
            controls.request_stop("the live page")
        elif request == ARM:
            controls.request_arm()
        elif request == WATCHED:
            watched.set()
    if not closing.is_set():
        text = "warning: the live page's process has ended; the run goes on without it, Ctrl-C stops it"
        notices.say(text, notices.WARNING)


def _shown(bind: str) -> str:
    if bind in ("0.0.0.0", "::", ""):  # noqa: S104 (asked for on the command line)
        return socket.gethostname()
    return f"[{bind}]" if ":" in bind else bind


def _names(bind: str) -> tuple[str, ...]:
    """Host names, beside addresses and localhost, that requests may be for."""
    return (bind.lower(), socket.gethostname().lower())
