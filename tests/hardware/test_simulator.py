"""Whole runs: the real firmware, the MuJoCo plant and a small host that speaks the protocol, in lock-step."""

import ctypes
import itertools

import numpy as np
import pytest
from conftest import FIXTURE_DIGEST, write_policy
from pendulum_host import SESSION, Host, Simulation, arm_message, disarm_message
from safetensors.numpy import load_file

from hardware.codec import SCHEMA_HASH
from hardware.drive import DriveLimit
from hardware.environment import CartRailEnvironment
from hardware.observe import Observer
from hardware.plants.cart_rail import CART_RAIL
from hardware.protocol import (
    Command,
    Enable,
    Fault,
    Heartbeat,
    Hello,
    Mode,
    Observation,
    ObservationFlag,
    Result,
    State,
)


@pytest.fixture(scope="session")
def python_policy(policy_folder, tmp_path_factory):
    """The test policy as a function of an observation, computed by the same C as in the firmware."""
    from conftest import compile_program

    folder = tmp_path_factory.mktemp("python_policy")
    source = folder / "policy.c"
    source.write_text(
        '#include "policy.h"\n'
        "static policy_state_t state;\n"
        "void reset(void) { policy_reset(&state); }\n"
        "float step(const float *base) { float action[1]; policy_step(&state, base, action); return action[0]; }\n"
    )
    flags = ("-shared", "-fPIC", "-I", str(policy_folder))
    library = ctypes.CDLL(str(compile_program(folder / "policy.so", [source], sanitize=False, flags=flags)))
    library.step.restype = ctypes.c_float
    return library


def balance(host: Host, observation: Observation, policy, steps: int) -> Observation:
    """Answer `steps` observations from the host; the one after them."""
    policy.reset()
    for _ in range(steps):
        host.send(Command(SESSION, observation.tick, policy.step((ctypes.c_float * 5)(*observation.current))))
        observation = host.wait(Observation)
    return observation


def watch(host: Host, observation: Observation, steps: int) -> Observation:
    """Only send heartbeats."""
    for _ in range(steps):
        host.send(Heartbeat(SESSION, observation.tick))
        observation = host.wait(Observation)
    return observation


def run(image, folder, mode: Mode, policy, steps=300) -> tuple[dict, Host, dict]:
    file = folder / f"{mode.name}.safetensors"
    simulation = Simulation(image, folder, "--clock", "lockstep", "--trajectory", str(file))
    host = Host(simulation.link)
    observation = host.arm(mode)
    observation = balance(host, observation, policy, steps) if mode == Mode.HOST else watch(host, observation, steps)
    assert observation.state == State.ARMED
    assert host.disarm(observation)[-1].state == State.IDLE
    host.close()
    return simulation.end(), host, load_file(file)


@pytest.fixture(scope="module")
def runs(image, python_policy, tmp_path_factory):
    """One run per mode."""
    return {mode: run(image, tmp_path_factory.mktemp("run"), mode, python_policy) for mode in Mode}


def test_every_run_is_clean(runs):
    for result, host, _ in runs.values():
        assert result["missed_exchanges"] == 0
        assert result["enabled_steps"] > 300
        assert host.decoder.rejected == 0
        assert not host.faults
        assert all(s.crc_errors == s.lost == s.stale_commands == s.refused == 0 for s in host.statistics)
        assert [o.tick for o in host.observations] == list(range(1, len(host.observations) + 1))


def test_host_device_and_shadow_mode_give_the_same_trajectory(runs):
    # The test policy swings the rod, so this is a statement about 300 different actions.
    assert np.abs(runs[Mode.HOST][2]["drive"][:, 0]).max() > 1.0
    assert len({result["trajectory_sha256"] for result, _, _ in runs.values()}) == 1


def test_the_drive_is_off_then_driven_then_braked_then_off(runs):
    for _, host, rows in runs.values():
        enable = list(rows["enable"])
        changes = [enable[0]] + [now for before, now in itertools.pairwise(enable) if now != before]
        assert changes == [Enable.OFF, Enable.DRIVE, Enable.BRAKE, Enable.OFF]
        states = [State.OFF if o.state in (State.UNHOMED, State.IDLE) else o.state for o in host.observations]
        of_state = {State.OFF: Enable.OFF, State.ARMED: Enable.DRIVE, State.BRAKING: Enable.BRAKE}
        seen = min(len(states), len(enable))
        assert [of_state[state] for state in states[:seen]] == enable[:seen]


def test_the_same_run_twice_gives_the_same_bits(runs, image, python_policy, tmp_path):
    again, host, rows = run(image, tmp_path, Mode.HOST, python_policy)
    result, first, first_rows = runs[Mode.HOST]
    assert again["trajectory_sha256"] == result["trajectory_sha256"]
    assert host.observations == first.observations
    seen = len(host.observations) - 1  # the tick after the last heartbeat races with the request to end
    for name in ("counts", "drive", "enable", "state"):
        np.testing.assert_array_equal(rows[name][:seen], first_rows[name][:seen])


def test_device_reports_each_action_and_latches_it_at_the_next_boundary(runs):
    _, host, _ = runs[Mode.DEVICE]
    applied = {o.tick: o for o in host.observations}
    checked = 0
    for action in host.actions:
        after = applied[action.observation_tick + 1]
        if after.state == State.ARMED and not after.flags & ObservationFlag.LIMITED:
            assert after.applied_action == pytest.approx(action.action, abs=0.001)
            checked += 1
    assert checked > 100
    assert not runs[Mode.HOST][1].actions


def test_firmware_observes_and_limits_as_the_environment_does(runs):
    # The environment's Python and the firmware's C, from the same counts and commands: the same bits.
    _, host, rows = runs[Mode.HOST]
    commanded = {message.observation_tick: message.action for message in host.sent if isinstance(message, Command)}
    driven = 0
    observer, drive = Observer(), DriveLimit()
    observer.reset(*map(int, rows["counts"][0]))
    for observation, counts, order, enable in zip(
        host.observations, rows["counts"], rows["drive"], rows["enable"], strict=False
    ):
        frame = observer.observe(int(counts[0]), int(counts[1]))
        assert tuple(map(float, frame)) == observation.current
        assert np.float32(observation.applied_action) == order[0]
        if enable == Enable.DRIVE:
            action = np.float32(commanded.get(observation.tick - 1, 0.0))  # nothing is commanded before arming
            assert drive.latch(action, frame[0]) == order[0]
            assert drive.velocity_setpoint == order[1]
            driven += 1
    assert driven == len(commanded) + 1


def test_the_environment_and_the_firmware_move_the_plant_alike(image, tmp_path):
    # The same actions, decided beforehand, through both ways round: the delay from an observation to the boundary where
    # its answer takes effect, the drive's limits and the plant must be the same ones.
    generator = np.random.default_rng(4)
    blocks = np.repeat(generator.choice([-30.0, -20.0, 20.0, 45.0], 16), generator.integers(3, 11, 16))
    actions = np.concatenate([generator.uniform(-12.0, 12.0, 100), blocks, np.zeros(100)])[:200].astype(np.float32)
    environment = CartRailEnvironment(start="rest")
    environment.reset(seed=0)
    expected = [(environment.plant.cart_count, environment.plant.rod_count)]
    for action in actions:
        _, _, terminated, _, _ = environment.step(np.array([action]))
        assert not terminated
        expected.append((environment.plant.cart_count, environment.plant.rod_count))

    file = tmp_path / "trajectory.safetensors"
    simulation = Simulation(image, tmp_path, "--clock", "lockstep", "--trajectory", str(file))
    host = Host(simulation.link)
    observation = host.arm(Mode.HOST)
    limit = CART_RAIL.acceleration_limit_m_s2
    for action in actions:
        # The device refuses what the environment clips: a policy's squash keeps its actions inside.
        host.send(Command(SESSION, observation.tick, float(np.clip(action, -limit, limit))))
        observation = host.wait(Observation)
        assert observation.state == State.ARMED
    host.disarm(observation)
    host.close()
    simulation.end()
    rows = load_file(file)
    first = int(np.argmax(rows["enable"] == Enable.DRIVE))
    measured = [tuple(map(int, counts)) for counts in rows["counts"][first : first + len(expected)]]
    assert measured == expected
    assert np.ptp([count for count, _ in expected]) > 0.5 * CART_RAIL.cart_counts_per_metre
    limited = sum(bool(o.flags & ObservationFlag.LIMITED) for o in host.observations if o.state == State.ARMED)
    assert 10 < limited < 150


def test_hello_reply_names_the_image(host):
    reply = host.hello()
    assert reply.policy_digest.hex() == FIXTURE_DIGEST
    assert (reply.schema_hash, reply.period_us) == (SCHEMA_HASH, CART_RAIL.period_us)
    assert (reply.base_observation_size, reply.history, reply.board) == (5, 5, "host")
    assert (reply.host_nonce, reply.acceleration_limit) == (77, 20.0)
    assert host.hello().device_nonce != reply.device_nonce


def test_device_is_silent_until_greeted(host):
    host.send(Heartbeat(0, 0))  # starts the clock of lock-step
    host.write(b"noise\0")
    host.send(Heartbeat(0, 1), Hello(1, 5))
    assert host.receive().host_nonce == 5


def test_an_answer_missing_once_is_held_and_twice_brakes(simulation, host):
    observation = host.arm(Mode.HOST)
    host.send(Command(SESSION, observation.tick, 5.0))
    observation = host.wait(Observation)
    assert observation.applied_action == pytest.approx(5.0, abs=1e-4)
    # A heartbeat keeps the clock going but is no answer in host mode.
    host.send(Heartbeat(SESSION, observation.tick))
    held = host.wait(Observation)
    assert held.flags & ObservationFlag.HELD
    assert held.applied_action == pytest.approx(5.0, abs=1e-4)
    host.send(Heartbeat(SESSION, held.tick))
    seen = [host.wait(Observation)]
    assert (seen[0].state, seen[0].fault) == (State.BRAKING, Fault.WATCHDOG)
    while seen[-1].state == State.BRAKING:
        host.send(Command(SESSION, seen[-1].tick, 5.0))  # too late: latched
        seen.append(host.wait(Observation))
    assert (seen[-1].state, seen[-1].fault) == (State.OFF, Fault.WATCHDOG)
    assert seen[0].applied_action < -1.0  # decelerates at once
    assert len(seen) <= CART_RAIL.disarm_delay_periods + 1
    assert [fault.reason for fault in host.faults] == [Fault.WATCHDOG]

    # Latched: neither time, nor a command, nor ARM brings it back.
    host.send(Command(SESSION, seen[-1].tick, 1.0))
    assert {host.idle().state for _ in range(5)} == {State.OFF}
    off = host.wait(Observation)
    assert host.request(arm_message(host.hello())) == Result.FAULT_LATCHED
    assert host.request(disarm_message()) == Result.OK
    host.send(Heartbeat(SESSION, off.tick))
    off = host.wait(Observation)
    assert (off.state, off.fault) == (State.IDLE, Fault.NONE)
    assert host.request(arm_message(host.hello())) == Result.OK
    host.send(Heartbeat(0, off.tick))
    assert host.wait(Observation).state == State.ARMED


def test_disarm_while_braking_hides_no_fault(host):
    observation = host.arm(Mode.HOST)
    for _ in range(5):
        host.send(Command(SESSION, observation.tick, 10.0))
        observation = host.wait(Observation)
    while observation.state == State.ARMED:  # starve the watchdog at full speed
        host.send(Heartbeat(SESSION, observation.tick))
        observation = host.wait(Observation)
    assert observation.state == State.BRAKING
    seen = host.disarm(observation)
    assert {o.fault for o in seen} == {Fault.WATCHDOG}
    assert [o.state for o in seen] == [State.BRAKING] * (len(seen) - 1) + [State.OFF]
    assert len(seen) > 1
    off = host.wait(Observation)
    assert host.request(disarm_message()) == Result.OK
    host.send(Heartbeat(0, off.tick))
    off = host.wait(Observation)
    assert (off.state, off.fault) == (State.IDLE, Fault.NONE)


def test_disarm_brakes_and_then_switches_off(simulation, host):
    observation = host.arm(Mode.HOST)
    for _ in range(5):
        host.send(Command(SESSION, observation.tick, 10.0))
        observation = host.wait(Observation)
    seen = host.disarm(observation)
    assert [o.state for o in seen[:3]] == [State.BRAKING] * 3
    assert (seen[-1].state, seen[-1].fault) == (State.IDLE, Fault.NONE)
    braking = [o.applied_action for o in seen if o.state == State.BRAKING]
    assert min(braking) == pytest.approx(-CART_RAIL.brake_acceleration_m_s2, abs=1e-3)
    assert all(action <= 0.001 for action in braking)  # never accelerates
    assert not host.faults


def test_device_mode_stops_without_heartbeats_and_runs_on_untethered(host):
    observation = host.arm(Mode.DEVICE)
    host.send(Heartbeat(0, observation.tick))  # keeps the clock going, is no sign of life of this session
    observation = host.wait(Observation)
    host.send(Heartbeat(0, observation.tick))
    observation = host.wait(Observation)
    assert (observation.state, observation.fault) == (State.BRAKING, Fault.WATCHDOG)
    host.send(Heartbeat(0, observation.tick))
    while host.idle().state != State.OFF:
        pass
    assert host.request(disarm_message()) == Result.OK
    host.hello()
    assert host.configure(Mode.DEVICE, untethered=1) == Result.OK
    assert host.request(arm_message(host.hello())) == Result.OK
    assert {host.idle().state for _ in range(20)} >= {State.ARMED}
    assert host.observations[-1].state == State.ARMED


def test_the_rail_end_is_never_reached_by_full_commands(host):
    observation = host.arm(Mode.HOST)
    limited = 0
    for _ in range(120):
        host.send(Command(SESSION, observation.tick, 20.0))
        observation = host.wait(Observation)
        limited += bool(observation.flags & ObservationFlag.LIMITED)
    assert observation.state == State.ARMED
    assert limited > 50
    assert 0.6 < observation.current[0] < CART_RAIL.rail_limit_m


def test_failed_self_test_never_arms(tmp_path):
    from hardware.build import build

    image = build(write_policy(tmp_path / "policy", self_test=3), tmp_path).path
    simulation = Simulation(image, tmp_path, "--clock", "lockstep")
    host = Host(simulation.link)
    reply = host.hello()
    assert host.configure(Mode.HOST) == Result.OK
    host.home()
    assert not host.observations[-1].flags & ObservationFlag.SELF_TEST_OK
    assert host.request(arm_message(reply)) == Result.SELF_TEST_FAILED
    host.close()
    assert simulation.end()["enabled_steps"] == 0


def test_a_policy_that_is_not_finite_stops(tmp_path):
    from hardware.build import build

    image = build(write_policy(tmp_path / "policy", rule="sum > -1e9f ? 0.0f / (sum - sum) : sum"), tmp_path).path
    simulation = Simulation(image, tmp_path, "--clock", "lockstep")
    host = Host(simulation.link)
    observation = host.arm(Mode.DEVICE)
    # The device has stopped by now, but says so at the next boundary: a DISARM in between must not blot it out.
    assert host.disarm(observation)[-1].state == State.OFF
    assert [(fault.reason, fault.tick) for fault in host.faults] == [(Fault.POLICY_NOT_FINITE, observation.tick)]
    host.close()
    simulation.end()
