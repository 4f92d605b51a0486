"""A bare pyserial echo: what reading a frame and writing one costs with no protocol, no policy and no log.

    python -m benchmarks.bare_echo --port PATH --seconds 10 --out stamps.npy

select(), read what is there, write as many bytes as a COMMAND takes: pyserial as its documentation uses it. The clock
starts where the bridge's does, when select() says readable, and ends where the bridge's does, when write() returned.
"""

from __future__ import annotations

import argparse
import gc
import select
import time

import numpy as np
import serial

from hardware.framing import encode_frame
from hardware.protocol import Command

ANSWER = encode_frame(Command(0x12345678, 1_000_000, 1.25), 1000)


def echo(port: str, seconds: float) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Durations of every echo [ns], in order."""
    durations: list[int] = []
    with serial.Serial(port, 921_600, timeout=0.5, exclusive=True) as line:
        watched: list[int] = [line.fileno()]
        line.reset_input_buffer()
        gc.collect()
        gc.freeze()
        gc.disable()
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if not select.select(watched, [], [], 0.5)[0]:
                continue
            ready_ns = time.monotonic_ns()
            line.read(line.in_waiting)
            line.write(ANSWER)
            durations.append(time.monotonic_ns() - ready_ns)
    return np.array(durations, np.int64)


def main() -> None:
    """Echo, then save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", required=True)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--out", required=True)
    arguments = parser.parse_args()
    np.save(arguments.out, echo(arguments.port, arguments.seconds))


if __name__ == "__main__":
    main()
