"""Real-time knobs: each is tried, what became of it is recorded, none is needed.

In the order in which they usually matter on a stock kernel (docs/latency.md): low-latency serial driver, collector off,
pinned SCHED_FIFO, no deep sleep of the processor, memory locked, timers without slack. What this user may not do is
refused by the kernel and said so; a run goes on without it. Everything taken is given back by `undo`.
"""

import array
import contextlib
import ctypes
import dataclasses
import fcntl
import os
import resource
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

PRIORITY = 50  # of SCHED_FIFO: above programs, below the kernel's own interrupt threads at 50 and more on PREEMPT_RT
_LATENCY_DEVICE = Path("/dev/cpu_dma_latency")
_ISOLATED = Path("/sys/devices/system/cpu/isolated")
_MCL_CURRENT, _MCL_FUTURE = 1, 2
_PR_SET_TIMERSLACK, _PR_GET_TIMERSLACK = 29, 30
_TIOCGSERIAL, _TIOCSSERIAL = 0x541E, 0x541F
_FLAGS_AT, _ASYNC_LOW_LATENCY = 4, 1 << 13  # struct serial_struct: int flags is the fifth

Undo = Callable[[], object]


@dataclasses.dataclass(frozen=True)
class Knob:
    """What became of one knob: `detail` says how it stands, or why it was refused."""

    taken: bool
    detail: str


class RealTime:
    """The knobs of the calling thread, the one that runs the loop. `knobs` is empty until `take`."""

    def __init__(self) -> None:
        self.knobs: dict[str, Knob] = {}
        self._undo: list[Undo] = []
        self._everywhere: set[int] | None = None

    def take(self, descriptor: int | None, cpu: int | None = None) -> None:
        """Try every knob; `descriptor` is the open port's, `cpu` the processor to pin to (None: choose one)."""
        steps: dict[str, Callable[[], tuple[str, Undo]]] = {
            "low_latency_serial": lambda: _low_latency(descriptor),
            "memory_lock": _lock_memory,
            "cpu_dma_latency": _stay_awake,
            "timer_slack": _no_slack,
            "cpu_affinity": lambda: self._pin(cpu),
            "sched_fifo": _first_in,
        }
        for name, step in steps.items():
            try:
                detail, undo = step()
            except (OSError, ValueError) as error:
                reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
                self.knobs[name] = Knob(False, f"{reason}{_remedy(name, error)}")
            else:
                self.knobs[name] = Knob(True, detail)
                self._undo.append(undo)
        self.knobs["gc_freeze"] = Knob(True, "collector off and heap frozen while armed, asked for or not")

    @contextlib.contextmanager
    def elsewhere(self) -> Iterator[None]:
        """Processes that start inside may run on every processor: a new one would inherit the loop's pin.

        (It never inherits SCHED_FIFO: that is what RESET_ON_FORK is for.)
        """
        if self._everywhere is None:
            yield
            return
        pinned = os.sched_getaffinity(0)
        os.sched_setaffinity(0, self._everywhere)
        try:
            yield
        finally:
            os.sched_setaffinity(0, pinned)

    def undo(self) -> None:
        """Give back what was taken, last first; safe to call twice."""
        while self._undo:
            with contextlib.suppress(OSError):  # the port may be gone
                self._undo.pop()()
        self._everywhere = None

    def as_record(self) -> dict[str, dict[str, Any]]:
        """For the log and the result."""
        return {name: dataclasses.asdict(knob) for name, knob in self.knobs.items()}

    def _pin(self, cpu: int | None) -> tuple[str, Undo]:
        allowed = os.sched_getaffinity(0)
        if len(allowed) < 2:
            raise ValueError("one processor only: pinned to it, the loop would run over its own log writer")
        chosen = _free_cpu(allowed) if cpu is None else cpu
        if chosen not in allowed:
            raise ValueError(f"processor {chosen} is not one of {sorted(allowed)}")
        os.sched_setaffinity(0, {chosen})
        self._everywhere = allowed
        return f"processor {chosen}", lambda: os.sched_setaffinity(0, allowed)


def _free_cpu(allowed: set[int]) -> int:
    """An isolated processor (kernel option isolcpus) where there is one, else the last: interrupts favour the first."""
    isolated: set[int] = set()
    with contextlib.suppress(OSError, ValueError):
        for part in _ISOLATED.read_text().strip().split(","):
            low, _, high = part.partition("-")
            isolated |= set(range(int(low), int(high or low) + 1))
    return min(isolated & allowed, default=max(allowed))


def _first_in() -> tuple[str, Undo]:
    """SCHED_FIFO for this thread."""
    policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    limit, _ = resource.getrlimit(resource.RLIMIT_RTPRIO)
    priority = PRIORITY if os.geteuid() == 0 or limit < 1 else min(PRIORITY, limit)
    os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(priority))
    return f"priority {priority}, reset on fork", lambda: os.sched_setscheduler(0, policy, parameters)


def _lock_memory() -> tuple[str, Undo]:
    """No page of this process is fetched from disk while armed."""
    limit, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    # With a limit, locking what is yet to come would turn a later allocation into a failure.
    unlimited = limit == resource.RLIM_INFINITY or os.geteuid() == 0
    _libc("mlockall", _MCL_CURRENT | (_MCL_FUTURE if unlimited else 0))
    return "present and future pages" if unlimited else "present pages only (limited)", lambda: _libc("munlockall")


def _stay_awake() -> tuple[str, Undo]:
    """No deep sleep of any processor for as long as the file is open."""
    handle = os.open(_LATENCY_DEVICE, os.O_WRONLY)
    try:
        os.write(handle, (0).to_bytes(4, "little"))
    except OSError:
        os.close(handle)
        raise
    return "0 us", lambda: os.close(handle)


def _no_slack() -> tuple[str, Undo]:
    """Timers (select, the interpreter's hand-over) may be 50 us late by default: to save power."""
    before = _libc("prctl", _PR_GET_TIMERSLACK, 0, 0, 0, 0)
    _libc("prctl", _PR_SET_TIMERSLACK, 1, 0, 0, 0)
    return f"1 ns, was {before} ns", lambda: _libc("prctl", _PR_SET_TIMERSLACK, before, 0, 0, 0)


def _low_latency(descriptor: int | None) -> tuple[str, Undo]:
    """The driver hands bytes on at once; of an FTDI adapter it sets the latency timer from 16 ms to 1 ms."""
    if descriptor is None:
        raise ValueError("no serial port")
    settings = array.array("i", [0] * 32)
    fcntl.ioctl(descriptor, _TIOCGSERIAL, settings)
    if settings[_FLAGS_AT] & _ASYNC_LOW_LATENCY:
        return "was already set", lambda: None
    before = settings[:]
    settings[_FLAGS_AT] |= _ASYNC_LOW_LATENCY
    fcntl.ioctl(descriptor, _TIOCSSERIAL, settings)
    return "set", lambda: fcntl.ioctl(descriptor, _TIOCSSERIAL, before)


def _libc(name: str, *arguments: int) -> int:
    library = ctypes.CDLL(None, use_errno=True)
    result = int(getattr(library, name)(*(ctypes.c_ulong(argument) for argument in arguments)))
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def _remedy(name: str, error: Exception) -> str:
    if isinstance(error, PermissionError) or (name == "memory_lock" and isinstance(error, OSError)):
        return _REMEDIES.get(name, "")
    if name == "low_latency_serial" and isinstance(error, OSError):
        return ": this port's driver has no such mode"
    return ""


_REMEDIES = {
    "sched_fifo": ": raise LimitRTPRIO in the unit, or rtprio in /etc/security/limits.d",
    "memory_lock": ": raise LimitMEMLOCK in the unit, or memlock in /etc/security/limits.d",
    "cpu_dma_latency": ": let this user write /dev/cpu_dma_latency (udev rule)",
    "low_latency_serial": ": only its owner or root may set it; the udev rule sets latency_timer instead",
}
