"""The fault table: what goes wrong, and within how many control periods the device does what about it.

Every row runs on every image of IMAGES, in lock-step, and is exact: not a period later, not one earlier.
"""

import itertools
import os
import random
import signal
import subprocess
import sys
from types import SimpleNamespace

import fault_bench
import numpy as np
import pytest
from conftest import FIXTURE_DIGEST
from fault_bench import Device, assert_starved, assert_stopped, full_speed, gentle, to_and_fro
from pendulum_host import SESSION, arm_message, disarm_message

from firmware_bridge.device.handshake import check_identity
from firmware_bridge.errors import MismatchError
from hardware.framing import FrameDecoder, encode_frame
from hardware.plants.cart_rail import CART_RAIL
from hardware.protocol import (
    NO_TIME_US,
    Arm,
    Command,
    Config,
    Enable,
    Encoder,
    Fault,
    Heartbeat,
    Hello,
    Mode,
    Observation,
    ObservationFlag,
    ResetCause,
    Result,
    SensorFlag,
    State,
)
from hardware.simulator import CLOCK_START_US

# Fixtures that give the path of an image for `python -m hardware simulate`.
IMAGES = ("image", pytest.param("emulated_image", marks=[pytest.mark.qemu, pytest.mark.slow]))
REFERENCED = int(SensorFlag.REFERENCED)
WATCHDOG_PERIODS = 2


@pytest.fixture(scope="module", params=IMAGES)
def table_image(request):
    return request.getfixturevalue(request.param)


@pytest.fixture
def device(table_image, tmp_path):
    """Starts a device with the faults that are passed."""
    started = []

    def start(*faults) -> Device:
        folder = tmp_path / str(len(started))
        folder.mkdir()
        started.append(Device(table_image, folder, *faults))
        return started[-1]

    yield start
    for one in started:
        one.kill()


# ---- Stops ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "reason", "detail", "periods"),
    [
        ("e-stop", Fault.E_STOP, REFERENCED | SensorFlag.EMERGENCY_STOP, 0),
        ("end-left", Fault.RAIL_END, REFERENCED | SensorFlag.END_LEFT, 0),
        ("end-right", Fault.RAIL_END, REFERENCED | SensorFlag.END_RIGHT, 0),
        ("drive-fault", Fault.DRIVE_FAULT, REFERENCED | SensorFlag.DRIVE_FAULT, 0),
        ("reference-lost", Fault.HOMING_LOST, 0, 0),
        ("encoder-jump-cart=1000", Fault.ENCODER_JUMP, Encoder.CART, 0),
        ("encoder-jump-cart=-1000", Fault.ENCODER_JUMP, Encoder.CART, 0),
        ("encoder-jump-cart=40000", Fault.ENCODER_JUMP, Encoder.CART, 0),  # far beyond the rail
        ("encoder-jump-rod=200", Fault.ENCODER_JUMP, Encoder.ROD, 0),
        ("encoder-jump-rod=-200", Fault.ENCODER_JUMP, Encoder.ROD, 0),
        ("encoder-jump-rod=2048", Fault.ENCODER_JUMP, Encoder.ROD, 0),
        # At 0.96 m/s and rising the set-point goes 20 mm in the 2nd period; no rod stands still all of a sudden.
        ("encoder-frozen-cart", Fault.ENCODER_FROZEN, Encoder.CART, 1),
        ("encoder-frozen-rod", Fault.ENCODER_FROZEN, Encoder.ROD, 0),
    ],
)
def test_a_sensor_fault_stops(device, fault, reason, detail, periods):
    tick = 47
    one = device(f"{fault}@{tick}")
    observation = one.drive(one.arm(), tick + periods + 5)
    assert (observation.tick, observation.state) == (tick + periods, State.BRAKING)
    assert observation.applied_action <= -CART_RAIL.brake_acceleration_m_s2 + 1e-3  # at once
    one.host.inbox.insert(0, observation)
    assert_stopped(one, reason, tick + periods, int(detail))


def test_an_observation_that_jumped_is_not_shown_to_the_policy_of_the_device(device):
    one = device("encoder-jump-cart=1000@47:1")
    host, observation = one.host, one.arm(Mode.DEVICE)
    while observation.state == State.ARMED:
        host.send(Heartbeat(SESSION, observation.tick))
        observation = host.wait(Observation)
    assert [action.observation_tick for action in host.actions][-1] == 46
    host.inbox.insert(0, observation)
    assert_stopped(one, Fault.ENCODER_JUMP, 47, Encoder.CART)


def test_a_frozen_encoder_is_found_by_the_way_the_motor_went(device):
    # Slower: the bound is in millimetres and metres a second, whatever the number of periods. Both encoders at once.
    for kind in ("cart", "rod"):
        one = device(f"encoder-frozen-{kind}@26")
        observation = one.drive(one.arm(), 500, gentle)
        assert observation.state == State.BRAKING
        one.host.inbox.insert(0, observation)
        rows = assert_stopped(one, Fault.ENCODER_FROZEN, observation.tick, Encoder[kind.upper()])
        setpoint = np.concatenate([[0.0], rows["drive"][:, 1]])  # [k]: at the end of the period that tick k began
        ticks = range(26, observation.tick + 1)
        if kind == "cart":
            steps = [0.5 * (setpoint[k - 2] + setpoint[k - 1]) * CART_RAIL.period_s for k in ticks]
            steps = [step for step in steps if abs(step) > CART_RAIL.axis_dead_speed * CART_RAIL.period_s]
            bound = CART_RAIL.axis_frozen
        else:
            steps = [abs(setpoint[k - 1] - setpoint[k - 2]) for k in ticks]
            steps = [step for step in steps if step > CART_RAIL.rod_dead_change]
            bound = CART_RAIL.rod_frozen
        assert abs(sum(steps)) > bound >= abs(sum(steps[:-1]))


def test_a_rod_that_hangs_still_under_a_cart_that_is_held_is_not_frozen(device):
    one = device()
    host, observation = one.host, one.arm()
    for _ in range(1500):  # 0.008 m/s to and fro every period: 12 m/s in sum, and not enough to throw the rod
        action = 0.4 if observation.tick % 2 else -0.4
        observation = one.drive(observation, observation.tick + 1, lambda _tick, action=action: action)
    assert (observation.state, host.faults) == (State.ARMED, [])
    rods = one.end()["counts"][-1000:, 1]
    assert max(len(list(run)) for _, run in itertools.groupby(rods)) > 200  # periods: a still rod indeed


@pytest.mark.parametrize("kind", ["cart=200", "rod=40"])
def test_a_jump_that_physics_allow_stops_nothing(device, kind):
    one = device(f"encoder-jump-{kind}@40", f"encoder-jump-{kind}@45:1")
    assert one.drive(one.arm(), 58).state == State.ARMED


def test_after_an_encoder_fault_the_old_reference_is_worth_nothing(device):
    one = device("encoder-jump-cart=1000@47:5", "reference-lost@150:3")
    host = one.host
    observation = one.drive(one.arm(), 60)
    host.send(Heartbeat(0, observation.tick))
    while host.idle().state != State.OFF:
        pass
    assert host.request(disarm_message()) == Result.OK
    while host.observations[-1].tick < 149:
        assert host.idle().state in (State.OFF, State.UNHOMED)
    assert host.request(arm_message(host.hello())) == Result.NOT_HOMED
    host.home()
    assert host.request(arm_message(host.hello())) == Result.OK
    while host.observations[-1].state != State.ARMED:
        host.idle()


def test_the_rail_end_at_full_speed_is_never_reached_with_encoders_that_are_right(device):
    one = device()
    observation = one.drive(one.arm(), 200, full_speed)
    assert observation.state == State.ARMED
    rows = one.end()
    assert np.abs(rows["drive"][:, 1]).max() > 0.95 * CART_RAIL.speed_limit_m_s
    assert 0.6 < np.abs(rows["state"][:, 0]).max() < CART_RAIL.rail_limit_m


def test_the_rail_end_at_full_speed_with_a_wrong_reference_stops_at_the_end_switch(device):
    # Referenced 0.6 m off, before arming: the device believes the cart far from the right end.
    one = device("encoder-jump-cart=-12000@1")
    observation = one.drive(one.arm(), 200, lambda tick: 20.0 if tick >= fault_bench.START_TICK else 0.0)
    assert observation.state == State.BRAKING
    assert observation.current[0] < 0.3
    tick = observation.tick
    one.host.inbox.insert(0, observation)
    rows = assert_stopped(one, Fault.RAIL_END, tick, REFERENCED | SensorFlag.END_RIGHT)
    assert rows["drive"][tick - 2, 1] > 0.95 * CART_RAIL.speed_limit_m_s
    # The first period that began beyond the switch.
    assert rows["state"][tick - 2, 0] <= CART_RAIL.rail_limit_m < rows["state"][tick - 1, 0]


@pytest.mark.parametrize("number", ["SIGKILL", "SIGSTOP"], ids=["host killed (-9)", "host hung"])
def test_a_dead_host_stops(device, number):
    one, tick = device(), 47
    command = [sys.executable, fault_bench.__file__, one.simulation.link, str(tick), number]
    child = subprocess.Popen(command)
    try:
        _, status = os.waitpid(child.pid, os.WUNTRACED)
        assert (os.WTERMSIG(status) if number == "SIGKILL" else os.WSTOPSIG(status)) == signal.Signals[number]
        one.another_host()
        assert_stopped(one, Fault.WATCHDOG, tick + WATCHDOG_PERIODS, WATCHDOG_PERIODS)
    finally:
        if number == "SIGSTOP":
            child.kill()
            child.wait()


def test_a_cut_link_stops(device):
    one, tick = device(), 47
    observation = one.drive(one.arm(), tick)
    assert observation.tick == tick
    one.another_host()  # plugged in again, some periods later
    assert_stopped(one, Fault.WATCHDOG, tick + WATCHDOG_PERIODS, WATCHDOG_PERIODS)


def flood(generator: random.Random, tick: int) -> bytes:
    """4 kB that look like anything but an answer of this session."""
    foreign = [Command(SESSION + 1, tick, 1.0), Heartbeat(SESSION + 1, tick), Hello(1, 2), Config(1, 1, 3, 0)]
    frames = b"".join(encode_frame(generator.choice(foreign), generator.randrange(65536)) for _ in range(50))
    return generator.randbytes(1000) + b"\xff" * 1000 + b"\0" + frames + generator.randbytes(1000) + b"\0"


def test_a_flooded_link_stops_only_when_the_answers_stop(device):
    one, tick = device(), 47
    generator = random.Random(5)
    host, observation = one.host, one.arm()
    while observation.tick < tick:
        host.write(flood(generator, observation.tick))
        observation = one.drive(observation, observation.tick + 1)
        assert observation.state == State.ARMED
        assert not observation.flags & ObservationFlag.HELD
    while observation.state == State.ARMED:
        host.write(flood(generator, observation.tick))
        host.send(Heartbeat(0, observation.tick))  # the clock of lock-step; feeds nothing
        observation = host.wait(Observation)
    host.inbox.insert(0, observation)
    assert_stopped(one, Fault.WATCHDOG, tick + WATCHDOG_PERIODS, WATCHDOG_PERIODS)


def test_a_brown_out_comes_up_unhomed_and_disarmed(device, table_image):
    """What the bridge does about it: tests/firmware_bridge/test_run.py."""
    if table_image.suffix != ".elf":
        pytest.skip("a process has no supply that could fail")
    tick = 47
    one = device(f"brown-out@{tick}")
    observation = one.drive(one.arm(), tick - 1)
    one.host.send(Command(SESSION, observation.tick, 5.0))
    reply, observation = one.greet_restarted(tick)
    assert reply.reset_cause == ResetCause.UNKNOWN  # QEMU has no reset controller; the real one: test_real_board.py
    assert (observation.state, observation.fault) == (State.UNHOMED, Fault.NONE)
    assert not observation.flags & (ObservationFlag.HOMED | ObservationFlag.CONFIGURED)
    assert observation.flags & ObservationFlag.SELF_TEST_OK
    assert one.host.request(Config(reply.device_nonce, Mode.HOST, WATCHDOG_PERIODS, 0)) == Result.OK
    assert one.host.request(arm_message(reply)) == Result.NOT_HOMED
    for _ in range(60):
        one.host.send(Command(SESSION, observation.tick, 5.0), Heartbeat(0, observation.tick))
        observation = one.host.wait(Observation)
        assert observation.state == State.UNHOMED
    rows = one.end()
    assert rows["enable"][tick - 2] == Enable.DRIVE
    assert not rows["enable"][tick - 1 :].any()


# ---- Refused and counted, stops only by starvation -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "counter"),
    [
        (lambda tick: Command(SESSION + 1, tick, 1.0), "refused"),
        (lambda tick: Heartbeat(SESSION + 1, tick), "refused"),
        (lambda tick: Command(SESSION, tick - 1, 1.0), "stale_commands"),
        (lambda tick: Command(SESSION, tick + 1, 1.0), "stale_commands"),
        (lambda tick: Arm(1, SESSION ^ 1), "refused"),
    ],
    ids=["session", "heartbeat", "stale", "future", "nonce"],
)
def test_what_is_not_meant_for_this_moment_is_refused_and_counted(device, wrong, counter):
    one = device()
    host, observation = one.host, one.drive(one.arm(), 30)
    for _ in range(10):  # beside right answers it changes nothing
        host.send(wrong(observation.tick))
        action = to_and_fro(observation.tick)
        observation = one.drive(observation, observation.tick + 1)
        assert observation.state == State.ARMED
        assert observation.applied_action == pytest.approx(action, abs=1e-4)
    tick = observation.tick
    while observation.state == State.ARMED:  # alone it starves the watchdog
        host.send(wrong(observation.tick), Heartbeat(0, observation.tick))
        observation = host.wait(Observation)
    host.send(Heartbeat(0, observation.tick))
    assert getattr(host.next_statistics(), counter) == 10 + WATCHDOG_PERIODS
    assert_starved(one, tick + WATCHDOG_PERIODS)


@pytest.mark.parametrize("action", [float("nan"), float("inf"), float("-inf"), 20.001, -1e38])
def test_an_action_that_is_no_number_in_range_is_refused_and_counted(device, action):
    one = device()
    host, observation = one.host, one.drive(one.arm(), 30)
    tick = observation.tick
    while observation.state == State.ARMED:
        host.send(Command(SESSION, observation.tick, action))  # judged, so the clock goes on
        observation = host.wait(Observation)
        assert abs(observation.applied_action) <= 15.001
    host.send(Heartbeat(0, observation.tick))
    assert host.next_statistics().refused == WATCHDOG_PERIODS
    assert_starved(one, tick + WATCHDOG_PERIODS)


def test_bit_errors_cost_single_periods_until_two_come_together(device):
    one = device()
    host, observation = one.host, one.arm()
    generator, twin = random.Random(11), FrameDecoder()
    lost = [False]
    held = 0
    while lost[-2:] != [True, True]:
        frame = bytearray(encode_frame(Command(SESSION, observation.tick, gentle(observation.tick)), 0))
        for bit in range(8 * len(frame)):
            if generator.random() < 1e-3:
                frame[bit // 8] ^= 1 << bit % 8
        data = bytes(frame) + b"\0"  # a delimiter that was hit must not take the clock's heartbeat with it
        lost.append(not twin.feed(data))
        host.write(data)
        host.send(Heartbeat(0, observation.tick))
        observation = host.wait(Observation)
        held += bool(observation.flags & ObservationFlag.HELD)
        assert bool(observation.flags & ObservationFlag.HELD) == (lost[-1] and not lost[-2])
    assert held > 2
    tick = observation.tick
    host.send(Heartbeat(0, tick))
    assert host.next_statistics().crc_errors == twin.rejected
    assert_starved(one, tick)


def test_replayed_commands_drive_nothing(device):
    one = device()
    host, observation = one.host, one.arm()
    recorded = [encode_frame(Command(SESSION, tick, 15.0), 0) for tick in range(observation.tick, 40)]
    observation = one.drive(observation, 41)
    for _ in range(5):
        host.write(b"".join(recorded))
        action = to_and_fro(observation.tick)
        observation = one.drive(observation, observation.tick + 1)
        assert observation.applied_action == pytest.approx(action, abs=1e-4)
    tick = observation.tick
    while observation.state == State.ARMED:
        host.write(b"".join(recorded))
        host.send(Heartbeat(0, observation.tick))
        observation = host.wait(Observation)
    host.send(Heartbeat(0, observation.tick))
    assert host.next_statistics().stale_commands == len(recorded) * (5 + WATCHDOG_PERIODS)
    assert_starved(one, tick + WATCHDOG_PERIODS)


def test_a_recording_of_the_run_before_a_reset_drives_nothing_although_the_host_repeats_its_number(device):
    # Ticks start again after a reset, and this host always takes the same nonce: what differs is the device's share.
    recorded, recorded_arm = {}, b""
    for boot in range(2):
        one = device()
        host = one.host
        reply = host.hello()
        first = host.wait(Observation)
        assert host.configure(Mode.HOST) == Result.OK
        host.send(Heartbeat(0, first.tick))
        host.home()
        last = host.wait(Observation)
        if boot == 0:
            recorded_arm = host.send(Arm(reply.device_nonce, 0x1234))
        else:
            host.write(recorded_arm)
            host.send(Heartbeat(0, last.tick))
            last = host.wait(Observation)
            assert (last.state, host.acknowledgements[-1].result) == (State.IDLE, Result.BAD_NONCE)
            reply = host.hello()
            host.send(Arm(reply.device_nonce, 0x1234))
        session = reply.device_nonce ^ 0x1234
        host.send(Heartbeat(session, last.tick))
        observation = host.wait(Observation)
        assert observation.state == State.ARMED
        armed_tick = observation.tick
        while boot == 0 and observation.tick < 60:
            recorded[observation.tick] = host.send(Command(session, observation.tick, 5.0))
            observation = host.wait(Observation)
        while boot == 1 and observation.state == State.ARMED:
            host.write(recorded[observation.tick])
            host.send(Heartbeat(0, observation.tick))
            observation = host.wait(Observation)
        if boot == 1:
            assert (observation.tick, observation.fault) == (armed_tick + WATCHDOG_PERIODS, Fault.WATCHDOG)
            host.send(Heartbeat(0, observation.tick))
            assert host.next_statistics().refused == 1 + WATCHDOG_PERIODS  # the ARM and the commands
            assert np.abs(one.end()["drive"]).max() < 1e-6


def test_a_replayed_config_does_not_switch_the_watchdog_off(device):
    one = device()
    host = one.host
    host.hello()
    assert host.configure(Mode.DEVICE, untethered=1) == Result.OK
    recorded = encode_frame(host.sent[-1], 7)
    observation = one.arm()  # says HELLO and CONFIG anew
    host.hello()
    host.disarm(observation)
    host.hello()
    assert host.configure(Mode.HOST) == Result.OK
    host.write(recorded)
    assert host.request(arm_message(host.reply)) == Result.OK
    assert [reply.result for reply in host.acknowledgements[-2:]] == [Result.BAD_NONCE, Result.OK]
    while host.observations[-1].state != State.ARMED:
        host.idle()
    tick = host.observations[-1].tick
    while host.idle().state == State.ARMED:
        pass
    assert host.observations[-1].fault == Fault.WATCHDOG
    assert host.observations[-1].tick == tick + WATCHDOG_PERIODS


def test_a_replayed_arm_arms_nothing(device):
    one = device()
    host = one.host
    observation = one.drive(one.arm(), 30)
    [recorded] = [encode_frame(message, 7) for message in host.sent if isinstance(message, Arm)]
    host.write(recorded)  # while ARMED: neither a new session nor the end of this one
    observation = one.drive(observation, 35)
    assert (observation.state, host.acknowledgements[-1].result) == (State.ARMED, Result.BAD_NONCE)
    host.disarm(observation)
    for _ in range(3):
        observation = host.wait(Observation)
        host.write(recorded)
        host.send(Heartbeat(0, observation.tick))
    assert host.wait(Observation).state == State.IDLE
    host.send(Heartbeat(0, host.observations[-1].tick))
    assert host.acknowledgements[-1].result == Result.BAD_NONCE
    assert host.next_statistics().refused == 4


# ---- Never arms ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "result"),
    [
        ("reference-lost@1", Result.NOT_HOMED),
        ("e-stop@15", Result.INPUT_OPEN),
        ("end-left@15", Result.INPUT_OPEN),
        ("end-right@15", Result.INPUT_OPEN),
        ("drive-fault@15", Result.INPUT_OPEN),
    ],
)
def test_arm_is_refused_for_as_long_as_the_cause_is_there(device, fault, result):
    one = device(f"{fault}:60")
    host = one.host
    host.hello()
    assert host.configure(Mode.HOST) == Result.OK
    while host.idle().tick < 55:
        pass
    for _ in range(3):
        assert host.request(arm_message(host.hello())) == result
        assert host.idle().state in (State.UNHOMED, State.IDLE)
    while host.idle().tick < 75 or not host.observations[-1].flags & ObservationFlag.HOMED:
        pass
    assert host.request(arm_message(host.hello())) == Result.OK


def test_an_input_that_opens_between_arm_and_the_next_tick_never_switches_the_drive_on(device):
    one = device("e-stop@20")
    host = one.host
    reply = host.hello()
    assert host.configure(Mode.HOST) == Result.OK
    while host.idle().tick < 18:
        pass
    assert host.wait(Observation).tick == 19
    assert host.request(arm_message(reply)) == Result.OK
    host.send(Heartbeat(0, 19))
    observation = host.wait(Observation)
    assert (observation.state, observation.fault) == (State.OFF, Fault.E_STOP)
    host.send(Heartbeat(0, 20))
    host.idle()
    assert not one.end()["enable"].any()


@pytest.mark.parametrize(
    ("other", "text"),
    [({"digest": "12" * 32}, rf"policy digest differs.*{FIXTURE_DIGEST}"), ({"period_us": 10_000}, "control period")],
)
def test_the_bridge_refuses_an_image_of_another_policy_or_period(device, other, text):
    # The image itself refuses a policy of another period when it is compiled: test_process.py.
    one = device()
    reply = one.host.hello()
    policy = SimpleNamespace(action_low=np.array([-20.0]), action_high=np.array([20.0]))
    ours = {"directory": "policy", "digest": FIXTURE_DIGEST, "period_us": 20_000, "base_size": 5, "history": 5}
    check_identity(reply, SimpleNamespace(policy=policy, **ours), None)
    with pytest.raises(MismatchError, match=text):
        check_identity(reply, SimpleNamespace(policy=policy, **{**ours, **other}), None)


# One flipped bit anywhere in the flash (ARM: IMAGE_DAMAGED, and no ACTUATE at all) needs a chip, too. What the state
# machine makes of a damaged image: `hostile_stream BYTES damaged` in test_fuzz.py.


# ---- No effect -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [Mode.HOST, Mode.DEVICE])
def test_the_wrap_of_the_microsecond_counter_has_no_effect(device, mode):
    one = device()
    host, observation = one.host, one.arm(mode)
    while observation.tick < 560:
        if mode == Mode.HOST:
            host.send(Command(SESSION, observation.tick, gentle(observation.tick)))
        else:
            host.send(Heartbeat(SESSION, observation.tick))
        observation = host.wait(Observation)
        assert observation.state == State.ARMED
        assert not observation.flags & ObservationFlag.HELD
    times = [seen.time_us for seen in host.observations]
    assert times[0] == CLOCK_START_US + CART_RAIL.period_us
    assert {(after - before) % 2**32 for before, after in itertools.pairwise(times)} == {CART_RAIL.period_us}
    assert min(times) < times[0]  # it wrapped
    ages = [timing.action_age_us for timing in host.timings]
    first = next(index for index, age in enumerate(ages) if age != NO_TIME_US)
    assert set(ages[:first]) == {NO_TIME_US}
    assert set(ages[first:]) == {CART_RAIL.period_us}


def test_the_age_of_a_held_action_grows(device):
    one = device()
    host, observation = one.host, one.drive(one.arm(), 30)
    host.send(Heartbeat(SESSION, observation.tick))
    observation = one.drive(host.wait(Observation), 34)
    host.send(Heartbeat(SESSION, observation.tick))
    host.wait(Observation)
    ages = {timing.tick: timing.action_age_us for timing in host.timings}
    assert [ages[tick] for tick in (30, 31, 32)] == [20_000, 40_000, 20_000]
    responses = {timing.tick: timing.response_us for timing in host.timings}
    assert [responses[tick] == NO_TIME_US for tick in (30, 31, 32)] == [False, True, False]


def answer(mode, tick, session=SESSION):
    return Command(session, tick, 0.0) if mode == Mode.HOST else Heartbeat(session, tick)


def answers_without_effect(mode, tick):
    """Sets of messages that let time go on in lock-step, none of which is an answer in `mode`."""
    time_goes_on = Heartbeat(0, tick)
    foreign, late = answer(mode, tick, SESSION + 1), answer(mode, tick - 1)
    other_kind = answer(Mode.DEVICE if mode == Mode.HOST else Mode.HOST, tick)
    return [(time_goes_on,), (foreign, time_goes_on), (late, time_goes_on), (other_kind,)]


@pytest.mark.parametrize("mode", list(Mode))
def test_the_answer_that_feeds_the_watchdog_is_timed_and_nothing_else(device, mode):
    one = device()
    host, observation = one.host, one.arm(mode)
    armed_tick = observation.tick
    for without_effect in range(len(answers_without_effect(mode, 0))):
        host.send(answer(mode, observation.tick))
        observation = host.wait(Observation)
        host.send(*answers_without_effect(mode, observation.tick)[without_effect])
        observation = host.wait(Observation)
        assert observation.state == State.ARMED
    end_tick = observation.tick
    # Of this session and for the running tick, but nothing is armed any more.
    host.send(disarm_message(SESSION), answer(mode, end_tick))
    for _ in range(3):
        observation = host.wait(Observation)
        assert observation.state != State.ARMED
        host.send(answer(mode, observation.tick))
    host.wait(Observation)
    timed = {timing.tick for timing in host.timings if timing.response_us != NO_TIME_US}
    assert timed == set(range(armed_tick + 1, end_tick, 2))
