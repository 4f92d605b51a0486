"""The image for a real STM32F405, its drivers against models of the registers that no emulator has.

Every instruction is the one that would be flashed; clock tree, timers, contacts and watchdog are Python.
"""

from itertools import pairwise

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
from hardware.plants.cart_rail import CART_RAIL
from hardware.protocol import (
    PROTOCOL_VERSION,
    Acknowledge,
    Arm,
    Config,
    Disarm,
    Fault,
    Hello,
    HelloReply,
    Mode,
    Observation,
    ResetCause,
    Result,
    State,
    Variant,
)

pytestmark = pytest.mark.cross
BOARD = BOARDS["netduinoplus2"]
RCC, FLASH_ACR, POWER_CR, WATCHDOG = 0x4002_3800, 0x4002_3C00, 0x4000_7000, 0x4000_3000
RCC_CR, RCC_PLLCFGR, RCC_CFGR, RCC_CSR = RCC, RCC + 4, RCC + 8, RCC + 0x74
GPIO_B = 0x4002_0400
B_MODER, B_IDR, B_BSRR = GPIO_B, GPIO_B + 0x10, GPIO_B + 0x18
STEP, AXIS, COUNTER, ROD = 0x4000_0000, 0x4000_0400, 0x4000_0800, 0x4000_0C00  # timers 2 to 5
CR2, SMCR, CNT = 0x04, 0x08, 0x24
TICK_INTERRUPT = 54
RESET_CONTROL = 0xE000_ED0C
ENABLE, DIRECTION, EMERGENCY, LEFT, RIGHT, DRIVE_OK = 12, 9, 13, 14, 15, 8
STEPS_PER_METRE, PULSE_CLOCKS = 80_000.0, 126
PERIOD_MS = CART_RAIL.period_us // 1000
TRAVEL = round(2 * CART_RAIL.rail_limit_m * CART_RAIL.cart_counts_per_metre)


class RealBoard(LinkedBoard):
    """The chip with a crystal, a PLL, contacts that are closed and a host on its link."""

    CLOCKS = 84_000  # of a timer in a millisecond
    tick_interrupt = TICK_INTERRUPT

    def __init__(self, binary, *, crystal=True, pll=True, reset_flags=0):
        chip = UnicornChip(BOARD.chip, binary)
        super().__init__(chip, UnicornUsart(chip, 0x4001_1000, 37))
        self.writes = []
        self.inputs = 1 << DRIVE_OK
        self.output = 0
        self.crystal, self.pll = crystal, pll
        self.registers = {}
        self.steps = Steps(PULSE_CLOCKS)
        chip.reads[RCC_CR] = self._clock_control
        chip.reads[RCC_CFGR] = lambda: self.registers.get(RCC_CFGR, 0) | (self.registers.get(RCC_CFGR, 0) & 3) << 2
        chip.reads[RCC_CSR] = lambda: reset_flags
        chip.reads[B_IDR] = lambda: self.inputs
        chip.writes[B_BSRR] = self._set_pins
        for address in (RCC_CR, RCC_PLLCFGR, RCC_CFGR, RCC_CSR, FLASH_ACR, POWER_CR, B_MODER, WATCHDOG, RESET_CONTROL):
            chip.writes[address] = lambda value, address=address: self._note(address, value)
        self.timer = Stm32Timer(chip, STEP, 32, 3, self.steps, self.steps.level)
        chip.reads[COUNTER + CNT] = lambda: len(self.steps.rises) & 0xFFFF
        chip.reset()

    def _note(self, address, value):
        self.registers[address] = value
        self.writes.append((address, value))

    def _clock_control(self):
        control = self.registers.get(RCC_CR, 0x83)
        ready = (control & 1) << 1
        ready |= (control & 1 << 16) << 1 if self.crystal else 0
        ready |= (control & 1 << 24) << 1 if self.pll else 0
        return control | ready

    def _set_pins(self, value):
        self.output = (self.output | value & 0xFFFF) & ~(value >> 16)
        self.steps.direction(self.pin(DIRECTION))
        self.writes.append((B_BSRR, value))

    def start(self):
        self.run()
        return self

    def pin(self, number):
        return bool(self.output >> number & 1)

    def counts(self, axis, rod):
        self.chip.set_register(AXIS + CNT, axis & 0xFFFF)
        self.chip.set_register(ROD + CNT, rod & 0xFFFF)

    def millisecond(self, *, main_loop=True):
        self.timer.advance(self.CLOCKS)
        self.chip.interrupt(TICK_INTERRUPT)
        if main_loop:
            self.run()

    def follow(self, speed):
        """A millisecond with this speed, whatever the safety machine says."""
        self.ramp.set(speed)
        self.chip.interrupt(TICK_INTERRUPT)
        self.timer.advance(self.CLOCKS)

    def period(self, axis, rod=0):
        """One control period; the observations and answers that the host got in it."""
        self.counts(axis, rod)
        for _ in range(PERIOD_MS):
            self.millisecond()
        return self.heard()

    def home(self, off=0):
        """By hand: to the left switch, to the right one (which is `off`), to the middle, and wait for the rod."""
        for axis, open_switch in (
            (100, LEFT),
            (100 + TRAVEL // 2, None),
            (100 + TRAVEL + off, RIGHT),
            (100 + TRAVEL // 2, None),
        ):
            self.inputs = 1 << DRIVE_OK | (1 << open_switch if open_switch is not None else 0)
            self.period(axis, 77)
        for _ in range(2000 // PERIOD_MS + CART_RAIL.homing_still_periods + 2):
            heard = self.period(100 + TRAVEL // 2, 77)
        return heard

    def speed(self):
        """Of the last millisecond's steps, signed."""
        intervals = self.steps.intervals(self.steps.now - self.CLOCKS)
        speed = 1000 * self.CLOCKS / intervals[-1] / STEPS_PER_METRE if intervals else 0.0
        return -speed if self.steps.backward else speed


@pytest.fixture(scope="module")
def image(policy_folder, tmp_path_factory):
    return build(policy_folder, tmp_path_factory.mktemp("image"), BOARD.name, "real").path


@pytest.fixture(scope="module")
def binary(image):
    return binary_of(image)


@pytest.fixture
def board(binary):
    return RealBoard(binary).start()


@pytest.fixture
def bench(binary, image):
    """Its driver alone."""
    board = RealBoard(binary).start()
    board.period(0)  # which starts the watchdog
    board.ramp = Ramp(board.chip, image)
    return board


@pytest.mark.parametrize("name", [name for name, board in BOARDS.items() if len(board.variants) > 1])
def test_both_variants_consist_of_the_same_objects(policy_of, tmp_path, name):
    hil = build(policy_of(name), tmp_path / "hil", name, "hil").objects
    real = build(policy_of(name), tmp_path / "real", name, "real").objects
    assert {path.split("_")[0] for path in set(hil) ^ set(real)} == {"board"}
    shared = set(hil) & set(real)
    assert len(shared) > 15
    assert {name: hil[name] for name in shared} == {name: real[name] for name in shared}


def test_clock_tree(board):
    """168 MHz from a crystal of 25 MHz: wait states and bus dividers first, then the switch."""
    assert board.registers[RCC_PLLCFGR] == 25 | 336 << 6 | 0 << 16 | 1 << 22 | 7 << 24
    assert board.registers[FLASH_ACR] & 0xF == 5
    assert board.registers[POWER_CR] >> 14 & 3 == 1
    assert board.registers[RCC_CFGR] == 2 | 5 << 10 | 4 << 13  # APB1 42 MHz, APB2 84 MHz
    order = [address for address, value in board.writes if address in (FLASH_ACR, RCC_CFGR)]
    assert order == [FLASH_ACR, RCC_CFGR, RCC_CFGR]
    first_switch = next(value for address, value in board.writes if address == RCC_CFGR)
    assert first_switch & 3 == 0


def test_the_rate_of_the_link_is_within_one_percent_of_what_hosts_open(board):
    divider = board.chip.register(0x4001_1008)
    assert divider == 91
    assert 84_000_000 / divider == pytest.approx(921_600, rel=0.01)


def test_without_a_crystal_the_internal_oscillator_does(binary):
    board = RealBoard(binary, crystal=False).start()
    assert board.registers[RCC_PLLCFGR] == 16 | 336 << 6 | 7 << 24
    assert isinstance(board.tell(Hello(PROTOCOL_VERSION, 1))[0], HelloReply)


def test_a_pll_that_does_not_lock_resets_the_chip_with_the_drive_off(binary):
    board = RealBoard(binary, pll=False)
    with pytest.raises(TimeoutError):  # it waits for the reset
        board.run()
    assert board.registers[RESET_CONTROL] == 0x05FA_0004
    assert not board.pin(ENABLE)


def test_the_drive_is_off_before_its_pin_is_an_output(board):
    output = next(i for i, (at, value) in enumerate(board.writes) if at == B_MODER and value >> 2 * ENABLE & 3 == 1)
    low = next(i for i, (at, value) in enumerate(board.writes) if at == B_BSRR and value == 1 << ENABLE + 16)
    assert low < output
    assert not any(at == B_BSRR and value == 1 << ENABLE for at, value in board.writes)


@pytest.mark.parametrize(
    ("bits", "cause"),
    [
        ((25, 26, 27), ResetCause.POWER_ON),
        ((25, 26), ResetCause.BROWN_OUT),
        ((26,), ResetCause.PIN),
        ((26, 28), ResetCause.SOFTWARE),
        ((26, 29), ResetCause.WATCHDOG),
        ((26, 30), ResetCause.WATCHDOG),
        ((26, 31), ResetCause.LOW_POWER),
        ((), ResetCause.UNKNOWN),
    ],
)
def test_reset_cause(binary, bits, cause):
    board = RealBoard(binary, reset_flags=sum(1 << bit for bit in bits)).start()
    reply = board.tell(Hello(PROTOCOL_VERSION, 1))[0]
    assert reply.reset_cause == cause
    assert reply.variant == Variant.REAL
    assert board.registers[RCC_CSR] & 1 << 24  # cleared for the next start


def test_the_watchdog_is_fed_by_periods_and_by_nothing_else(board):
    assert (WATCHDOG, 0xCCCC) not in board.writes  # the self-test may take its time
    board.period(0)
    assert (WATCHDOG, 0xCCCC) in board.writes
    assert board.chip.register(WATCHDOG + 4) == 2
    board.writes.clear()
    for _ in range(PERIOD_MS - 1):
        board.millisecond()
    board.tell(Hello(PROTOCOL_VERSION, 1))
    assert (WATCHDOG, 0xAAAA) not in board.writes
    board.millisecond()
    assert board.writes.count((WATCHDOG, 0xAAAA)) == 1


def test_encoders_count_in_hardware_and_beyond_16_bits(board):
    for timer in (AXIS, ROD):
        assert board.chip.register(timer + SMCR) & 7 == 3
        assert board.chip.register(timer) & 1
    board.tell(Hello(PROTOCOL_VERSION, 1))
    position = 0
    for step in (30_000, 30_000, 30_000, -30_000, -30_000, -30_000, -30_000):
        position += step
        heard = board.period(position)
        observed = next(message for message in heard if isinstance(message, Observation))
        assert observed.current[0] == pytest.approx(position / CART_RAIL.cart_counts_per_metre, rel=1e-6)


def test_not_armed_before_both_ends_were_found(board):
    reply = board.tell(Hello(PROTOCOL_VERSION, 1))[0]
    board.tell(Config(reply.device_nonce, Mode.DEVICE, 10, 0))
    for _ in range(200):
        board.period(0)
    answer = board.tell(Arm(reply.device_nonce, 5))
    assert answer == [Acknowledge(Arm.TYPE, 0, Result.NOT_HOMED)]
    assert not board.pin(ENABLE)


def test_ends_in_a_wrong_distance_are_no_reference(board):
    board.tell(Hello(PROTOCOL_VERSION, 1))
    for axis, switch in ((0, LEFT), (TRAVEL // 2, RIGHT), (TRAVEL // 4, None)):
        board.inputs = 1 << DRIVE_OK | (1 << switch if switch is not None else 0)
        board.period(axis)
    for _ in range(200):
        heard = board.period(TRAVEL // 4)
    assert observation(heard).state == State.UNHOMED


@pytest.mark.parametrize("off", [-700, -400, 0, 400, 700])
def test_the_middle_is_never_off_by_more_than_the_soft_limit_is_before_the_switch(board, off):
    """What one switch is off moves the middle by half: 500 counts are taken, 25 mm of a margin of 50."""
    board.tell(Hello(PROTOCOL_VERSION, 1))
    heard = board.home(off)
    homed = observation(heard).state == State.IDLE
    assert homed == (abs(off) <= 500)
    margin = CART_RAIL.rail_limit_m - CART_RAIL.rail_soft_limit_m
    if homed:
        assert abs(observation(heard).current[0]) <= margin / 2
    else:
        assert observation(board.home()).state == State.IDLE


def test_an_end_is_the_count_at_which_its_switch_opens(board):
    """Not where the cart is at the next boundary, a hand's breadth further: 19 ms at 1.5 m/s."""
    board.tell(Hello(PROTOCOL_VERSION, 1))
    for edge, beyond, contact in ((100, -30, LEFT), (100 + TRAVEL, 5, RIGHT)):
        board.inputs = 1 << DRIVE_OK
        board.period(edge - beyond * PERIOD_MS, 77)
        board.inputs |= 1 << contact
        for number in range(PERIOD_MS):
            board.counts(edge + beyond * number, 77)
            board.millisecond()
    board.inputs = 1 << DRIVE_OK
    middle = 100 + TRAVEL // 2
    for _ in range(2000 // PERIOD_MS + CART_RAIL.homing_still_periods + 3):
        heard = board.period(middle, 77)
    assert [m.state for m in heard if isinstance(m, Observation)] == [State.IDLE]
    assert observation(heard).current[0] == pytest.approx(0.0, abs=1e-6)


def armed(board, mode=Mode.DEVICE):
    board.arm(mode=mode)
    return board


def observation(messages):
    return next(message for message in messages if isinstance(message, Observation))


def test_the_middle_is_zero_and_the_motor_follows_the_ramp(board):
    """Speed in step pulses, every millisecond, against the set-point that safety gave."""
    armed(board)
    middle = 100 + TRAVEL // 2
    first = observation(board.period(middle, 77 + 20))
    assert first.state == State.ARMED
    assert abs(first.current[0]) < 1e-6
    assert board.pin(ENABLE)
    board.period(middle, 77 + 60)
    applied = observation(board.period(middle, 77 + 100)).applied_action
    assert abs(applied) > 1.0
    rates = []
    board.counts(middle, 77 + 140)
    for _ in range(PERIOD_MS - 1):
        board.millisecond()
        rates.append(board.speed())
    assert (rates[-1] - rates[2]) / 0.001 / (len(rates) - 3) == pytest.approx(applied, rel=0.05)
    for before, after in pairwise(rates[2:]):
        assert (after - before) * 1000 == pytest.approx(applied, rel=0.2)


def test_a_main_loop_that_hangs_brakes_and_is_reset(board):
    armed(board)
    middle = 100 + TRAVEL // 2
    for rod in range(20, 160, 20):
        board.period(middle, 77 + rod)
    running = abs(board.speed())
    assert running > 0
    board.writes.clear()
    speeds = []
    for _ in range(500):
        board.millisecond(main_loop=False)
        speeds.append(abs(board.speed()))
    assert (WATCHDOG, 0xAAAA) not in board.writes
    assert speeds[-1] == 0.0
    late = [speed for speed in speeds[PERIOD_MS + PERIOD_MS // 2 + 2 :] if speed > 0]
    assert late == sorted(late, reverse=True)


def test_the_watchdog_does_not_bite_before_the_cart_stands(bench):
    slowest_ms, fastest_ms = independent_watchdog_ms(bench.chip)
    assert standstill_ms(bench, CART_RAIL.speed_limit) + 40 < fastest_ms
    assert slowest_ms < 1000


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
    armed(board)
    middle = 100 + TRAVEL // 2
    board.period(middle, 77)
    assert board.pin(ENABLE)
    board.inputs = board.inputs & ~(1 << contact) | level << contact
    heard = observation(board.period(middle, 77))
    assert (heard.fault, heard.state in (State.BRAKING, State.OFF)) == (fault, True)
    for _ in range(CART_RAIL.disarm_delay_periods + 2):
        board.period(middle, 77)
    assert not board.pin(ENABLE)


@pytest.mark.parametrize("millisecond", [0, 7, PERIOD_MS - 1])
@pytest.mark.parametrize(
    ("contact", "level", "fault"),
    [(EMERGENCY, 1, Fault.E_STOP), (RIGHT, 1, Fault.RAIL_END), (DRIVE_OK, 0, Fault.DRIVE_FAULT)],
)
def test_a_millisecond_is_enough(board, contact, level, fault, millisecond):
    armed(board)
    middle = 100 + TRAVEL // 2
    board.period(middle, 77)
    closed = board.inputs
    for number in range(PERIOD_MS):
        board.inputs = closed & ~(1 << contact) | level << contact if number == millisecond else closed
        board.millisecond()
    board.inputs = closed
    seen = [message for message in board.heard() if isinstance(message, Observation)]
    assert [message.fault for message in seen] == [fault]
    assert observation(board.period(middle, 77)).fault == fault  # latched


@pytest.mark.parametrize("what", ["emergency stop", "driver", "disarm", "lost period"])
def test_what_stops_between_arm_and_the_first_boundary_never_switches_the_drive_on(board, what):
    """Although the cart is moved by hand, so that the machine does not see it at rest."""
    armed(board)
    middle = 100 + TRAVEL // 2
    if what == "emergency stop":
        board.inputs |= 1 << EMERGENCY
    elif what == "driver":
        board.inputs &= ~(1 << DRIVE_OK)
    elif what == "disarm":
        board.tell(Disarm(0))
    else:
        for _ in range(2 * PERIOD_MS):
            board.millisecond(main_loop=False)
    board.writes.clear()
    states = [observation(board.period(middle + 200 * number, 77)).state for number in range(1, 6)]
    assert (B_BSRR, 1 << ENABLE) not in board.writes
    assert set(states) == {State.IDLE if what == "disarm" else State.OFF}


def test_a_driver_with_a_fault_is_not_armed(board):
    reply = board.tell(Hello(PROTOCOL_VERSION, 1))[0]
    board.home()
    board.tell(Config(reply.device_nonce, Mode.DEVICE, 10, 0))
    board.inputs &= ~(1 << DRIVE_OK)
    board.period(100 + TRAVEL // 2, 77)
    assert board.tell(Arm(reply.device_nonce, 5)) == [Acknowledge(Arm.TYPE, 0, Result.INPUT_OPEN)]


def test_an_encoder_that_failed_has_to_find_its_zero_again(board):
    armed(board)
    middle = 100 + TRAVEL // 2
    board.period(middle, 77)
    assert observation(board.period(middle, 77 + 1000)).fault == Fault.ENCODER_JUMP
    for _ in range(CART_RAIL.disarm_delay_periods + 2):
        heard = board.period(middle, 77)
    assert observation(heard).state == State.OFF
    assert board.tell(Disarm(0))[0].result == Result.OK
    for _ in range(200):
        heard = board.period(middle, 77)
    assert observation(heard).state == State.UNHOMED
    board.home()
    assert observation(board.period(middle, 77)).state == State.IDLE


@pytest.mark.parametrize(
    ("contact", "level", "first"), [(EMERGENCY, 1, Fault.E_STOP), (DRIVE_OK, 0, Fault.DRIVE_FAULT), (None, 0, None)]
)
def test_it_can_be_homed_again_after_an_encoder_failed_behind_another_fault(board, contact, level, first):
    armed(board)
    middle = 100 + TRAVEL // 2
    for number in range(4):
        board.period(middle + 200 * number, 77 + 10 * number)
    if contact is not None:
        board.inputs = board.inputs & ~(1 << contact) | level << contact
    else:
        board.tell(Disarm(0))
    board.period(middle + 800, 77 + 40)
    heard = board.period(middle + 1000, 77 + 1000)  # the rod's count leaps while it brakes
    assert observation(heard).fault == (first or Fault.ENCODER_JUMP)
    for _ in range(CART_RAIL.disarm_delay_periods + 2):
        heard = board.period(middle, 77)
    assert observation(heard).state == State.OFF
    board.inputs = 1 << DRIVE_OK
    assert board.tell(Disarm(0))[0].result == Result.OK
    assert observation(board.period(middle, 77)).state == State.UNHOMED
    board.home()
    assert observation(board.period(middle, 77)).state == State.IDLE


@pytest.mark.parametrize("hung_ms", [36, 70])
def test_a_main_loop_that_comes_back_finds_the_motor_braking(board, hung_ms):
    """It never gets its old speed back: what braked by itself brakes on, and the run ends with a fault."""
    armed(board)
    middle = 100 + TRAVEL // 2
    for rod in range(20, 160, 20):
        board.period(middle, 77 + rod)
    speeds = []
    for _ in range(hung_ms):
        board.millisecond(main_loop=False)
        speeds.append(abs(board.speed()))
    for _ in range(3 * PERIOD_MS):
        board.millisecond()
        speeds.append(abs(board.speed()))
    late = speeds[PERIOD_MS + PERIOD_MS // 2 + 1 :]
    assert late == sorted(late, reverse=True)
    faults = {message.fault for message in board.heard() if isinstance(message, Observation)}
    assert faults - {Fault.NONE}


def test_steps_are_counted_by_a_timer(board):
    assert board.chip.register(STEP + CR2) == 6 << 4  # the output of channel 3 is its trigger
    assert board.chip.register(COUNTER + SMCR) == 1 << 4 | 7  # which timer 4 counts as its input 1


def test_no_pulse_before_the_drive_is_on(board):
    for _ in range(3 * PERIOD_MS):
        board.millisecond()
    assert not board.steps.rises


def test_steps_are_the_sum_of_the_speeds(bench):
    check_profile(bench, profile(CART_RAIL.speed_limit, STEPS_PER_METRE), STEPS_PER_METRE)


@pytest.mark.parametrize(("slow_hz", "fast_hz"), [(20, 2_000), (20, 100_000), (900, 6_000), (5_000, 20_000)])
def test_a_speed_that_rises_is_followed_at_once(bench, slow_hz, fast_hz):
    check_slow_to_fast(bench, slow_hz, fast_hz, STEPS_PER_METRE)


def test_no_step_comes_by_itself_from_a_motor_that_stands(bench):
    """Not even when the timer comes to its end, after 51 s."""
    bench.follow(1.0)
    bench.follow(0.0)
    bench.follow(0.0)
    made = len(bench.steps.rises)
    for _ in range(120):
        bench.timer.advance(499 * bench.CLOCKS)
        bench.follow(0.0)
    assert len(bench.steps.rises) == made


def test_a_speed_beyond_the_pulses_is_not_made_up_for(bench):
    for _ in range(50):
        bench.follow(2 * CART_RAIL.speed_limit)
    bench.follow(0.0)
    bench.follow(0.0)
    made = len(bench.steps.rises)
    for _ in range(10):
        bench.follow(0.0)
    assert len(bench.steps.rises) == made


def test_the_direction_changes_while_step_is_low(bench):
    check_reversals(bench, 20_000, STEPS_PER_METRE)
