"""Requests to a run: from threads and signal handlers, counted once, never kept for later."""

import os
import signal
import threading

import pytest
from fake_device import FakeDevice

from firmware_bridge.errors import StopRequested
from firmware_bridge.ports.link import open_link
from firmware_bridge.safety.controls import Controls
from firmware_bridge.safety.signals import StopSignals


def test_first_stop_counts_and_every_later_one_is_the_same():
    with Controls() as controls:
        controls.poll()
        controls.request_stop("a key")
        controls.request_stop("SIGTERM", 143)
        with pytest.raises(StopRequested, match=r"^a key$") as caught:
            controls.poll()
    assert caught.value.exit_code == 130


def test_arm_counts_only_while_it_is_awaited():
    with Controls() as controls:
        assert not controls.request_arm()
        controls.await_arm(True)
        assert not controls.arm_requested
        assert controls.request_arm()
        assert controls.arm_requested
        controls.await_arm(True)  # after a lost link: asked before it counts for nothing
        assert not controls.arm_requested
        controls.await_arm(False)
        assert not controls.request_arm()


def test_nobody_arms_a_run_that_was_stopped():
    with Controls() as controls:
        controls.await_arm(True)
        controls.request_stop("the live page")
        assert not controls.request_arm()
        assert not controls.arm_requested


def test_a_million_requests_from_threads_block_nobody():
    with Controls() as controls:
        threads = [
            threading.Thread(target=lambda: [controls.request_stop("x") for _ in range(20_000)]) for _ in range(5)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert not any(thread.is_alive() for thread in threads)
        assert str(controls.stop) == "x"
    controls.request_stop("late")  # the run is over: without effect, without an exception


def test_request_wakes_a_link_that_waits_for_its_device():
    with FakeDevice("00" * 32) as device, Controls() as controls:
        link = open_link(device.path)
        link.watch(controls.wake_socket)
        threading.Timer(0.05, controls.request_stop, ["the live page"]).start()
        assert not link.wait(60.0)  # the test's own time limit tells: nothing ever comes from this device
        assert controls.stop is not None
        assert not link.wait(0.0)  # emptied: one request wakes once
        link.close()


@pytest.mark.parametrize("deferred", [False, True])
def test_signals_come_through_the_same_door(deferred):
    previous = signal.getsignal(signal.SIGTERM)
    with Controls() as controls:
        with StopSignals(controls) as signals:
            signals.deferred = deferred
            if deferred:
                os.kill(os.getpid(), signal.SIGTERM)
            else:
                with pytest.raises(StopRequested, match="SIGTERM"):
                    os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGINT)  # cuts nothing short
        assert (str(controls.stop), controls.stop.exit_code) == ("SIGTERM", 143)
    assert signal.getsignal(signal.SIGTERM) is previous


def test_user_signal_arms_only_what_waits_for_it():
    with Controls() as controls, StopSignals(controls):
        os.kill(os.getpid(), signal.SIGUSR1)
        controls.await_arm(True)
        assert not controls.arm_requested
        os.kill(os.getpid(), signal.SIGUSR1)
        assert controls.arm_requested
