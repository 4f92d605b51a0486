"""The live page's server against raw sockets: who is let in, and that nobody can hold it up."""

import asyncio
import contextlib
import json
import os
import re
import socket
import threading
import time

import pytest

from firmware_bridge.live import server as live_server
from firmware_bridge.live.document import live_document
from firmware_bridge.live.feed import WATCHED, PageSettings
from firmware_bridge.live.process import serve_page
from firmware_bridge.live.request import HEAD_LIMIT_BYTES

TOKEN = "the-right-token"


class Served:
    """The server of a page in a thread, its two pipes in the hands of the test."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        source, self.feed = os.pipe()
        self.control, control = os.pipe()
        settings = PageSettings(self.listener.detach(), TOKEN, ("bench",))
        self._close = (source, self.control, control)
        self._thread = threading.Thread(target=lambda: asyncio.run(serve_page(settings, source, control)))

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        os.close(self.feed)
        self._thread.join(20)
        assert not self._thread.is_alive()
        for descriptor in self._close:
            os.close(descriptor)

    def connect(self):
        return socket.create_connection(("127.0.0.1", self.port), timeout=20)

    def ask(self, request):
        """The whole answer to these bytes; b"" where the connection was reset."""
        with self.connect() as connection:
            with contextlib.suppress(ConnectionError):
                connection.sendall(request)
            return _all(connection)

    def get(self, path, token=TOKEN, method="GET", **headers):
        """Status and body of a well-formed request."""
        headers = {"Host": f"127.0.0.1:{self.port}", **headers}
        if method == "POST" and token is not None:
            headers["Authorization"] = f"Bearer {token}"
        elif token is not None:
            path = f"{path}?token={token}"
        lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
        return _parsed(self.ask(f"{method} {path} HTTP/1.1\r\n{lines}\r\n".encode()))

    def requests(self):
        """What has come back through the control pipe so far, but for the news that a page was opened."""
        os.set_blocking(self.control, False)
        try:
            return os.read(self.control, 100).replace(WATCHED, b"")
        except BlockingIOError:
            return b""


def _all(connection):
    data = b""
    with contextlib.suppress(ConnectionError):
        while piece := connection.recv(65536):
            data += piece
    return data


def _parsed(answer):
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split(b" ")[1]), head.decode(), body


@pytest.fixture(scope="module")
def served():
    with Served() as server:
        yield server


def test_page_is_one_document_that_may_load_nothing(served):
    status, head, body = served.get("/")
    assert status == 200
    policy = re.search(r"Content-Security-Policy: (.*)", head).group(1)
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert body == live_document().body
    assert not re.search(rb"(src|href)=\"(?!data:,)", body)  # nothing from elsewhere, no second file
    assert b"page.css" not in body
    assert b"page.js" not in body


def test_the_other_answers(served):
    status, _, body = served.get("/state")
    assert status == 200
    assert json.loads(body)["state"] == "IDLE"
    assert served.get("/../../etc/passwd")[0] == 404
    assert served.get("/live_page/page.js")[0] == 404
    assert served.get("/stop")[0] == 404  # a link or an image cannot stop anything: it takes a POST
    assert served.requests() == b""


@pytest.mark.parametrize("path", ["/", "/events", "/state"])
@pytest.mark.parametrize("token", [None, "", "wrong", TOKEN[:-1], TOKEN + "x", "%ff"])
def test_wrong_token_gets_nothing(served, path, token):
    status, _, body = served.get(path, token=token)
    assert status == 403
    assert len(body) < 100


@pytest.mark.parametrize("path", ["/stop", "/arm"])
def test_wrong_token_stops_and_arms_nothing(served, path):
    assert served.get(path, method="POST", token="wrong")[0] == 403
    assert served.get(path, method="POST", token=None)[0] == 403
    # The token in the address is not enough for a POST: a form of another site could send that.
    assert served.get(f"{path}?token={TOKEN}", method="POST", token=None)[0] == 403
    assert served.requests() == b""


def test_stop_and_arm_arrive(served):
    assert served.get("/stop", method="POST")[0] == 202
    assert served.get("/arm", method="POST", Origin=f"http://127.0.0.1:{served.port}")[0] == 202
    assert served.requests() == b"sa"


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("evil.example", 421),
        ("127.0.0.1.evil.example:80", 421),
        ("localhost.evil.example", 421),
        ("localhost:80:80", 421),
        ("[::1]evil", 421),
        ("", 421),
        ("localhost:9000", 200),  # a tunnel's other end
        ("LOCALHOST", 200),
        ("[::1]:8080", 200),
        ("192.168.1.7:8080", 200),  # an address cannot be rebound
        ("bench:8080", 200),
    ],
)
def test_host_must_be_an_address_or_ours(served, host, status):
    assert served.get("/state", Host=host)[0] == status


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "https://127.0.0.1:{port}", "http://127.0.0.1:1"])
def test_pages_of_other_origins_are_refused(served, origin):
    origin = origin.format(port=served.port)
    assert served.get("/stop", method="POST", Origin=origin)[0] == 403
    assert served.get("/events", Origin=origin)[0] == 403
    assert served.requests() == b""


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"\r\n\r\n", 400),
        (b"GET /\r\n\r\n", 400),
        (b"GET http://127.0.0.1/ HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/2\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost : localhost\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 101 + b"\r\n", 400),
        (b"\xff\xfe / HTTP/1.1\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", 400),  # a TLS handshake
        (b"DELETE / HTTP/1.1\r\nHost: localhost\r\n\r\n", 405),
        (b"OPTIONS /stop HTTP/1.1\r\nHost: localhost\r\nOrigin: http://evil.example\r\n\r\n", 405),
        (b"POST /stop HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello", 413),
        (b"POST /stop HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 413),
    ],
)
def test_what_is_no_request_of_ours(served, request_bytes, status):
    answer = served.ask(request_bytes)
    # A body that nobody reads may reset the connection before the answer is read.
    assert answer == b"" or _parsed(answer)[0] == status
    assert b"Access-Control" not in answer
    assert served.requests() == b""


def test_a_megabyte_of_header_is_cut_off(served):
    answer = served.ask(b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 1_000_000 + b"\r\n\r\n")
    assert answer == b"" or _parsed(answer)[0] == 431
    just_fits = b"x" * (HEAD_LIMIT_BYTES - 200)
    assert _parsed(served.ask(b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + just_fits + b"\r\n\r\n"))[0] == 403
    assert served.get("/state")[0] == 200


def test_slow_and_silent_clients_do_not_keep_a_stop_out(served):
    with contextlib.ExitStack() as stack:
        slow = [stack.enter_context(served.connect()) for _ in range(3 * live_server.CONNECTIONS)]
        for connection in slow:
            with contextlib.suppress(ConnectionError):
                connection.sendall(b"GET / HT")
        assert served.get("/stop", method="POST")[0] == 202
        # The oldest have given way: the server never held more than its limit.
        slow[0].settimeout(20)
        assert _all(slow[0]) == b""
    assert served.requests() == b"s"


def test_a_request_that_never_ends_is_answered_with_408(monkeypatch):
    monkeypatch.setattr("firmware_bridge.live.request.HEAD_TIMEOUT_S", 0.1)
    with Served() as server, server.connect() as connection:
        connection.sendall(b"GET / HTTP/1.1\r\n")
        assert _parsed(_all(connection))[0] == 408


def test_only_so_many_pages_watch(served):
    with contextlib.ExitStack() as stack:
        request = f"GET /events?token={TOKEN} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
        for _ in range(live_server.STREAMS):
            connection = stack.enter_context(served.connect())
            connection.sendall(request)
            assert connection.recv(100).startswith(b"HTTP/1.1 200")
        assert served.get("/events")[0] == 503
        assert served.get("/stop", method="POST")[0] == 202
    assert served.requests() == b"s"
    deadline = time.monotonic() + 20
    while True:  # their places are free again once the server has noticed
        with served.connect() as connection:
            connection.sendall(request)
            if connection.recv(100).startswith(b"HTTP/1.1 200"):
                break
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_page_that_does_not_read_is_cut_off_and_nobody_else_notices(monkeypatch):
    monkeypatch.setattr(live_server, "_STUCK_S", 0.2)
    monkeypatch.setattr(live_server, "_BACKLOG_BYTES", 1)
    monkeypatch.setattr(live_server, "UPDATE_S", 0.001)
    with Served() as server, server.connect() as stuck:
        stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        stuck.sendall(f"GET /events?token={TOKEN} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        stuck.recv(1)
        reset = threading.Event()

        def watch():
            with contextlib.suppress(OSError):
                while True:
                    stuck.send(b"x")
                    time.sleep(0.01)
            reset.set()

        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        while not reset.is_set():
            assert server.get("/state")[0] == 200
        thread.join(20)


def test_the_end_of_the_pipe_is_told_and_ends_the_server():
    with Served() as server:
        connection = server.connect()
        connection.sendall(f"GET /events?token={TOKEN} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        assert connection.recv(100).startswith(b"HTTP/1.1 200")
    with connection:
        last = _all(connection).decode().strip().rsplit("\n", 1)[-1]
    assert json.loads(last.removeprefix("data: "))["ended"] is True
