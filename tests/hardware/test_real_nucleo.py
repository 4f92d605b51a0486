"""The images for a real Nucleo-F401RE: an L6474 and an H-bridge, against models of the registers and of the driver."""

from collections import Counter

import pytest
from step_timers import (
    Ramp,
    Steps,
    Stm32Timer,
    check_profile,
    check_reversals,
    check_slow_to_fast,
    profile,
    standstill_ms,
)
from unicorn_chip import LinkedBoard, UnicornChip, UnicornUsart, binary_of, independent_watchdog_ms

from hardware.board import BOARDS
from hardware.build import build
from hardware.plants.edukit import EDUKIT
from hardware.protocol import (
    PROTOCOL_VERSION,
    Disarm,
    Fault,
    Hello,
    Observation,
    ObservationFlag,
    State,
)

pytestmark = pytest.mark.cross
RCC, FLASH_ACR, POWER_CR = 0x4002_3800, 0x4002_3C00, 0x4000_7000
TIMER = {number: 0x4000_0000 + 0x400 * (number - 2) for number in (2, 3, 4, 5)}
SPI = 0x4001_3000
CNT, CCR1 = 0x24, 0x34
PERIOD_MS = EDUKIT.period_us // 1000
STEPS_PER_UNIT, PULSE_CLOCKS, STEP_INTERRUPT = 509.295818, 1_680, 50
STEP, DIRECTION, STANDBY, FLAG, SELECT = ("C", 7), ("A", 8), ("A", 9), ("A", 10), ("B", 6)
ENABLE = STANDBY  # of the bridge, on the same pin
EMERGENCY, BUTTON = ("C", 8), ("C", 13)
DISABLED_COMMAND, ENABLE_COMMAND, STATUS_COMMAND = 0xA8, 0xB8, 0xD0


class Driver:
    """An L6474: takes a byte whenever its select input rises, forgets everything in standby."""

    def __init__(self):
        self.supplied = True
        self.deaf = False
        self.reset()
        self.received = []

    def reset(self):
        self.parameters = {0x16: 0x88, 0x09: 0x29, 0x13: 8, 0x17: 0xFF}
        self.enabled, self.fresh = False, True
        self.writes_to, self.answers = None, []

    def byte(self, value):
        answer = self.answers.pop(0) if self.answers else 0
        self.received.append(value)
        if self.deaf:
            return 0xFF
        if self.writes_to is not None:
            self.parameters[self.writes_to], self.writes_to = value, None
        elif value in (ENABLE_COMMAND, DISABLED_COMMAND):
            self.enabled = value == ENABLE_COMMAND
        elif value == STATUS_COMMAND:
            status = 0xFFFF & ~(0x200 if self.fresh or not self.supplied else 0)  # undervoltage is low
            self.fresh = False
            self.answers = [status >> 8, status & 0xFF]
        elif value & 0xE0 == 0x20:
            self.answers = [self.parameters[value & 0x1F]]
        elif 0 < value < 0x20:
            self.writes_to = value
        return answer


class Nucleo(LinkedBoard):
    """The chip on its board: 8 MHz from the probe, contacts closed, nobody at the button, a host on the link."""

    CLOCKS = 84_000  # of a timer in a millisecond

    def __init__(self, binary, board, tick_interrupt):
        chip = UnicornChip(board.chip, binary)
        super().__init__(chip, UnicornUsart(chip, 0x4000_4400, 38))
        self.tick_interrupt = tick_interrupt
        self.driver = Driver()
        self.inputs = Counter({FLAG: 1, BUTTON: 1})
        self.outputs = Counter()
        self.directions = []  # of the driver's inputs, in the order in which they became outputs
        self.steps = Steps(PULSE_CLOCKS)
        self.answer = 0
        self.registers = {}
        chip.reads[RCC] = lambda: (
            (control := self.registers.get(RCC, 0x83)) | (control & 1) << 1 | (control & (1 << 16 | 1 << 24)) << 1
        )
        chip.reads[RCC + 8] = lambda: (config := self.registers.get(RCC + 8, 0)) | (config & 3) << 2
        chip.reads[POWER_CR] = lambda: self.registers.get(POWER_CR, 2 << 14)
        for address in (RCC, RCC + 4, RCC + 8, FLASH_ACR, POWER_CR):
            chip.writes[address] = lambda value, address=address: self.registers.__setitem__(address, value)
        for letter in "ABC":
            base = 0x4002_0000 + 0x400 * (ord(letter) - ord("A"))
            chip.reads[base + 0x10] = lambda letter=letter: sum(
                bool(self.inputs[letter, pin]) << pin for pin in range(16)
            )
            chip.writes[base + 0x18] = lambda value, letter=letter: self._set(letter, value)
            chip.writes[base] = lambda value, letter=letter: self._mode(letter, value)
        chip.reads[SPI + 8] = lambda: 3
        chip.reads[SPI + 12] = lambda: self.answer
        chip.writes[SPI + 12] = self._transfer
        self.timer = Stm32Timer(chip, TIMER[5], 32, 1, self.steps)
        self.step_interrupt = lambda: chip.interrupt(STEP_INTERRUPT)
        if tick_interrupt == STEP_INTERRUPT:  # a board without steps
            self.timer.advance = lambda _clocks, _interrupt: None
        chip.reset()
        chip.run(5_000_000)

    def _set(self, letter, value):
        for pin in range(16):
            if value >> pin & 1:
                self.outputs[letter, pin] = 1
            elif value >> (pin + 16) & 1:
                self.outputs[letter, pin] = 0
        if letter == STEP[0]:
            self.steps.level(bool(self.outputs[STEP]))
        elif letter == DIRECTION[0]:
            self.steps.direction(bool(self.outputs[DIRECTION]))
        if not self.outputs[STANDBY]:
            self.driver.reset()

    def _mode(self, letter, value):
        if letter == STANDBY[0] and value >> 2 * STANDBY[1] & 3 == 1:
            self.directions.append(self.outputs[STANDBY])

    def _transfer(self, value):
        assert not self.outputs[SELECT]
        assert self.outputs[STANDBY], "a driver in standby hears nothing"
        self.answer = self.driver.byte(value & 0xFF)

    def millisecond(self):
        self.timer.advance(self.CLOCKS, self.step_interrupt)
        self.chip.interrupt(self.tick_interrupt)
        self.chip.run(5_000_000)

    def follow(self, speed):
        """A millisecond with this speed, whatever the safety machine says."""
        self.ramp.set(speed)
        self.chip.interrupt(self.tick_interrupt)
        self.timer.advance(self.CLOCKS, self.step_interrupt)

    def period(self, rod=0, axis=None):
        self.chip.set_register(TIMER[3] + CNT, rod & 0xFFFF)
        if axis is not None:
            self.chip.set_register(TIMER[2] + CNT, axis & 0xFFFF)
        for _ in range(PERIOD_MS):
            self.millisecond()
        return self.heard()

    def observe(self, rod=0, axis=None):
        return next(message for message in self.period(rod, axis) if isinstance(message, Observation))

    def home(self, axis=None):
        """The arm in its middle, the button pressed once, the rod still."""
        self.inputs[BUTTON] = 0
        self.period(77, axis)
        self.inputs[BUTTON] = 1
        for _ in range(2000 // PERIOD_MS + EDUKIT.homing_still_periods + 2):
            observed = self.observe(77, axis)
        assert observed.flags & ObservationFlag.HOMED


@pytest.fixture(scope="module")
def images(policy_of, tmp_path_factory):
    out = tmp_path_factory.mktemp("images")
    return {name: build(policy_of(name), out / name, name, "real").path for name in ("nucleo_f401re", "nucleo_bridge")}


@pytest.fixture
def edukit(images):
    return Nucleo(binary_of(images["nucleo_f401re"]), BOARDS["nucleo_f401re"], 30)


@pytest.fixture
def bridge(images):
    return Nucleo(binary_of(images["nucleo_bridge"]), BOARDS["nucleo_bridge"], 50)


@pytest.fixture
def bench(edukit, images):
    """Its driver, switched on."""
    edukit.arm()
    edukit.observe(77)
    edukit.observe(77)
    edukit.ramp = Ramp(edukit.chip, images["nucleo_f401re"])
    return edukit


def test_clock_tree(edukit):
    """84 MHz from 8 MHz of the probe, at the voltage that an F401 has for it."""
    assert edukit.registers[RCC] & 1 << 18  # bypass: no crystal
    assert edukit.registers[RCC + 4] == 8 | 336 << 6 | 1 << 16 | 1 << 22 | 7 << 24
    assert edukit.registers[RCC + 8] == 2 | 4 << 10
    assert edukit.registers[FLASH_ACR] & 0xF == 2
    assert edukit.registers[POWER_CR] >> 14 & 3 == 2


def test_the_rate_of_the_link_is_within_one_percent_of_what_hosts_open(edukit):
    """913043 baud: docs/new_board.md says so."""
    divider = edukit.chip.register(0x4000_4408)
    assert divider == 46
    assert 42_000_000 / divider == pytest.approx(921_600, rel=0.01)


@pytest.mark.parametrize("name", ["edukit", "bridge"])
def test_the_drive_is_off_before_its_pin_is_an_output(name, request):
    board = request.getfixturevalue(name)
    assert board.directions
    assert not any(board.directions)
    assert not board.outputs[STANDBY]
    assert board.driver.received == []


def test_the_driver_is_woken_configured_read_back_and_enabled(edukit):
    edukit.arm()
    assert edukit.driver.received == []
    edukit.observe(77)
    edukit.observe(77)
    assert edukit.outputs[STANDBY]
    assert edukit.driver.enabled
    assert edukit.driver.parameters[0x16] & 7 == 4  # 16 microsteps
    assert (edukit.driver.parameters[0x09] + 1) * 31.25 == 625.0
    assert (edukit.driver.parameters[0x13] + 1) * 375 == 1125
    assert edukit.driver.received[-1] == ENABLE_COMMAND
    first_enable = edukit.driver.received.index(ENABLE_COMMAND)
    assert edukit.driver.received.index(STATUS_COMMAND) < first_enable
    assert edukit.driver.received.count(ENABLE_COMMAND) == 1


@pytest.mark.parametrize("what", ["deaf", "unsupplied"])
def test_a_driver_that_does_not_answer_or_has_no_supply_is_never_enabled(edukit, what):
    edukit.driver.deaf = what == "deaf"
    edukit.driver.supplied = what != "unsupplied"
    edukit.arm()
    for _ in range(3):
        observed = edukit.observe(77)
    assert observed.fault == Fault.DRIVE_FAULT
    assert ENABLE_COMMAND not in edukit.driver.received
    assert not edukit.steps.rises


def test_a_driver_that_answers_again_can_be_armed_again(edukit):
    """Its own fault refuses ARM; what is known of it is asked anew each time it is switched on."""
    edukit.driver.deaf = True
    edukit.arm()
    for _ in range(3 + EDUKIT.disarm_delay_periods):
        observed = edukit.observe(77)
    assert (observed.state, observed.fault) == (State.OFF, Fault.DRIVE_FAULT)
    edukit.tell(Disarm(0))
    edukit.driver.deaf = False
    edukit.arm()
    edukit.observe(77)
    edukit.observe(77)
    assert edukit.driver.enabled


def test_steps_follow_the_speed_and_are_the_position(edukit):
    edukit.arm()
    middle = edukit.observe(77)
    assert abs(middle.current[0]) < 1e-6
    for rod in (20, 60, 100, 140):
        applied = edukit.observe(77 + rod).applied_action
    assert abs(applied) > 1.0
    assert abs(edukit.steps.count) > 3
    before = abs(edukit.steps.count)
    counts = edukit.observe(77 + 180).current[0] * EDUKIT.axis_counts_per_unit
    assert counts == pytest.approx(edukit.steps.count, abs=1.01)  # one may have come since
    assert abs(edukit.steps.count) > before


def test_steps_are_the_sum_of_the_speeds(bench):
    check_profile(bench, profile(EDUKIT.speed_limit, STEPS_PER_UNIT), STEPS_PER_UNIT)


@pytest.mark.parametrize(("slow_hz", "fast_hz"), [(20, 900), (20, 9_000), (450, 3_000)])
def test_a_speed_that_rises_is_followed_at_once(bench, slow_hz, fast_hz):
    check_slow_to_fast(bench, slow_hz, fast_hz, STEPS_PER_UNIT)


def test_the_direction_changes_while_step_is_low(bench):
    check_reversals(bench, 5_000, STEPS_PER_UNIT)


def test_an_interrupt_that_comes_late_loses_no_step(bench):
    """What the firmware counts is what the driver was shown, in pulses that are wide enough."""
    for speed in (8.0, 0.01, -8.0, 0.0):
        for _ in range(60):
            bench.ramp.set(speed)
            bench.chip.interrupt(bench.tick_interrupt)
            for _ in range(9):
                bench.timer.advance(bench.CLOCKS // 9)
                if bench.timer.flags & 3:
                    bench.step_interrupt()
    assert len(bench.steps.rises) > 300
    assert len(bench.steps.turns) == 1
    assert bench.observe(77).current[0] == pytest.approx(bench.steps.count / EDUKIT.axis_counts_per_unit, abs=1e-6)


@pytest.mark.parametrize(("pin", "level", "fault"), [(EMERGENCY, 1, Fault.E_STOP), (FLAG, 0, Fault.DRIVE_FAULT)])
def test_an_input_stops_and_switches_off_and_the_reference_is_gone(edukit, pin, level, fault):
    edukit.arm()
    for _ in range(3):
        edukit.observe(77)
    assert edukit.outputs[STANDBY]
    edukit.inputs[pin] = level
    assert edukit.observe(77).fault == fault
    for _ in range(EDUKIT.disarm_delay_periods + 3):
        observed = edukit.observe(77)
    assert observed.state == State.OFF
    assert not observed.flags & ObservationFlag.HOMED  # by hand the arm moves without being counted
    assert not edukit.outputs[STANDBY]


def test_a_main_loop_that_hangs_brings_the_steps_to_an_end(edukit):
    edukit.arm()
    for rod in range(0, 160, 20):
        edukit.observe(77 + rod)
    assert edukit.steps.rises[-1] > edukit.steps.now - 10 * edukit.CLOCKS
    for _ in range(500):
        edukit.timer.advance(edukit.CLOCKS, edukit.step_interrupt)
        edukit.chip.interrupt(edukit.tick_interrupt)
    assert edukit.steps.rises[-1] < edukit.steps.now - 100 * edukit.CLOCKS


@pytest.mark.parametrize("name", ["edukit", "bridge"])
def test_the_watchdog_does_not_bite_before_the_arm_stands(name, request, images):
    board = request.getfixturevalue(name)
    board.period(77, 0)
    board.ramp = Ramp(board.chip, images["nucleo_f401re" if name == "edukit" else "nucleo_bridge"])
    slowest_ms, fastest_ms = independent_watchdog_ms(board.chip)
    assert standstill_ms(board, EDUKIT.speed_limit) + 40 < fastest_ms
    assert slowest_ms < 1320


def test_the_bridge_follows_its_encoder_within_its_limit(bridge):
    """An axis that hardly moves: the duty grows with what is missing, within its limit; off, it is zero."""
    bridge.arm(500)
    duties = []
    for rod in range(0, 180, 20):  # the watchdog waits for ten
        bridge.observe(77 + rod, 500 + rod // 20 % 2)
        duties.append(bridge.chip.register(TIMER[4] + CCR1) / 4200)
    assert bridge.outputs[ENABLE]
    assert 0.1 < max(duties) <= 0.9 + 1e-3
    assert max(duties) > 2 * duties[3]
    bridge.inputs[EMERGENCY] = 1
    for _ in range(EDUKIT.disarm_delay_periods + 3):
        bridge.observe(77, 500)
    assert not bridge.outputs[ENABLE]
    assert bridge.chip.register(TIMER[4] + CCR1) == 0


@pytest.mark.parametrize("name", ["edukit", "bridge"])
def test_a_middle_that_nobody_watches_is_good_for_half_a_minute(name, request):
    """By hand the EDUKIT's arm moves without being counted; the bridge has an encoder, and keeps its reference."""
    board = request.getfixturevalue(name)
    board.tell(Hello(PROTOCOL_VERSION, 1))
    board.home(500 if name == "bridge" else None)
    states = []
    for _ in range(31_000 // PERIOD_MS):
        states.append(board.observe(77).state)
    assert (State.UNHOMED in states) == (name == "edukit")
    if name == "edukit":
        assert 27_000 // PERIOD_MS < states.index(State.UNHOMED) < 30_000 // PERIOD_MS
        board.home()
        board.arm()
        for number in range(5):
            assert board.observe(77 + 5 * number).state == State.ARMED


def test_the_bridge_keeps_its_reference_when_the_drive_is_off(bridge):
    bridge.tell(Hello(PROTOCOL_VERSION, 1))
    bridge.home(500)
    observed = bridge.observe(77, 700)
    assert observed.current[0] == pytest.approx(200 / EDUKIT.axis_counts_per_unit)
    assert observed.flags & ObservationFlag.HOMED


FIRST = {
    Fault.E_STOP: lambda board: board.inputs.update({EMERGENCY: 1}),
    Fault.DRIVE_FAULT: lambda board: board.inputs.subtract({FLAG: 1}),
    Fault.WATCHDOG: None,  # nobody feeds it
    Fault.NONE: lambda board: board.tell(Disarm(0)),
}


@pytest.mark.parametrize("failure", ["jump", "frozen"])
@pytest.mark.parametrize("first", FIRST, ids=lambda fault: fault.name)
def test_the_bridge_goes_off_when_its_encoder_fails_after_another_fault(bridge, first, failure):
    """The loop holds the speed by the axis encoder: with one that leaps or stands, braking would drive."""
    bridge.arm(500)
    rod, axis = 77, 500
    *run, last = -30, -60, -90, -90, -60, -30, 0, 30, 60, 90, 120  # the watchdog stops in the eleventh period
    for speed in run:
        rod, axis = rod + 20, axis + speed
        assert bridge.observe(rod, axis).state == State.ARMED
    if cause := FIRST[first]:
        cause(bridge)
    axis += last
    observed = bridge.observe(rod + 20, axis)
    assert (observed.state, observed.fault) == (State.BRAKING, first)
    assert bridge.outputs[ENABLE]
    axis += 1000 if failure == "jump" else 0
    for _ in range(3):  # in the first period the sample is taken
        observed = bridge.observe(rod + 20, axis)
        assert not bridge.outputs[ENABLE]
        assert observed.fault == (first or Fault[f"ENCODER_{failure.upper()}"])
    assert bridge.chip.register(TIMER[4] + CCR1) == 0
    for _ in range(EDUKIT.disarm_delay_periods):
        bridge.observe(rod + 20, axis)
    assert not bridge.outputs[ENABLE]


def test_the_bridge_goes_off_at_the_end_of_its_travel_after_another_fault(bridge):
    """Its motor may turn the wrong way."""
    bridge.arm(500)
    limit = round(EDUKIT.axis_limit * EDUKIT.axis_counts_per_unit)
    for number in range(8):
        bridge.observe(77 + 20 * number, 500 + 25 * number)
    bridge.inputs[EMERGENCY] = 1
    for axis in range(700, 500 + limit + 1, 25):
        observed = bridge.observe(237, axis)
        if observed.state == State.OFF:
            break
        assert bridge.outputs[ENABLE]
    observed = bridge.observe(237, 500 + limit + 30)
    assert observed.fault == Fault.E_STOP
    assert not bridge.outputs[ENABLE]
