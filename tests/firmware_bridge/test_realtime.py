"""Each knob is taken or refused with a reason, and given back."""

import ctypes
import os
import resource
import threading
import tty
from pathlib import Path

import pytest

from firmware_bridge.loop import realtime
from firmware_bridge.loop.realtime import RealTime

KNOBS = {
    *("low_latency_serial", "memory_lock", "cpu_dma_latency", "timer_slack", "cpu_affinity", "sched_fifo"),
    "gc_freeze",
}


def _slack_ns():
    return ctypes.CDLL(None).prctl(30, 0, 0, 0, 0)


def _state():
    locked = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmLck")]
    return (os.sched_getscheduler(0), os.sched_getparam(0).sched_priority, os.sched_getaffinity(0), _slack_ns(), locked)


def test_whatever_is_taken_is_given_back():
    before = _state()
    knobs = RealTime()
    try:
        knobs.take(None)
        assert set(knobs.knobs) == KNOBS
        assert all(knob.detail for knob in knobs.knobs.values())
        assert knobs.knobs["timer_slack"].taken  # needs no privilege
        assert _slack_ns() <= 1  # the kernel says 0 of a thread in SCHED_FIFO
        if knobs.knobs["sched_fifo"].taken:
            assert os.sched_getscheduler(0) == os.SCHED_FIFO | os.SCHED_RESET_ON_FORK
        if knobs.knobs["cpu_affinity"].taken:
            assert len(os.sched_getaffinity(0)) == 1
        assert not knobs.knobs["low_latency_serial"].taken
    finally:
        knobs.undo()
    assert _state() == before
    knobs.undo()
    assert _state() == before


def test_thread_that_starts_elsewhere_is_neither_pinned_nor_first():
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("one processor")
    everywhere, seen = os.sched_getaffinity(0), []
    knobs = RealTime()
    try:
        knobs.take(None)
        pinned = os.sched_getaffinity(0)
        with knobs.elsewhere():
            thread = threading.Thread(
                target=lambda: seen.append((os.sched_getaffinity(0), os.sched_getscheduler(0) & 0xFF))
            )
            thread.start()
        thread.join()
        assert os.sched_getaffinity(0) == pinned
    finally:
        knobs.undo()
    assert seen == [(everywhere, os.SCHED_OTHER)]


def test_refusals_say_why_and_what_to_do(monkeypatch):
    def refuse(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(realtime.os, "sched_setscheduler", refuse)
    monkeypatch.setattr(realtime.os, "open", refuse)
    monkeypatch.setattr(realtime, "_libc", refuse)
    before = os.sched_getaffinity(0)
    knobs = RealTime()
    knobs.take(None, cpu=100_000)
    refused = {name: knob.detail for name, knob in knobs.knobs.items() if not knob.taken}
    assert set(refused) == KNOBS - {"gc_freeze"}
    assert refused["sched_fifo"].startswith("Operation not permitted: raise LimitRTPRIO")
    assert "LimitMEMLOCK" in refused["memory_lock"]
    assert "/dev/cpu_dma_latency" in refused["cpu_dma_latency"]
    assert "100000" in refused["cpu_affinity"] or "one processor" in refused["cpu_affinity"]
    assert os.sched_getaffinity(0) == before
    assert all("\n" not in text for text in refused.values())


def test_pseudo_terminal_has_no_low_latency_mode():
    master, slave = os.openpty()
    tty.setraw(slave)
    knobs = RealTime()
    try:
        knobs.take(slave)
    finally:
        knobs.undo()
        os.close(master)
        os.close(slave)
    assert not knobs.knobs["low_latency_serial"].taken
    assert "driver has no such mode" in knobs.knobs["low_latency_serial"].detail


def test_serial_driver_is_set_and_set_back(monkeypatch):
    flags = [0x40]

    def ioctl(descriptor, request, settings):
        assert descriptor == 7
        if request == 0x541E:
            settings[4] = flags[-1]
        else:
            flags.append(settings[4])

    monkeypatch.setattr(realtime.fcntl, "ioctl", ioctl)
    knobs = RealTime()
    knobs.take(7)
    assert knobs.as_record()["low_latency_serial"] == {"taken": True, "detail": "set"}
    assert flags == [0x40, 0x2040]
    knobs.undo()
    assert flags == [0x40, 0x2040, 0x40]


def test_limited_memory_is_locked_only_as_far_as_it_is_there(monkeypatch):
    calls = []
    monkeypatch.setattr(realtime.os, "geteuid", lambda: 1000)
    monkeypatch.setattr(realtime.resource, "getrlimit", lambda what: (1 << 30, resource.RLIM_INFINITY))
    monkeypatch.setattr(realtime, "_libc", lambda *arguments: calls.append(arguments) or 0)
    assert realtime._lock_memory()[0] == "present pages only (limited)"
    assert calls == [("mlockall", 1)]


@pytest.mark.parametrize(("text", "chosen"), [("", 3), ("2\n", 2), ("1-2", 1), ("8-9", 3), ("nonsense", 3)])
def test_isolated_processor_is_preferred(text, chosen, tmp_path, monkeypatch):
    (tmp_path / "isolated").write_text(text)
    monkeypatch.setattr(realtime, "_ISOLATED", tmp_path / "isolated")
    assert realtime._free_cpu({0, 1, 2, 3}) == chosen
