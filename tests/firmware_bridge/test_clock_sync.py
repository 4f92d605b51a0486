"""The stated bound holds: simulated clocks whose truth is known, links that do what links do."""

import math
import random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from firmware_bridge.loop.clock_sync import DRIFT_LIMIT_PPM, LARGEST_DRIFT_PPM, ClockSync

WRAP_US = 2**32


class Device:
    """A clock that drifts, and drifts in its drift, read in whole microseconds of 32 bits; host time is in ns."""

    def __init__(self, drift_ppm, wander_ppm, start_us, begin_ns):
        self.drift, self.wander = drift_ppm * 1e-6, wander_ppm * 1e-6
        self.start_us, self.begin_ns = start_us, begin_ns

    def elapsed_ns(self, host_ns):
        """Device time since its start, exactly; the drift moves by +-`wander` over ten minutes."""
        passed = host_ns - self.begin_ns
        pulse = 2 * math.pi / 600e9
        return passed * (1 + self.drift) + self.wander / pulse * math.sin(passed * pulse)

    def stamp_us(self, host_ns):
        return (self.start_us + int(self.elapsed_ns(host_ns) // 1000)) % WRAP_US

    def offset_ns(self, host_ns):
        """The truth: host minus device, the device's time counted on from its start."""
        return host_ns - self.elapsed_ns(host_ns) - self.start_us * 1000


def exchange(generator, device, host_ns, tail):
    """One answered observation at `host_ns`: (sampled, received, sent, accepted), and when it was over."""

    def delay():
        slow = generator.random() < 0.05
        return 20_000 + generator.expovariate(1 / 30_000) + (generator.paretovariate(1.2) * tail if slow else 0)

    received = host_ns + delay()
    sent = received + 10_000 + generator.expovariate(1 / 40_000)
    accepted = sent + delay()
    stamps = (device.stamp_us(host_ns), math.ceil(received), math.floor(sent), device.stamp_us(accepted))
    return stamps, accepted


def follow(clock, device, generator, host_ns, periods, period_ns, tail=300_000, loss=0.05):
    """Feed `periods` exchanges and hold the estimate to the truth after each, and now and then a while later."""
    for _ in range(periods):
        stamps, over_ns = exchange(generator, device, host_ns, tail)
        if generator.random() >= loss:
            clock.add(*stamps)
            for at_ns in (over_ns, over_ns + 3 * period_ns):
                check(clock, device, at_ns)
        host_ns = max(host_ns + period_ns, over_ns)
    return host_ns


def check(clock, device, at_ns, stamps=True):
    estimate = clock.estimate(round(at_ns))
    turns = round((device.offset_ns(at_ns) - estimate.offset_ns) / (WRAP_US * 1000))
    error_ns = estimate.offset_ns - device.offset_ns(at_ns) + turns * WRAP_US * 1000
    assert abs(error_ns) <= estimate.uncertainty_ns + 1
    if not stamps:
        return
    mapped_ns, uncertainty_ns = clock.host_ns(device.stamp_us(at_ns))
    assert abs(mapped_ns - at_ns) <= uncertainty_ns + 1


@settings(max_examples=40, deadline=None)
@given(
    drift_ppm=st.floats(-200, 200),
    wander_ppm=st.floats(0, 50),
    start_us=st.integers(0, WRAP_US - 1),
    period_ns=st.sampled_from([1_000_000, 2_000_000, 20_000_000]),
    tail=st.sampled_from([0, 100_000, 3_000_000]),
    loss=st.floats(0, 0.5),
    seed=st.integers(0, 2**32),
)
def test_truth_lies_within_the_bound(drift_ppm, wander_ppm, start_us, period_ns, tail, loss, seed):
    generator = random.Random(seed)
    device = Device(drift_ppm, wander_ppm, start_us, 5_000_000_000_000)
    clock = ClockSync()
    follow(clock, device, generator, 5_000_000_000_000, 600, period_ns, tail, loss)
    assert (clock.restarts, clock.rejected) == (0, 0)
    assert clock.drift_limit_ppm == DRIFT_LIMIT_PPM


@settings(max_examples=15, deadline=None)
@given(seconds_to_wrap=st.floats(0.01, 0.5), seed=st.integers(0, 2**32))
def test_wrap_is_no_restart(seconds_to_wrap, seed):
    generator = random.Random(seed)
    device = Device(80.0, 0.0, WRAP_US - round(seconds_to_wrap * 1e6), 10**12)
    clock = ClockSync()
    follow(clock, device, generator, 10**12, 600, 1_000_000)
    assert clock.restarts == 0
    assert clock.host_ns(device.stamp_us(10**12))[0] == pytest.approx(10**12, abs=2_000_000)  # across the wrap


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32), before=st.integers(1, 300))
def test_restart_of_the_device_starts_the_estimate_anew(seed, before):
    generator = random.Random(seed)
    first = Device(-150.0, 0.0, 3_000_000_000, 10**13)
    clock = ClockSync()
    host_ns = follow(clock, first, generator, 10**13, before + 1, 2_000_000, loss=0.0)
    second = Device(120.0, 0.0, 1_000, host_ns)
    follow(clock, second, generator, host_ns, 300, 2_000_000)
    assert clock.restarts == 1
    assert clock.drift_limit_ppm == DRIFT_LIMIT_PPM


@settings(max_examples=25, deadline=None)
@given(drift_ppm=st.floats(-250, 250), turn_ns=st.integers(0, 18_000_000), seed=st.integers(0, 2**32))
@example(drift_ppm=-106.0, turn_ns=9_541_001, seed=0)  # a round trip of less than nothing, by the slower clock
def test_link_without_delay_leaves_no_room_for_a_careless_bound(drift_ppm, turn_ns, seed):
    generator = random.Random(seed)
    device = Device(drift_ppm, 0.0, 5, 10**12)
    clock = ClockSync()
    for period in range(200):
        sampled = 10**12 + period * 20_000_000 + generator.randrange(1_000_000)
        sent = sampled + turn_ns
        clock.add(device.stamp_us(sampled), sampled, sent, device.stamp_us(sent))
        check(clock, device, sent)
    assert (clock.restarts, clock.rejected) == (0, 0)


def test_silence_opens_the_bound_and_its_end_closes_it():
    generator = random.Random(4)
    device = Device(150.0, 0.0, 0, 10**12)
    clock = ClockSync()
    host_ns = follow(clock, device, generator, 10**12, 500, 2_000_000)
    before = clock.estimate(host_ns).uncertainty_ns
    host_ns += 3600 * 10**9  # longer than half a wrap
    check(clock, device, host_ns, stamps=False)  # a stamp from here could be of the turn before
    assert clock.estimate(host_ns).uncertainty_ns > before + 3600e9 * DRIFT_LIMIT_PPM * 0.9e-6
    host_ns = follow(clock, device, generator, host_ns, 500, 2_000_000)
    assert clock.estimate(host_ns).uncertainty_ns < 2 * before
    assert clock.restarts == 0


def test_rc_oscillator_is_followed_once_the_limit_has_grown():
    generator = random.Random(5)
    device = Device(8_000.0, 0.0, 0, 10**12)
    clock = ClockSync()
    host_ns = 10**12
    for _ in range(3_000):
        stamps, over_ns = exchange(generator, device, host_ns, 0)
        clock.add(*stamps)
        host_ns = max(host_ns + 2_000_000, over_ns)
    restarts = clock.restarts
    assert DRIFT_LIMIT_PPM < clock.drift_limit_ppm <= LARGEST_DRIFT_PPM
    follow(clock, device, generator, host_ns, 2_000, 2_000_000, tail=0)
    assert clock.restarts == restarts


def test_drift_and_offset_are_near_the_truth_not_only_within_the_bound():
    generator = random.Random(6)
    device = Device(123.0, 0.0, 77, 10**12)
    clock = ClockSync()
    host_ns = follow(clock, device, generator, 10**12, 20_000, 2_000_000)
    estimate = clock.estimate(host_ns)
    assert estimate.drift_ppm == pytest.approx(-123.0, abs=1.0)
    assert abs(estimate.offset_ns - device.offset_ns(host_ns)) < 10_000
    assert estimate.uncertainty_ns < 40_000
    assert 40_000 < estimate.round_trip_ns < 60_000


def test_sample_that_no_clock_could_give_is_counted_and_left_out():
    clock = ClockSync()
    clock.add(1_000, 10_000_000, 10_050_000, 1_200)
    before = clock.estimate(10_100_000)
    clock.add(2_000, 11_000_000, 11_500_000, 2_100)  # 100 us on the device, 500 us here
    after = clock.estimate(10_100_000)
    assert after.rejected == 1
    assert (after.offset_ns, after.samples) == (before.offset_ns, 1)


def test_nothing_is_known_before_the_first_sample():
    assert ClockSync().estimate(1) is None
    assert ClockSync().host_ns(1) is None
