"""The host's copy of the device's checks: no false alarm on what a plant does, an alarm on what no plant can do."""

import math

import numpy as np
import pytest

from firmware_bridge.errors import SensorError
from firmware_bridge.safety.sensor_watch import SensorWatch, plant_constants
from hardware.drive import DriveLimit
from hardware.observe import Observer
from hardware.plants.cart_rail import CART_RAIL, CartRailPlant
from hardware.protocol import Observation, State

_START = 0xFFFF_FF00  # the tick wraps during every test


def _observation(tick, current, previous, applied=0.0):
    return Observation((_START + tick) & 0xFFFF_FFFF, 0, tuple(current), tuple(previous), applied, State.ARMED, 0, 1)


def _frame(axis_count=0, rod_count=0, axis_speed=0.0, rod_speed=0.0):
    angle = math.pi + rod_count * math.tau / 4096
    return (axis_count / 20_000, axis_speed, math.sin(angle), math.cos(angle), rod_speed)


def _stream(counts, actions):
    """Observations of these (axis, rod) counts with these applied accelerations, one a period."""
    frames = [_frame(axis, rod) for axis, rod in counts]
    return [
        _observation(tick, frame, frames[max(0, tick - 1)], action)
        for tick, (frame, action) in enumerate(zip(frames, actions, strict=True))
    ]


def _alarm(observations):
    """Index of the observation that is refused, and the text; None when all pass."""
    watch = SensorWatch(CART_RAIL)
    for index, observation in enumerate(observations):
        try:
            watch.check(observation)
        except SensorError as error:
            return index, str(error)
    return None


def _simulated(seed, periods=400):
    """What the firmware would send while random accelerations shake the plant, for as long as it would go on."""
    rng = np.random.default_rng(seed)
    plant = CartRailPlant()
    plant.reset()
    observer, drive = Observer(), DriveLimit()
    observer.reset(plant.axis_count, plant.rod_count)
    previous, observations, request = None, [], 0.0
    for tick in range(periods):
        current = tuple(float(value) for value in observer.observe(plant.axis_count, plant.rod_count))
        if abs(current[4]) > CART_RAIL.rod_speed_limit_rad_s or abs(current[0]) > CART_RAIL.axis_limit:
            break
        applied = float(drive.latch(np.float32(request), np.float32(current[0])))
        observations.append(_observation(tick, current, previous or current, applied))
        plant.step(applied, True)
        previous = current
        if tick % int(rng.integers(1, 12)) == 0:
            request = float(rng.choice([-20.0, -5.0, 0.0, 3.0, 20.0]))
    return observations


@pytest.mark.parametrize("seed", range(8))
def test_what_a_plant_does_raises_no_alarm_whatever_gets_lost(seed):
    observations = _simulated(seed)
    assert len(observations) > 50
    assert _alarm(observations) is None
    rng = np.random.default_rng(seed)
    for share in (0.02, 0.3, 0.7):
        kept = [observation for observation in observations if rng.random() >= share]
        assert _alarm(kept) is None, share


def _frozen(observations, encoder, since, push):
    """The same with one encoder stuck from the index `since` on, and a policy that then pushes one way."""
    stuck, broken = observations[since].current, []
    for index, observation in enumerate(observations):
        x, v, s, c, w = current = observation.current
        if index > since:
            current = (stuck[0], v, s, c, w) if encoder == "axis" else (x, v, stuck[2], stuck[3], w)
        action = push if index > since else observation.applied_action
        broken.append(_observation(index, current, broken[-1].current if broken else current, action))
    return broken


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("push", [-6.0, 6.0])
@pytest.mark.parametrize("encoder", ["axis", "rod"])
def test_frozen_encoder_is_found_although_frames_were_lost(seed, push, encoder):
    broken = _frozen(_simulated(seed), encoder, 40, push)
    found = _alarm([observation for index, observation in enumerate(broken) if index % 7])
    assert found is not None
    assert broken[40].tick < [o for index, o in enumerate(broken) if index % 7][found[0]].tick
    assert f"encoder of the {encoder}" in found[1]


def test_axis_that_stands_still_is_found_when_the_set_point_has_gone_20_mm():
    # 10 m/s^2: mean speeds 0.1, 0.3, 0.5, 0.7 m/s; 2, 8, 18, 32 mm after 1, 2, 3, 4 periods.
    found = _alarm(_stream([(0, tick) for tick in range(9)], [10.0] * 9))
    assert found[0] == 4
    assert "the encoder of the axis stands still" in found[1]
    assert "\n" not in found[1]


def test_rod_that_stands_still_is_found_when_the_set_point_has_changed_by_1_m_s():
    found = _alarm(_stream([(100 * tick, 0) for tick in range(9)], [20.0, -20.0] * 4 + [0.0]))
    assert found[0] == 3  # 0.4 + 0.4 + 0.4 m/s
    assert "the encoder of the rod stands still" in found[1]


def test_cart_at_rest_is_not_frozen():
    assert _alarm(_stream([(0, 0)] * 500, [0.0] * 500)) is None


@pytest.mark.parametrize(("counts", "index"), [((481, 0), 5), ((0, 131), 5), ((480, 0), None), ((0, 130), None)])
def test_jump_is_found_in_its_period_at_the_devices_bound(counts, index):
    stream = _stream([(0, 0)] * 5 + [counts] + [(2 * counts[0], 2 * counts[1])], [0.0] * 7)
    found = _alarm(stream)
    assert (found and found[0]) == index
    if found:
        assert "jumped" in found[1]


def test_rod_may_turn_over():
    assert _alarm(_stream([(0, 100 * tick) for tick in range(100)], [0.0] * 100)) is None


@pytest.mark.parametrize(
    ("frame", "text"),
    [
        ((math.nan, 0.0, 0.0, 1.0, 0.0), "not finite"),
        ((0.0, math.inf, 0.0, 1.0, 0.0), "not finite"),
        ((0.0, 0.0, 0.5, 0.5, 0.0), "belong to no angle"),
        ((0.0, 0.0, 0.0, 0.0, 0.0), "belong to no angle"),
        ((0.76, 0.0, 0.0, 1.0, 0.0), r"beyond \+-0\.75"),
        ((0.0, 0.0, 0.0, 1.0, -35.1), r"beyond \+-35"),
    ],
)
def test_numbers_that_no_run_goes_on_with(frame, text):
    with pytest.raises(SensorError, match=text):
        SensorWatch(CART_RAIL).check(_observation(0, frame, frame))


def test_unknown_plant_is_still_asked_for_finite_numbers_and_an_angle():
    assert plant_constants("hardware:CartRail-v0") is CART_RAIL
    assert plant_constants("somebody:Else-v3") is None
    watch = SensorWatch(None)
    watch.check(_observation(0, (99.0, 0.0, 0.0, 1.0, 500.0), (0.0, 0.0, 0.0, 1.0, 0.0)))
    with pytest.raises(SensorError, match="not finite"):
        watch.check(_observation(1, (99.0, 0.0, 0.0, math.nan, 500.0), (0.0, 0.0, 0.0, 1.0, 0.0)))
