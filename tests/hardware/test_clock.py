"""Real time without real time: the simulator's deadlines on a clock that the test moves."""

import types

import pytest

from hardware import simulator
from hardware.plants.cart_rail import CART_RAIL
from hardware.protocol import Actuate, Enable, Fault

PERIOD_S = CART_RAIL.period_s


class Plant:
    """Takes `stalls[n]` seconds for its nth step."""

    axis_position = rod_angle_rad = axis_speed = rod_speed_rad_s = 0.0
    axis_count = rod_count = 0
    constants = CART_RAIL

    def __init__(self, clock, stalls):
        self.clock, self.stalls, self.steps, self.speed = clock, stalls, 0, 0.0

    def set_speed(self, setpoint):
        self.speed = setpoint

    def step(self, acceleration_m_s2, enable):
        self.steps += 1
        self.speed += acceleration_m_s2 * PERIOD_S
        self.clock.now_s += self.stalls.get(self.steps, 0.0)


class Played(simulator.Simulator):
    """The firmware answers at once; waiting moves the clock."""

    def __init__(self, clock, plant):
        super().__init__(plant, None, "real", 1e9)
        self.clock = clock
        self.sent_s = []

    def _send_sensors(self, tick):
        self.sent_s.append(self.clock.now_s)
        self._actuate = Actuate(tick, 0.0, 0.0, Enable.OFF, Fault.NONE)

    def _receive(self, timeout_s):
        self.clock.now_s += timeout_s


def play(monkeypatch, stalls):
    clock = types.SimpleNamespace(now_s=1000.0)
    monkeypatch.setattr(simulator, "time", types.SimpleNamespace(monotonic=lambda: clock.now_s))
    played = Played(clock, Plant(clock, stalls))
    played.run(40)
    gaps = [after - before for before, after in zip(played.sent_s, played.sent_s[1:], strict=False)]
    return gaps, played.counters


@pytest.mark.parametrize("periods", [2.4, 10.0, 300.0])
def test_a_stall_is_followed_by_whole_periods(monkeypatch, periods):
    gaps, counters = play(monkeypatch, {10: periods * PERIOD_S})
    assert gaps[9] == pytest.approx(periods * PERIOD_S)
    del gaps[9]
    assert gaps == pytest.approx([PERIOD_S] * 38)  # no burst
    assert counters.late_periods == round(periods - 1.0)  # of which one was due
    assert counters.late_actuations == 0


def test_a_short_delay_is_made_up(monkeypatch):
    gaps, counters = play(monkeypatch, {10: 1.5 * PERIOD_S})
    assert sum(gaps) == pytest.approx(39 * PERIOD_S)
    assert counters.late_periods == 0


class Late(Played):
    """Every third ACTUATE comes a period late; `speeds` are the plant's and the device's after each period."""

    def __init__(self, clock, plant):
        super().__init__(clock, plant)
        self.setpoint, self.speeds = 0.0, []

    def _send_sensors(self, tick):
        if tick > 1:
            self.speeds.append((self.plant.speed, self._actuate.velocity_setpoint))
        acceleration = 5.0 if tick % 2 else -3.0
        self.setpoint += acceleration * PERIOD_S
        if tick % 3:
            self._actuate = Actuate(tick, acceleration, self.setpoint, Enable.DRIVE, Fault.NONE)


def test_a_late_actuation_leaves_no_speed_behind_that_the_device_knows_nothing_of(monkeypatch):
    clock = types.SimpleNamespace(now_s=1000.0)
    monkeypatch.setattr(simulator, "time", types.SimpleNamespace(monotonic=lambda: clock.now_s))
    late = Late(clock, Plant(clock, {}))
    late.run(40)
    assert late.counters.late_actuations == 13
    assert all(plant == pytest.approx(device) for plant, device in late.speeds)
