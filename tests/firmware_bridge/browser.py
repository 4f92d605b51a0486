"""A headless Chromium, spoken to through a pipe in its own protocol (Chrome DevTools): no driver, no package."""

import base64
import contextlib
import json
import os
import select
import shutil
import subprocess
import time

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_FLAGS = (
    *("--headless", "--remote-debugging-pipe", "--no-first-run", "--disable-gpu", "--disable-dev-shm-usage"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-quic"),
    *("--hide-scrollbars", "--mute-audio"),
)


def browser_path():
    """Path of a Chromium, None where there is none."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Browser:
    """Context manager; `folder` becomes the browser's profile. One page, `open` shows an address in it.

    `problems` are the exceptions and console errors (refused by the security policy, too) of that page.
    """

    def __init__(self, folder, width=1280, height=900, scale=1, dark=False):
        self.problems = []
        self._folder, self._size, self._dark = folder, (width, height, scale), dark
        self._number = 0
        self._pending = b""

    def __enter__(self):
        down_read, self._write = os.pipe()
        self._read, up_write = os.pipe()
        # Chromium reads commands from descriptor 3 and answers on 4; run as root it needs its sandbox off.
        flags = [*_FLAGS, f"--user-data-dir={self._folder}", *(["--no-sandbox"] if os.geteuid() == 0 else [])]
        shell = f'exec "$0" "$@" 3<&{down_read} 4>&{up_write}'
        self._process = subprocess.Popen(
            ["bash", "-c", shell, browser_path(), *flags, "about:blank"],
            pass_fds=(down_read, up_write),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(down_read)
        os.close(up_write)
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        self._session = None
        self._session = self._call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self._call(f"{domain}.enable")
        width, height, scale = self._size
        mobile = width < 600
        self._call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, mobile=mobile
        )
        value = "dark" if self._dark else "light"
        self._call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": value}])
        return self

    def __exit__(self, *_):
        with contextlib.suppress(OSError, AssertionError):
            session, self._session = self._session, None
            self._call("Browser.close", timeout_s=5)
            self._session = session
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, 9)
            self._process.wait()
        os.close(self._write)
        os.close(self._read)

    def open(self, url):
        """Show an address, and wait until it is there."""
        self._call("Page.navigate", url=url)
        self.wait_for(f"location.href === {json.dumps(url)} && document.readyState === 'complete'")

    def evaluate(self, expression):
        """Value of a JavaScript expression in the page; the test fails when it throws."""
        answer = self._call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def wait_for(self, expression, timeout_s=30.0):
        """Wait until the expression is true in the page and return its value."""
        deadline = time.monotonic() + timeout_s
        while not (value := self.evaluate(expression)):
            assert time.monotonic() < deadline, f"{expression} never became true; {self.problems}"
            time.sleep(0.05)
        return value

    def click(self, selector):
        """Press the mouse in the middle of an element, wherever the page has put it."""
        box = self.evaluate(f"JSON.stringify(document.querySelector({selector!r}).getBoundingClientRect())")
        box = json.loads(box)
        at = {"x": box["x"] + box["width"] / 2, "y": box["y"] + box["height"] / 2, "button": "left", "clickCount": 1}
        for kind in ("mousePressed", "mouseReleased"):
            self._call("Input.dispatchMouseEvent", type=kind, **at)

    def key(self, key, code, text=""):
        """Press and release a key."""
        for kind in ("keyDown", "keyUp"):
            self._call("Input.dispatchKeyEvent", type=kind, key=key, code=code, **({"text": text} if text else {}))

    def offline(self, yes=True):
        """Take the page's network away, or give it back."""
        conditions = {"latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
        self._call("Network.emulateNetworkConditions", offline=yes, **conditions)

    def screenshot(self, path, full=False):
        """Write a PNG of what is seen, or of the whole page."""
        data = self._call("Page.captureScreenshot", format="png", captureBeyondViewport=full)["data"]
        path.write_bytes(base64.b64decode(data))

    def _call(self, method, timeout_s=30.0, **parameters):
        self._number += 1
        request = {"id": self._number, "method": method, "params": parameters}
        if getattr(self, "_session", None):
            request["sessionId"] = self._session
        os.write(self._write, json.dumps(request).encode() + b"\0")
        deadline = time.monotonic() + timeout_s
        while True:
            message = self._receive(deadline)
            if message.get("id") == self._number:
                assert "error" not in message, message
                return message["result"]
            parameters = message.get("params", {})
            if message.get("method") == "Runtime.exceptionThrown":
                self.problems.append(
                    parameters["exceptionDetails"].get("exception", {}).get("description", "exception")
                )
            elif message.get("method") == "Log.entryAdded" and parameters["entry"]["level"] == "error":
                self.problems.append(parameters["entry"]["text"])

    def _receive(self, deadline):
        while b"\0" not in self._pending:
            left = deadline - time.monotonic()
            assert left > 0, "the browser does not answer"
            assert select.select([self._read], [], [], left)[0], "the browser does not answer"
            data = os.read(self._read, 65536)
            assert data, f"the browser ended with exit code {self._process.poll()}"
            self._pending += data
        message, _, self._pending = self._pending.partition(b"\0")
        return json.loads(message)
