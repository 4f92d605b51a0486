"""The fault proxy: between a bridge and a device, and not on their side.

    bridge <--- HostPort ---> FaultProxy <--- Link ---> device (a port, or `python -m hardware simulate`)

Real time: a frame leaves when it has come whole, plus its delay; the order of each direction stays. Lock-step: nothing
is delayed by any clock; delays are added up instead, and an answer that they make late arrives in the next period.
"""

import contextlib
import dataclasses
import select
import socket
import time
from collections import deque
from typing import Any

from firmware_bridge.errors import BridgeError, LinkLostError
from firmware_bridge.faults.connection import Connection, DeviceClock, LockStep
from firmware_bridge.faults.plan import Direction, FaultPlan
from firmware_bridge.faults.port import host_port
from firmware_bridge.faults.script import read_script
from firmware_bridge.faults.settings import Proxy
from firmware_bridge.faults.stream import FaultStream, Frame
from firmware_bridge.ports.link import Link
from hardware.protocol import Hello, Observation

_IDLE_S = 1.0
_STUCK_S = 0.25  # lock-step: a tick that nobody answers for so long is released; less than a bridge's patience


@dataclasses.dataclass
class ProxyCounters:
    """What happened to connections; `stuck` ticks were released in lock-step because nobody answered them."""

    connections: int = 0
    cut: int = 0
    ended_by_host: int = 0
    stuck: int = 0
    late: int = 0
    longest_delay_s: float = 0.0


class FaultProxy:
    """One device, one bridge at a time. `run` works until `stop`; `name` is what the bridge opens."""

    def __init__(self, settings: Proxy, device: Link) -> None:
        script = read_script(settings.script) if settings.script is not None else ()
        self.settings = settings
        self.counters = ProxyCounters()
        self.clock = DeviceClock()
        self._device = device
        self._port = host_port(settings.listen)
        self._streams = {
            each: FaultStream(FaultPlan(each, settings.seed, settings.rates_of(each), script)) for each in Direction
        }
        self._lockstep = LockStep() if settings.clock == "lockstep" else None
        self._host: Link | None = None
        self._connection: Connection | None = None
        self._closed_until_s: float | None = None
        self._next_cut_s: float | None = None
        self._queues: dict[Direction, deque[tuple[float, bytes]]] = {each: deque() for each in Direction}
        self._late = b""
        self._stop_sender, self._stop_receiver = socket.socketpair()
        self._ended_by = "stop"
        self._port.open()
        self.name = self._port.name

    def stop(self) -> None:
        """End `run` soon. May be called from a signal handler or another thread."""
        with contextlib.suppress(OSError):
            self._stop_sender.send(b"x")

    def close(self) -> None:
        """Take the bridge's port away; the device's belongs to the caller."""
        if self._host is not None:
            self._host.close()
        self._port.close()
        self._stop_sender.close()
        self._stop_receiver.close()

    def run(self) -> None:
        """Carry frames until `stop`, or until the device is gone. Raises LinkError: the port cannot be offered again.

        `result` says by what it ended in any case.
        """
        try:
            self._carry()
        except LinkLostError as error:
            self._ended_by = str(error)
        except BridgeError as error:
            self._ended_by = str(error)
            raise

    def _carry(self) -> None:
        while True:
            waiting = self._host.descriptor if self._host is not None else self._port.descriptor
            watched = [self._device.descriptor, self._stop_receiver.fileno(), *([waiting] if waiting >= 0 else [])]
            ready = select.select(watched, [], [], self._timeout_s())[0]
            if self._stop_receiver.fileno() in ready:
                return
            self._send_due()
            if self._device.descriptor in ready:
                for frame in self._streams[Direction.TO_HOST].cut(self._device.read()):
                    self._from_device(frame)
            if waiting >= 0 and waiting in ready and self._host is not None and self._host.descriptor == waiting:
                self._read_host()
            elif waiting in ready and self._host is None and self._port.descriptor == waiting:
                self._accept()
            if not ready:
                self._nothing_came()
            if self._closed_until_s is not None and self._now_s() >= self._closed_until_s:
                self._closed_until_s = None
                self._port.open()

    def result(self) -> dict[str, Any]:
        """What was done, for JSON."""
        told = dataclasses.asdict(self.counters)
        streams = {str(each): dataclasses.asdict(stream.counters) for each, stream in self._streams.items()}
        released = self._lockstep.released if self._lockstep is not None else 0
        told["ended_by"] = self._ended_by
        return {"seed": self.settings.seed, **told, "released": released, "device_s": self.clock.seconds, **streams}

    def _now_s(self) -> float:
        return self.clock.seconds if self._lockstep is not None else time.monotonic()

    def _timeout_s(self) -> float:
        if self._lockstep is not None:
            return _STUCK_S
        now = time.monotonic()
        due = [queue[0][0] for queue in self._queues.values() if queue]
        due += [self._closed_until_s] if self._closed_until_s is not None else []
        return max(0.0, min([*due, now + _IDLE_S]) - now)

    def _nothing_came(self) -> None:
        """Lock-step: whatever the reason is for which nobody answers, time goes on while a bridge is there."""
        if self._lockstep is not None and self._lockstep.tick is not None and self._connection is not None:
            self.counters.stuck += 1
            self._release()

    def _accept(self) -> None:
        try:
            self._host = self._port.accept()
        except OSError:
            return  # it came and went
        for stream in self._streams.values():
            stream.restart()
        self._connection = Connection(self.counters.connections)
        if self.settings.disconnect_every_s is not None and self._next_cut_s is None:
            self._next_cut_s = self._now_s() + self.settings.disconnect_every_s
        self.counters.connections += 1

    def _from_device(self, frame: Frame) -> None:
        stream = self._streams[Direction.TO_HOST]
        message = frame.message
        if message is not None:
            self.clock.observe(message)
        if self._connection is not None and isinstance(message, Observation) and self._is_time_to_cut():
            self._end_connection()
            self.counters.cut += 1
        if self._connection is None:
            stream.counters.without_host += 1
            if self._lockstep is not None:
                self._lockstep.said(message, 0.0)
                if self._closed_until_s is not None:
                    self._release()  # time passes without anybody; afterwards it waits for the next bridge
            return
        self._connection.observe(message)
        passage = stream.forward(frame, self._connection.number, self._connection.period(self.clock.tick))
        self.counters.longest_delay_s = max(self.counters.longest_delay_s, passage.delay_s)
        if "disconnect" in passage.kinds:
            self._end_connection()
            self.counters.cut += 1
            return
        self._send(Direction.TO_HOST, passage.data, passage.delay_s)
        if self._lockstep is None:
            return
        self._lockstep.said(message, passage.delay_s)
        if not isinstance(message, Observation):
            return
        late, self._late = self._late, b""
        if late:
            self._send(Direction.TO_DEVICE, late, 0.0)
        if not any(isinstance(each, Observation) and each.tick == message.tick for _, each in passage.arrived):
            self._release()

    def _read_host(self) -> None:
        assert self._host is not None
        try:
            data = self._host.read()
        except LinkLostError:
            self._end_connection()
            self.counters.ended_by_host += 1
            return
        for frame in self._streams[Direction.TO_DEVICE].cut(data):
            if self._connection is None:
                return
            self._from_host(frame, self._connection)

    def _from_host(self, frame: Frame, connection: Connection) -> None:
        stream = self._streams[Direction.TO_DEVICE]
        passage = stream.forward(frame, connection.number, connection.period(self.clock.tick))
        self.counters.longest_delay_s = max(self.counters.longest_delay_s, passage.delay_s)
        if "disconnect" in passage.kinds:
            self._end_connection()
            self.counters.cut += 1
            return
        lockstep = self._lockstep
        if lockstep is None:
            self._send(Direction.TO_DEVICE, passage.data, passage.delay_s)
            return
        answered = lockstep.is_answer(frame.message)
        if lockstep.is_late(frame.message, passage.delay_s, self.clock.period_s):
            self.counters.late += 1
            self._late += passage.data
        else:
            self._send(Direction.TO_DEVICE, passage.data, 0.0)
            lockstep.arrived(passage.arrived)
        # A bridge that comes finds a tick that waits, whose observation went out before: its HELLO ends it.
        if answered or any(isinstance(each, Hello) for _, each in passage.arrived):
            self._release()

    def _is_time_to_cut(self) -> bool:
        """Whether the next of the regular disconnects is due; the first one counts from the first connection."""
        every = self.settings.disconnect_every_s
        if every is None or self._next_cut_s is None or self._now_s() < self._next_cut_s:
            return False
        while self._next_cut_s <= self._now_s():
            self._next_cut_s += every
        return True

    def _end_connection(self) -> None:
        if self._host is not None:
            self._host.close()
        self._port.close()
        self._host = self._connection = None
        self._late = b""
        for queue in self._queues.values():
            queue.clear()
        # In lock-step a device that has not begun to speak has no time that could pass.
        self._closed_until_s = self._now_s() + (self.settings.outage_s if self.clock.running else 0.0)
        self._release()

    def _release(self) -> None:
        data = self._lockstep.release() if self._lockstep is not None else b""
        if data:
            self._streams[Direction.TO_DEVICE].inject(data)
            self._device.write(data)

    def _send(self, direction: Direction, data: bytes, delay_s: float) -> None:
        queue = self._queues[direction]
        if self._lockstep is not None or (delay_s == 0.0 and not queue):
            self._write(direction, data)
            return
        due = time.monotonic() + delay_s
        queue.append((max(due, queue[-1][0]) if queue else due, data))

    def _send_due(self) -> None:
        now = time.monotonic()
        for direction, queue in self._queues.items():
            while queue and queue[0][0] <= now:
                self._write(direction, queue.popleft()[1])

    def _write(self, direction: Direction, data: bytes) -> None:
        if direction == Direction.TO_DEVICE:
            self._device.write(data)
        elif self._host is not None:
            with contextlib.suppress(LinkLostError):  # its next read says so
                self._host.write(data)
