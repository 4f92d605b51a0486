"""The process that serves the live page, `python -m firmware_bridge.live.process`: `page` starts it, nobody else does.

A process of its own shares no interpreter lock with the control loop. It inherits the listening socket. Standard input
is the pipe of `feed`, which begins with the settings (in a command line everybody could read the token); standard
output carries `STOP`, `ARM` and `WATCHED` back. It ends when the pipe does, and only then: the stop button stays until
the cart stands.
"""

import asyncio
import os
import socket
import sys

from firmware_bridge.child_process import become_child, settings_in
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
    source, control = become_child()
    data = b""
    while (found := settings_in(data)) is None:
        piece = os.read(source, 1)  # what comes behind them is for `serve_page`
        if not piece:
            sys.exit(0)  # the bridge ended before it began
        data += piece
    settings, _ = found
    page = PageSettings(settings["listener"], settings["token"], tuple(settings["names"]))
    asyncio.run(serve_page(page, source, control))


if __name__ == "__main__":
    main()
