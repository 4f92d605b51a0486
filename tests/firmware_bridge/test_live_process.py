"""The live page as a run starts it: a process of its own, its address, what it hands on, and its end."""

import os
import re
import signal
import socket
import threading
import time

import pytest

from firmware_bridge.live.page import LiveSettings, live_page


class FakeControls:
    """Remembers what was asked."""

    awaiting_arm = False

    def __init__(self):
        self.asked = []
        self.heard = threading.Event()

    def request_stop(self, reason):
        self.asked.append(reason)
        self.heard.set()

    def request_arm(self):
        self.asked.append("arm")
        return False


def _url_parts(url):
    return re.fullmatch(r"http://(.*):(\d+)/\?token=([\w-]{32})", url).groups()


def test_live_page_prints_its_address_hands_on_a_stop_and_leaves_no_process(capfd):
    controls = FakeControls()
    before = threading.active_count()
    with live_page(LiveSettings(), controls) as page:
        host, port, token = _url_parts(page.url)
        assert host == "127.0.0.1"
        assert capfd.readouterr().err == f"live page: {page.url}\n"
        _post_stop(host, port, token)
        assert controls.heard.wait(20)
    assert controls.asked == ["the live page"]
    assert threading.active_count() == before
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((host, int(port)), timeout=5)


def test_another_address_is_warned_about(capfd):
    with live_page(LiveSettings(bind="0.0.0.0"), FakeControls()) as page:
        assert socket.gethostname() in page.url
    warning, address = capfd.readouterr().err.splitlines()
    assert warning.startswith(
        "warning: the live page is bound to 0.0.0.0: whoever has its address can watch, arm and stop"
    )
    assert address == f"live page: {page.url}"


def test_a_port_that_is_taken_is_one_line():
    from firmware_bridge.errors import LiveError

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(LiveError, match=rf"live page on 127.0.0.1 port {port}: cannot be served .*--live-port"):
            live_page(LiveSettings(port=port), FakeControls()).__enter__()
    with pytest.raises(LiveError, match=r"live page on no\.such\.host\.invalid port 0: cannot be served"):
        live_page(LiveSettings(bind="no.such.host.invalid"), FakeControls()).__enter__()


def test_the_run_outlives_the_page_s_process(capfd):
    with live_page(LiveSettings(), FakeControls()) as page:
        os.kill(page.process_id, signal.SIGKILL)
        said = ""
        deadline = time.monotonic() + 20
        while "warning: the live page's process has ended; the run goes on" not in said:
            assert time.monotonic() < deadline, said
            time.sleep(0.02)
            said += capfd.readouterr().err
        for _ in range(10):
            page.feed.tell("event", {"kind": "a", "text": "b"})  # a pipe that nobody reads: no error, no wait


def test_signals_for_the_bridge_do_not_take_the_stop_button_away():
    controls = FakeControls()
    with live_page(LiveSettings(), controls) as page:
        host, port, token = _url_parts(page.url)
        _post_stop(host, port, token)  # the process is up
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os.kill(page.process_id, number)
        controls.heard.clear()
        _post_stop(host, port, token)
        assert controls.heard.wait(20)


def _post_stop(host, port, token):
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(f"POST /stop HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n\r\n".encode())
        assert b" 202 " in b"".join(iter(lambda: connection.recv(65536), b""))
