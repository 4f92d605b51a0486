"""The image for a real BBC micro:bit v1 (Cortex-M0), its drivers against models of the registers.

Timer 1 toggles the step pin and timer 2 counts the edges without the processor: here the model does both.
"""

from itertools import pairwise

import pytest
from step_timers import (
    Nrf51Timer,
    Ramp,
    Steps,
    check_profile,
    check_reversals,
    check_slow_to_fast,
    profile,
    standstill_ms,
)
from unicorn_chip import LinkedBoard, UnicornChip, UnicornUart, binary_of

from hardware.board import BOARDS
from hardware.build import build
from hardware.plants.cart_rail import CART_RAIL
from hardware.protocol import (
    PROTOCOL_VERSION,
    Acknowledge,
    Arm,
    Disarm,
    Fault,
    Hello,
    HelloReply,
    Observation,
    ObservationFlag,
    ResetCause,
    Result,
    State,
    Timing,
)

pytestmark = pytest.mark.cross
BOARD = BOARDS["microbit"]
CLOCK, UART, GPIOTE, TIMER0, TIMER1, TIMER2 = (
    0x4000_0000,
    0x4000_2000,
    0x4000_6000,
    0x4000_8000,
    0x4000_9000,
    0x4000_A000,
)
RNG, WATCHDOG, QDEC, PPI, GPIO = 0x4000_D000, 0x4001_0000, 0x4001_2000, 0x4001_F000, 0x5000_0000
RESETREAS = CLOCK + 0x400
STEP, DIRECTION, ENABLE, DRIVE_OK, EMERGENCY, LEFT, RIGHT, BUTTON = 23, 22, 21, 16, 18, 20, 1, 17
PULSE_CLOCKS = 40
PERIOD_MS = CART_RAIL.period_us // 1000
TICK_INTERRUPT, UART_INTERRUPT = 8, 2


class Microbit(LinkedBoard):
    """The chip, a crystal that starts, contacts that are closed, nobody at the button, a host on the link."""

    CLOCKS = 8_000  # of timer 1 in a millisecond
    tick_interrupt = TICK_INTERRUPT

    def __init__(self, binary, *, crystal=True, reset_flags=0):
        chip = UnicornChip(BOARD.chip, binary)
        super().__init__(chip, UnicornUart(chip, UART, UART_INTERRUPT))
        self.inputs = 1 << DRIVE_OK | 1 << BUTTON
        self.output = 0
        self.writes = []
        self.moved = self.double = 0
        self.time_us = 0
        chip.reads[CLOCK + 0x100] = lambda: int(crystal)
        chip.reads[RESETREAS] = lambda: reset_flags
        chip.reads[RNG + 0x100] = lambda: 1
        chip.reads[TIMER0 + 0x540] = lambda: self.time_us & 0xFFFF_FFFF
        chip.reads[QDEC + 0x518] = self._take_moved
        chip.reads[QDEC + 0x548] = self._take_double
        chip.reads[GPIO + 0x510] = self._read_pins
        chip.writes[GPIO + 0x508] = lambda value: self._drive(self.output | value, value)
        chip.writes[GPIO + 0x50C] = lambda value: self._drive(self.output & ~value, -value)
        for address in (GPIO + 0x700 + 4 * ENABLE, WATCHDOG + 0x600, WATCHDOG, RESETREAS):
            chip.writes[address] = lambda value, address=address: self.writes.append((address, value))
        self.steps = Steps(PULSE_CLOCKS)
        self.timer = Nrf51Timer(chip, self.steps)
        chip.reset()

    def start(self):
        self.chip.run(5_000_000)
        return self

    def _drive(self, output, value):
        self.output = output
        self.steps.direction(self.pin(DIRECTION))
        self.writes.append((GPIO, value))

    def _read_pins(self):
        connected = not self.chip.register(GPIO + 0x700 + 4 * STEP) & 2
        return self.inputs | (self.steps.high and connected) << STEP

    def _take_moved(self):
        moved, self.moved = self.moved, 0
        return moved & 0xFFFF_FFFF

    def _take_double(self):
        double, self.double = self.double, 0
        return double

    def pin(self, number):
        return bool(self.output >> number & 1)

    def millisecond(self, *, main_loop=True):
        self.timer.advance(self.CLOCKS)
        self.time_us += 1000
        self.chip.interrupt(TICK_INTERRUPT)
        if main_loop:
            self.chip.run(5_000_000)

    def follow(self, speed):
        """A millisecond with this speed, whatever the safety machine says."""
        self.ramp.set(speed)
        self.chip.interrupt(TICK_INTERRUPT)
        self.timer.advance(self.CLOCKS)
        self.time_us += 1000

    def period(self, moved=0):
        self.moved += moved
        for _ in range(PERIOD_MS):
            self.millisecond()
        return self.heard()

    def observe(self, moved=0):
        return next(message for message in self.period(moved) if isinstance(message, Observation))

    def home(self):
        self.inputs &= ~(1 << BUTTON)
        self.period()
        self.inputs |= 1 << BUTTON
        for _ in range(2000 // PERIOD_MS + CART_RAIL.homing_still_periods + 2):
            observed = self.observe()
        assert observed.flags & ObservationFlag.HOMED


@pytest.fixture(scope="module")
def image(policy_folder, tmp_path_factory):
    return build(policy_folder, tmp_path_factory.mktemp("image"), BOARD.name, "real").path


@pytest.fixture(scope="module")
def binary(image):
    return binary_of(image)


@pytest.fixture
def board(binary):
    return Microbit(binary).start()


@pytest.fixture
def bench(board, image):
    """Its driver alone."""
    board.ramp = Ramp(board.chip, image)
    return board


def test_the_drive_is_off_before_its_pin_is_an_output(board):
    output = board.writes.index((GPIO + 0x700 + 4 * ENABLE, 3))
    assert board.writes.index((GPIO, -(1 << ENABLE))) < output
    assert (GPIO, 1 << ENABLE) not in board.writes


def test_a_crystal_that_does_not_start_resets_the_chip_with_the_drive_off(binary):
    board = Microbit(binary, crystal=False)
    with pytest.raises(TimeoutError):  # it waits for the reset
        board.start()
    assert board.chip.register(0xE000_ED0C) == 0x05FA_0004
    assert not board.pin(ENABLE)


@pytest.mark.parametrize(
    ("flags", "cause"),
    [
        (0, ResetCause.POWER_ON),
        (1, ResetCause.PIN),
        (2, ResetCause.WATCHDOG),
        (3, ResetCause.WATCHDOG),
        (4, ResetCause.SOFTWARE),
        (8, ResetCause.SOFTWARE),
        (1 << 16, ResetCause.LOW_POWER),
    ],
)
def test_reset_cause(binary, flags, cause):
    board = Microbit(binary, reset_flags=flags).start()
    assert board.tell(Hello(PROTOCOL_VERSION, 1))[0].reset_cause == cause
    assert (RESETREAS, flags) in board.writes  # a one clears


def test_the_watchdog_is_fed_by_periods_and_by_nothing_else(board):
    assert (WATCHDOG, 1) not in board.writes  # the self-test may take its time
    for _ in range(PERIOD_MS):
        board.millisecond()
    assert (WATCHDOG, 1) in board.writes
    board.writes.clear()
    for _ in range(PERIOD_MS - 1):
        board.millisecond()
    board.tell(Hello(PROTOCOL_VERSION, 1))
    assert (WATCHDOG + 0x600, 0x6E52_4635) not in board.writes
    board.millisecond()
    assert board.writes.count((WATCHDOG + 0x600, 0x6E52_4635)) == 1


def test_a_step_is_made_and_counted_without_the_processor(board):
    assert board.chip.register(GPIOTE + 0x510) == 3 | STEP << 8 | 3 << 16  # a task that toggles the pin
    ends = [board.chip.register(PPI + 0x510 + 4 * number) for number in range(6)]
    assert ends == [TIMER1 + 0x140, GPIOTE, TIMER1 + 0x140, TIMER2 + 8, TIMER1 + 0x144, GPIOTE]
    assert board.timer.channels == 7
    assert board.chip.register(TIMER2 + 0x504) == 1  # counter


def test_the_rod_is_read_and_the_cart_is_the_steps(board):
    board.arm()
    first = board.observe()
    assert abs(first.current[0]) < 1e-6
    assert board.pin(ENABLE)
    for _ in range(5):
        observed = board.observe(40)
    assert observed.current[2] != 0.0  # sine of an angle that changed
    assert abs(observed.applied_action) > 1.0
    sign = -1 if board.pin(DIRECTION) else 1
    assert sign * board.steps.count > 100
    assert observed.current[0] * CART_RAIL.cart_counts_per_metre == pytest.approx(board.steps.count, abs=1)
    counts = []
    for _ in range(PERIOD_MS - 1):
        board.millisecond()
        counts.append(board.steps.count)
    speeds = [(counts[at] - counts[at - 5]) / 0.005 / CART_RAIL.cart_counts_per_metre for at in (-1, 5)]
    assert (speeds[0] - speeds[1]) / (0.001 * (len(counts) - 6)) == pytest.approx(observed.applied_action, rel=0.1)


def test_times_count_from_the_sample_and_not_from_a_main_loop_that_is_late(board):
    board.arm()
    seen = []
    for first in (0, 9, 0, 7, 0):
        for number in range(PERIOD_MS):  # the sample is taken in the last one
            board.millisecond(main_loop=number >= first and number < PERIOD_MS - 1)
        seen += board.heard()
    times = [message.time_us for message in seen if isinstance(message, Observation)]
    assert [after - before for before, after in pairwise(times)] == [CART_RAIL.period_us] * (len(times) - 1)
    assert len(times) > 3
    ages = [message.action_age_us for message in seen if isinstance(message, Timing)]
    assert ages[-3:] == [CART_RAIL.period_us + late_us for late_us in (1_000, 8_000, 1_000)]


def test_a_rod_that_turns_too_fast_for_the_decoder_loses_the_reference(board):
    board.arm()
    board.observe()
    board.double = 1
    assert board.observe().fault == Fault.HOMING_LOST


@pytest.mark.parametrize(
    ("contact", "level", "fault"),
    [
        (EMERGENCY, 1, Fault.E_STOP),
        (LEFT, 1, Fault.RAIL_END),
        (RIGHT, 1, Fault.RAIL_END),
        (DRIVE_OK, 0, Fault.DRIVE_FAULT),
    ],
)
def test_a_contact_stops_and_switches_off(board, contact, level, fault):
    board.arm()
    board.observe()
    board.inputs = board.inputs & ~(1 << contact) | level << contact
    assert board.observe().fault == fault
    for _ in range(CART_RAIL.disarm_delay_periods + 2):
        observed = board.observe()
    assert observed.state == State.OFF
    assert not board.pin(ENABLE)
    assert not board.timer.running


def test_a_main_loop_that_hangs_brakes(board):
    board.arm()
    for _ in range(6):
        board.observe(40)
    assert board.timer.running
    board.writes.clear()
    for _ in range(500):
        board.millisecond(main_loop=False)
    assert not board.timer.running
    assert (WATCHDOG + 0x600, 0x6E52_4635) not in board.writes


def test_the_watchdog_does_not_bite_before_the_cart_stands(bench):
    bench.period()  # which starts it
    reload = bench.chip.register(WATCHDOG + 0x504)
    assert standstill_ms(bench, CART_RAIL.speed_limit) + 40 < 1000 * reload / (32768 * 1.02)
    assert 1000 * reload / (32768 * 0.98) < 370


def test_many_greetings_wait_for_no_random_byte(board):
    """The generator takes 0.7 ms for a byte. Should each reply wait for some, a flood would hold every period up."""
    board.tell(Hello(PROTOCOL_VERSION, 1))
    polls = 0

    def ready():
        nonlocal polls
        polls += 1
        return 0

    board.chip.reads[RNG + 0x100] = ready
    replies = []
    for number in range(20):
        replies += [said for said in board.tell(Hello(PROTOCOL_VERSION, number)) if isinstance(said, HelloReply)]
        board.time_us += 1
    assert len({reply.device_nonce for reply in replies}) == len(replies) == 20
    assert polls == 20


@pytest.mark.parametrize("edge", ["rising", "falling"])
def test_a_step_pin_that_rests_high_is_a_fault_until_the_next_reset(board, edge):
    """A toggle that is lost turns pulses into gaps."""
    board.arm()
    for _ in range(4):
        assert board.observe(40).state == State.ARMED
    assert board.steps.rises
    toggle, wrong = board.timer._task, [edge]

    def task(address):
        if address != GPIOTE:
            toggle(address)
        elif wrong and board.steps.high == (edge == "falling"):
            wrong.clear()
        else:
            board.steps.high = not board.steps.high  # past the checks of the widths, which are broken from now on

    board.timer._task = task
    board.steps.direction = lambda backward: None
    while (observed := board.observe(40)).state == State.ARMED:
        pass
    assert observed.fault == Fault.DRIVE_FAULT
    for _ in range(CART_RAIL.disarm_delay_periods + 2):
        observed = board.observe()
    assert observed.state == State.OFF
    board.tell(Disarm(0))
    reply = board.tell(Hello(PROTOCOL_VERSION, 1))[0]
    board.home()
    assert board.tell(Arm(reply.device_nonce, 5)) == [Acknowledge(Arm.TYPE, 0, Result.INPUT_OPEN)]


def test_steps_are_the_sum_of_the_speeds(bench):
    counts = CART_RAIL.cart_counts_per_metre
    check_profile(bench, profile(CART_RAIL.speed_limit, counts), counts)
    bench.arm()  # no level was taken for a wrong one


@pytest.mark.parametrize(("slow_hz", "fast_hz"), [(20, 2_000), (130, 40_000), (900, 6_000)])
def test_a_speed_that_rises_is_followed_at_once(bench, slow_hz, fast_hz):
    check_slow_to_fast(bench, slow_hz, fast_hz, CART_RAIL.cart_counts_per_metre)
    bench.arm()  # no level was taken for a wrong one


def test_the_direction_changes_while_step_is_low(bench):
    check_reversals(bench, 20_000, CART_RAIL.cart_counts_per_metre)
    bench.arm()  # no level was taken for a wrong one
