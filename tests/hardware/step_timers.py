"""Timers that make steps, as the chips' manuals describe them, and what a driver saw of their pulses.

Time goes on in clocks of the timer, from event to event. Reading a counter takes the processor some of them, as on the
chip: what is read is old when the next register is written.
"""

import struct
import subprocess
from dataclasses import dataclass, field
from itertools import pairwise

from hardware.board import ARM
from hardware.build import find_cross

READING_CLOCKS = 15


@dataclass
class Steps:
    """A driver's step and direction inputs: times in clocks; it steps on rising edges."""

    pulse_clocks: int
    now: int = 0
    count: int = 0
    high: bool = False
    backward: bool = False
    rises: list[int] = field(default_factory=list)
    falls: list[int] = field(default_factory=list)
    turns: list[int] = field(default_factory=list)

    def level(self, high):
        """The step input has this level now."""
        if high and not self.high:
            assert not self.falls or self.now - self.falls[-1] >= self.pulse_clocks, "low for too short a time"
            assert not self.turns or self.now - self.turns[-1] >= self.pulse_clocks, "set-up time of the direction"
            self.count += -1 if self.backward else 1
            self.rises.append(self.now)
        elif self.high and not high:
            assert self.now - self.rises[-1] >= self.pulse_clocks, "high for too short a time"
            self.falls.append(self.now)
        self.high = high

    def direction(self, backward):
        """The direction input has this level now."""
        if backward != self.backward:
            assert not self.high, "the direction changed while step was high"
            self.turns.append(self.now)
        self.backward = backward

    def intervals(self, since=0):
        """Between rising edges from a moment on."""
        return [after - before for before, after in pairwise(self.rises) if before >= since]


class Stm32Timer:
    """A timer of an STM32F4 that counts upwards; PWM mode 1 on one channel, of which `output` hears."""

    def __init__(self, chip, base, bits, channel, steps, output=None):
        self.base, self.chip, self.channel, self.steps, self.output = base, chip, channel, steps, output
        self.maximum = (1 << bits) - 1
        self.written = {"psc": 0, "arr": self.maximum, "ccr": 0}
        self.active = dict(self.written)
        self.count = self.divided = self.flags = self.control = self.read_clocks = 0
        chip.reads[base + 0x24] = self._read_count
        chip.reads[base + 0x10] = lambda: self.flags
        chip.writes[base] = lambda value: setattr(self, "control", value)
        chip.writes[base + 0x10] = lambda value: setattr(self, "flags", self.flags & value)
        chip.writes[base + 0x14] = self._event
        chip.writes[base + 0x18 + 4 * ((channel - 1) // 2)] = lambda _value: self._settle()
        chip.writes[base + 0x24] = self._set_count
        chip.writes[base + 0x28] = lambda value: self._write("psc", value, preloaded=True)
        chip.writes[base + 0x2C] = lambda value: self._write("arr", value, preloaded=bool(self.control & 0x80))
        chip.writes[base + 0x30 + 4 * channel] = lambda value: self._write("ccr", value, preloaded=self._mode() & 8)

    def _mode(self):
        register = self.chip.register(self.base + 0x18 + 4 * ((self.channel - 1) // 2))
        return register >> 8 * ((self.channel - 1) % 2) & 0xFF

    def _read_count(self):
        count = self.count
        self.read_clocks += READING_CLOCKS
        self._pass(READING_CLOCKS)
        return count

    def _write(self, name, value, *, preloaded):
        self.written[name] = value
        if not preloaded:
            self.active[name] = value
            self._settle()

    def _set_count(self, value):
        self.count, self.divided = value & self.maximum, 0
        self._settle()

    def _event(self, value):
        if value & 1:
            self._update(flag=not self.control & 4)

    def _update(self, *, flag):
        self.count = self.divided = 0
        self.active.update(self.written)
        self.flags |= int(flag)
        self._settle()

    def _settle(self):
        if self.output and self._mode() & 0x70 == 0x60:
            self.output(self.count < self.active["ccr"])

    def _pass(self, clocks):
        """Time that the processor needs: events raise flags, and nobody hears of them yet."""
        while clocks := self._to_next_event(clocks):
            pass

    def _to_next_event(self, clocks):
        """Go on by at most `clocks`, to the next event; how many are left."""
        if not self.control & 1:
            self.steps.now += clocks
            return 0
        divider = self.active["psc"] + 1
        end = self.active["arr"] if self.count <= self.active["arr"] else self.maximum
        compare = self.active["ccr"]
        target = compare if self.count < compare <= end else end + 1
        needed = (target - self.count) * divider - self.divided
        if clocks < needed:
            self.count += (self.divided + clocks) // divider
            self.divided = (self.divided + clocks) % divider
            self.steps.now += clocks
            return 0
        self.steps.now += needed
        self.divided = 0
        if target == compare:
            self.count = target
            self.flags |= 1 << self.channel
            self._settle()
        else:
            self._update(flag=True)
        return clocks - needed

    def advance(self, clocks, interrupt=None):
        """Let time pass, less what the processor needed; `interrupt` is called at each event that asks for it."""
        clocks, self.read_clocks = clocks - self.read_clocks, 0
        while True:
            if interrupt and self.flags & self.chip.register(self.base + 0x0C):
                interrupt()
            if clocks <= 0:
                return
            clocks = self._to_next_event(clocks)


class Nrf51Timer:
    """Timer 1 of an nRF51, with what PPI connects: GPIOTE's channel 0 and the counter timer 2."""

    GPIOTE, TIMER1, TIMER2, PPI = 0x4000_6000, 0x4000_9000, 0x4000_A000, 0x4001_F000
    TOP = 0x1_0000

    def __init__(self, chip, steps):
        self.chip, self.steps = chip, steps
        self.count = self.counted = self.channels = self.read_clocks = 0
        self.running = False
        chip.writes[self.TIMER1] = lambda _value: setattr(self, "running", True)
        chip.writes[self.TIMER1 + 4] = lambda _value: setattr(self, "running", False)
        chip.writes[self.TIMER1 + 12] = lambda _value: setattr(self, "count", 0)
        for number in range(4):
            chip.writes[self.TIMER1 + 0x40 + 4 * number] = lambda _value, number=number: self._capture(number)
        chip.reads[self.TIMER2 + 0x540] = lambda: self.counted & 0xFFFF
        chip.writes[self.TIMER2 + 8] = lambda _value: self._task(self.TIMER2 + 8)
        chip.writes[self.GPIOTE] = lambda _value: self._task(self.GPIOTE)
        chip.writes[self.PPI + 0x504] = lambda value: setattr(self, "channels", self.channels | value)

    def compare(self, number):
        """A compare register."""
        return self.chip.register(self.TIMER1 + 0x540 + 4 * number)

    def _capture(self, number):
        self.chip.set_register(self.TIMER1 + 0x540 + 4 * number, self.count)
        self.read_clocks += READING_CLOCKS
        self._pass(READING_CLOCKS)

    def _task(self, address):
        if address == self.GPIOTE:
            self.steps.level(not self.steps.high)
        elif address == self.TIMER2 + 8:
            self.counted += 1

    def _compared(self, number):
        for channel in range(16):
            place = self.PPI + 0x510 + 8 * channel
            if self.channels >> channel & 1 and self.chip.register(place) == self.TIMER1 + 0x140 + 4 * number:
                self._task(self.chip.register(place + 4))
        if number == 0 and self.chip.register(self.TIMER1 + 0x200) & 1:
            self.count = 0

    def _pass(self, clocks):
        while self.running and clocks > 0:
            needed, number = min(((self.compare(n) - self.count - 1) % self.TOP + 1, n) for n in range(2))
            moved = min(needed, clocks)
            self.count = (self.count + moved) % self.TOP
            self.steps.now += moved
            clocks -= moved
            if moved == needed:
                self._compared(number)
        self.steps.now += max(clocks, 0)

    def advance(self, clocks):
        """Let time pass, less what the processor needed."""
        self._pass(clocks - self.read_clocks)
        self.read_clocks = 0


class Ramp:
    """The ramp of a motor's driver in an image's memory: it is told each speed, past the safety machine."""

    def __init__(self, chip, image):
        self.chip = chip
        listing = subprocess.run([find_cross(ARM, "nm"), str(image)], check=True, capture_output=True, text=True).stdout
        symbols = {line.split()[2]: int(line.split()[0], 16) for line in listing.splitlines() if len(line.split()) == 3}
        self.place = symbols["motor"]

    def set(self, speed):
        """What the next millisecond's speed is; layout of speed_ramp_t."""
        for offset, value in ((0, struct.pack("<I", 1)), (4, bytes(4)), (8, struct.pack("<f", speed))):
            self.chip.set_register(self.place + offset, int.from_bytes(value, "little"))
        self.chip.set_register(self.place + 12, 20)  # left_ms; not overdue

    def speed(self):
        """The speed that the motor is to have now."""
        return struct.unpack("<f", struct.pack("<I", self.chip.register(self.place + 16)))[0]


def standstill_ms(bench, speed):
    """A main loop that was there at this speed for the last time: milliseconds until the axis stands by itself."""
    for _ in range(20):
        bench.follow(speed)
    assert bench.ramp.speed() == speed or abs(bench.ramp.speed() / speed - 1) < 1e-6
    bench.ramp.set(speed)
    for elapsed_ms in range(2000):
        if bench.ramp.speed() == 0.0:
            return elapsed_ms
        bench.chip.interrupt(bench.tick_interrupt)
    raise AssertionError("it never stands")


def profile(top, steps_per_unit):
    """Speeds of a second, one a millisecond: creeping, to full speed, back through zero, waiting, a jump, creeping."""
    creep = 37.0 / steps_per_unit
    return [
        *[creep] * 150,
        *[top * number / 150 for number in range(150)],
        *[top - top * number / 100 for number in range(200)],
        *[-top + top * number / 100 for number in range(101)],
        *[0.0] * 49,
        *[creep] * 50,
        *[top / 3] * 30,
        *[-creep * 3] * 70,
        *[creep * (1 if number // 10 % 2 else -1) for number in range(200)],
    ]


def check_profile(bench, speeds, steps_per_unit):
    """At every millisecond the count is the sum of the speeds within a step; while turning, within what waits."""
    position, before = float(bench.steps.count), 0.0
    for speed in speeds:
        steps = speed * steps_per_unit / 1000
        position += steps
        bench.follow(speed)
        turned = bool(bench.steps.turns) and bench.steps.now - bench.steps.turns[-1] < 3 * bench.CLOCKS
        rounding = 0.5 * steps * steps / bench.CLOCKS  # half a clock in every interval
        room = 1.05 + rounding + (abs(steps) + abs(before)) * turned
        assert abs(bench.steps.count - position) <= room, (speed, position)
        before = steps
    assert abs(bench.steps.count - position) <= 1.05
    assert len(bench.steps.rises) == len(bench.steps.falls) + bench.steps.high


def check_slow_to_fast(bench, slow_hz, fast_hz, steps_per_unit):
    """Whenever the speed rises: the next step within one of its intervals, and soon evenly."""
    for wait_ms in (1, 7, 11, 24, 38, 49):
        for _ in range(wait_ms + 100):
            bench.follow(slow_hz / steps_per_unit)
        now, interval = bench.steps.now, 1000 * bench.CLOCKS / fast_hz
        for _ in range(5):
            bench.follow(fast_hz / steps_per_unit)
        first = next((time for time in bench.steps.rises if time >= now), None)
        assert first is not None
        assert first - now <= interval
        assert all(0.5 * interval < each < 2.1 * interval for each in bench.steps.intervals(now))
        assert all(abs(each - interval) < 0.02 * interval for each in bench.steps.intervals(now + 9 * bench.CLOCKS))


def check_reversals(bench, top_hz, steps_per_unit):
    """Back and forth at many speeds, at any moment of a pulse: what `Steps` says about levels and widths holds."""
    for number in range(60):
        speed = top_hz * (1 + 37 * number % 41) / 41 / steps_per_unit
        for sign in (1, -1):
            for _ in range(4 + number % 7):
                bench.follow(sign * speed)
    assert len(bench.steps.turns) > 80
    assert min(bench.steps.intervals()) >= 2 * bench.steps.pulse_clocks
