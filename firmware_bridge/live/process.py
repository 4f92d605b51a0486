"""The process that serves the live page, `python -m firmware_bridge.live.process`: `page` starts it, nobody else does.

A process of its own shares no interpreter lock with the control loop. It inherits the listening socket. Standard input
is the pipe of `feed`, which begins with the settings (in a command line everybody could read the token); standard
output carries `STOP` and `ARM` back. It ends when the pipe does, and only then: signals that end the bridge reach it,
too, and must not take the stop button away before the cart stands.
"""

import asyncio
import json
import os
import signal
import socket
import sys

from firmware_bridge.live.document import live_document
from firmware_bridge.live.feed import RECORD_BYTES, PageSettings
from firmware_bridge.live.request import Gate
from firmware_bridge.live.server import LiveServer
from firmware_bridge.live.state import LiveState

_READ_BYTES = 1024 * RECORD_BYTES


async def serve_page(settings: PageSettings, source: int, control: int) -> None:
    """Serve until `source`, a pipe of records, ends; write requests to `control`."""
    state = LiveState()

    def ask(request: bytes) -> None:
        try:
            os.write(control, request)
        except OSError:
            return  # the bridge is gone; the page hears of that by the end of the pipe

    server = LiveServer(state, Gate(settings.token, settings.names), live_document(), ask)
    loop = asyncio.get_running_loop()

    def readable() -> None:
        data = os.read(source, _READ_BYTES)
        state.take(data)
        if not data:
            loop.remove_reader(source)
            server.end()

    loop.add_reader(source, readable)
    await server.serve(socket.socket(fileno=settings.listener))


def main() -> None:
    """Read the settings, serve, end."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    source, control = sys.stdin.fileno(), os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # a stray print is no request
    settings = json.loads(_exactly(source, int.from_bytes(_exactly(source, 4), "little")))
    page = PageSettings(settings["listener"], settings["token"], tuple(settings["names"]))
    asyncio.run(serve_page(page, source, control))


def _exactly(descriptor: int, count: int) -> bytes:
    data = b""
    while len(data) < count:
        piece = os.read(descriptor, count - len(data))
        if not piece:
            sys.exit(0)  # the bridge ended before it began
        data += piece
    return data


if __name__ == "__main__":
    main()
