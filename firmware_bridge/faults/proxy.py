"""The verb `proxy`: open the device, stand between until a signal comes, tell what was done."""

import contextlib
import signal
import sys
from collections.abc import Iterator
from typing import Any

from firmware_bridge.faults.fault_proxy import FaultProxy
from firmware_bridge.faults.settings import Proxy
from firmware_bridge.ports.link import open_link


@contextlib.contextmanager
def _stopping(proxy: FaultProxy) -> Iterator[None]:
    """SIGINT and SIGTERM end the proxy, and its counters are told."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    previous = {number: signal.signal(number, lambda _number, _frame: proxy.stop()) for number in numbers}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def run_proxy(settings: Proxy) -> dict[str, Any]:
    """Stand between until a signal comes, or the device goes; what was done. Raises BridgeError."""
    device = open_link(settings.port, settings.baudrate)
    try:
        proxy = FaultProxy(settings, device)
        try:
            with _stopping(proxy):
                print(f"faults at {proxy.name}, seed {settings.seed}", file=sys.stderr, flush=True)
                proxy.run()
        finally:
            proxy.close()
    finally:
        device.close()
    return proxy.result()


def print_proxy(result: dict[str, Any]) -> None:
    """What was done, as a table."""
    from firmware_bridge.reports.tables import console, two_columns

    rows = []
    for name, value in result.items():
        if isinstance(value, dict):
            rows += [(f"{name}: {key.replace('_', ' ')}", f"{number:,}") for key, number in value.items()]
        else:
            rows.append((name.replace("_", " "), f"{value:,.3f}" if isinstance(value, float) else str(value)))
    console().print(two_columns("fault proxy", rows))
