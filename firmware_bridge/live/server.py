"""The server of the live page: three GETs and two POSTs, bounded in every direction.

    GET  /?token=        the page, one self-contained document
    GET  /events?token=  Server-Sent Events, 20 a second: `about` once, then `now`
    GET  /state?token=   one `now` as JSON, for programs
    POST /stop, /arm     Authorization: Bearer TOKEN; answered 202 once it has been handed to the bridge

At most `STREAMS` pages watch at a time; of connections that have not yet asked for anything the oldest gives way to the
newest, so nobody who merely connects keeps a stop out. A page that does not read fast enough skips updates, and is cut
off after five seconds.
"""

import asyncio
import contextlib
import socket
import time
from collections.abc import Callable

from firmware_bridge.live.document import Document
from firmware_bridge.live.feed import ARM, STOP, WATCHED
from firmware_bridge.live.request import HEAD_LIMIT_BYTES, Gate, Request, RequestError
from firmware_bridge.live.state import LiveState
from firmware_bridge.logs.topics import to_json

UPDATE_S = 0.05
STREAMS = 8
CONNECTIONS = 32
_BACKLOG_BYTES = 64 * 1024
_SEND_BUFFER_BYTES = 64 * 1024
_STUCK_S = 5.0
_FAREWELL_S = 1.0
_REASONS = {
    **{200: "OK", 202: "Accepted", 400: "Bad Request", 403: "Forbidden", 404: "Not Found", 405: "Method Not Allowed"},
    **{408: "Request Timeout", 413: "Content Too Large", 421: "Misdirected Request"},
    **{431: "Request Header Fields Too Large", 503: "Service Unavailable"},
}
_HEADERS = (
    "Connection: close\r\nCache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n"
    "Referrer-Policy: no-referrer\r\nX-Frame-Options: DENY\r\nCross-Origin-Resource-Policy: same-origin\r\n"
    "Cross-Origin-Opener-Policy: same-origin\r\n"
)


class LiveServer:
    """Serves `state` on a listening socket. `control` is called with `STOP`, `ARM` or `WATCHED`."""

    def __init__(self, state: LiveState, gate: Gate, document: Document, control: Callable[[bytes], None]) -> None:
        self._state = state
        self._gate = gate
        self._document = document
        self._control = control
        # Connections that have not been answered yet, oldest first.
        self._asking: dict[asyncio.StreamWriter, None] = {}
        self._streams: set[asyncio.StreamWriter] = set()
        self._ended = asyncio.Event()

    async def serve(self, listener: socket.socket) -> None:
        """Until `end`, and a moment longer for the pages to hear of it."""
        # Connections inherit it: a page that does not read is found out after so many bytes, not after megabytes.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
        server = await asyncio.start_server(self._connected, sock=listener, limit=HEAD_LIMIT_BYTES)
        await self._ended.wait()
        server.close()
        deadline = time.monotonic() + _FAREWELL_S
        while self._streams and time.monotonic() < deadline:
            await asyncio.sleep(0.01)

    def end(self) -> None:
        """The run is over: the streams get their last update and `serve` returns."""
        self._ended.set()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._asking) + len(self._streams) >= CONNECTIONS and self._asking:
            oldest = next(iter(self._asking))
            del self._asking[oldest]
            oldest.transport.abort()
        self._asking[writer] = None
        try:
            try:
                request = await self._gate.admit(reader)
                if request == Request("GET", "/events"):
                    await self._stream(writer)
                    return
                answer = self._answer(request)
            except RequestError as refused:
                answer = _response(refused.status, "text/plain", refused.reason.encode())
            writer.write(answer)
            async with asyncio.timeout(_STUCK_S):
                await writer.drain()
                writer.close()
                await writer.wait_closed()
        except (OSError, TimeoutError):
            pass
        finally:
            self._asking.pop(writer, None)
            if not writer.is_closing() or writer.transport.get_write_buffer_size():
                writer.transport.abort()

    def _answer(self, request: Request) -> bytes:
        if request == Request("GET", "/"):
            policy = f"Content-Security-Policy: {self._document.security_policy}\r\n"
            return _response(200, "text/html; charset=utf-8", self._document.body, policy)
        if request == Request("GET", "/state"):
            return _response(200, "application/json", to_json(self._state.now(time.monotonic_ns())))
        if request == Request("POST", "/stop"):
            self._control(STOP)
        elif request == Request("POST", "/arm"):
            self._control(ARM)
        else:
            raise RequestError(404, "nothing here; expected /, /events, /state, POST /stop or POST /arm")
        return _response(202, "application/json", b'{"accepted":true}')

    async def _stream(self, writer: asyncio.StreamWriter) -> None:
        if len(self._streams) >= STREAMS:
            raise RequestError(503, f"{STREAMS} pages watch already; close one")
        del self._asking[writer]
        self._streams.add(writer)
        self._control(WATCHED)
        try:
            writer.write(_head(200, "text/event-stream") + b"retry: 500\n\n")
            run, seen, read_at = None, 0, time.monotonic()
            while not writer.is_closing():
                ending = self._ended.is_set()
                now = time.monotonic()
                if writer.transport.get_write_buffer_size() < _BACKLOG_BYTES:
                    read_at = now
                    about = self._state.about()
                    if about["run"] is not run:  # at the start, and when the run becomes known
                        run, seen = about["run"], self._state.points
                        writer.write(b"event: about\ndata: " + to_json(about) + b"\n\n")
                    # The newest point may still have changed: it is sent again.
                    points = self._state.points_since(max(0, seen - 1))
                    seen = self._state.points
                    value = {**self._state.now(time.monotonic_ns()), "points": points}
                    writer.write(b"data: " + to_json(value) + b"\n\n")
                elif now - read_at > _STUCK_S:
                    return
                if ending:
                    async with asyncio.timeout(_FAREWELL_S):
                        await writer.drain()
                        writer.close()
                        await writer.wait_closed()
                    return
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(UPDATE_S):
                        await self._ended.wait()
        finally:
            self._streams.discard(writer)


def _head(status: int, content: str, extra: str = "") -> bytes:
    return f"HTTP/1.1 {status} {_REASONS[status]}\r\nContent-Type: {content}\r\n{_HEADERS}{extra}\r\n".encode()


def _response(status: int, content: str, body: bytes, extra: str = "") -> bytes:
    allow = "Allow: GET, POST\r\n" if status == 405 else ""
    return _head(status, content, f"Content-Length: {len(body)}\r\n{allow}{extra}") + body
