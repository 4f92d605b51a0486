"""Runs that never start: another device, policy or wire than expected, and an ARM that is refused."""

import dataclasses
import math
import os
import subprocess
import sys

import pytest
from fake_device import FakeDevice, run_config

from firmware_bridge.config import Run
from firmware_bridge.device.handshake import check_identity
from firmware_bridge.errors import (
    BridgeError,
    HandshakeError,
    MismatchError,
    NoReplyError,
    RefusedError,
    StopRequested,
)
from firmware_bridge.loop.policy_folder import open_policy_folder
from firmware_bridge.run import run
from hardware.codec import SCHEMA_HASH
from hardware.framing import encode_frame
from hardware.protocol import (
    PROTOCOL_VERSION,
    Acknowledge,
    Arm,
    Disarm,
    HelloReply,
    Observation,
    Result,
)


def test_wrong_digest_names_both_and_the_remedy_and_never_arms(policy_folder, digest, tmp_path):
    with (
        FakeDevice("12" * 32) as device,
        pytest.raises(MismatchError, match=rf"1212.*{digest}.*python -m hardware build"),
    ):
        run(run_config(device, policy_folder, tmp_path))
    assert not device.of_type(Arm)
    assert not (tmp_path / "run.mcap").exists()


@pytest.mark.parametrize(
    ("option", "text"), [({"period_us": 10000}, "control period"), ({"protocol_version": 99}, "protocol version")]
)
def test_other_mismatches(option, text, digest, policy_folder, tmp_path):
    with FakeDevice(digest, **option) as device, pytest.raises(MismatchError, match=text):
        run(run_config(device, policy_folder, tmp_path))
    assert not device.of_type(Arm)


def test_wire_that_cannot_carry_the_period_is_refused_with_the_arithmetic(digest, policy_folder):
    folder = open_policy_folder(policy_folder)
    reply = HelloReply(
        *(PROTOCOL_VERSION, 1, 2, SCHEMA_HASH, 20000, 5, folder.history, bytes.fromhex(digest), "fake", 20.0, 1, 1)
    )
    # OBSERVATION 62, TIMING 21, ACTION 15 and once a second LINK_STATISTICS 23 bytes, ten bits each.
    with pytest.raises(MismatchError, match=r"121 bytes a period x 10 bits / 60000 baud = 20167 us.*20000 us"):
        check_identity(reply, folder, 60_000)
    check_identity(reply, folder, 61_000)
    check_identity(reply, folder, None)


@pytest.mark.parametrize("limit", [19.9, math.nan])
def test_policy_that_asks_for_more_than_the_device_gives_is_refused(limit, digest, policy_folder, tmp_path):
    with (
        FakeDevice(digest, acceleration_limit=limit) as device,
        pytest.raises(MismatchError, match=rf"up to 20 m/s\^2.*more than {limit:g} m/s\^2; not armed; distil"),
    ):
        run(run_config(device, policy_folder, tmp_path))
    assert not device.of_type(Arm)


def test_refused_arm_says_why(digest, policy_folder, tmp_path):
    with FakeDevice(digest, arm_result=Result.SELF_TEST_FAILED) as device, pytest.raises(RefusedError) as caught:
        run(run_config(device, policy_folder, tmp_path))
    assert "SELF_TEST_FAILED" in str(caught.value)
    assert device.of_type(Disarm)


@pytest.mark.parametrize("first", [Result.OK, Result.BAD_NONCE])
def test_an_arm_that_came_twice_is_no_refusal(first, digest, policy_folder, tmp_path):
    """The firmware takes the first and answers its copy with BAD_NONCE; the link may bring the answers either way."""

    def twice(since, message, frame):
        if isinstance(message, Acknowledge) and message.request_type == Arm.TYPE:
            copy = dataclasses.replace(message, result=Result.BAD_NONCE)
            answers = [message, copy] if first == Result.OK else [copy, message]
            return b"".join(encode_frame(answer, 900) for answer in answers) + frame
        return frame

    with FakeDevice(digest, mangle=twice) as device:
        outcome = run(run_config(device, policy_folder, tmp_path))
    assert outcome.error is None
    assert outcome.result["steps"] == 100


def test_refusal_of_an_arm_that_nobody_here_sent_is_no_refusal(digest, policy_folder, tmp_path):
    def foreign(since, message, frame):
        if isinstance(message, Acknowledge) and message.request_type == Arm.TYPE:
            other = Acknowledge(Arm.TYPE, message.request_sequence ^ 0x8000, Result.BAD_NONCE)
            return encode_frame(other, 900) + frame
        return frame

    with FakeDevice(digest, mangle=foreign) as device:
        outcome = run(run_config(device, policy_folder, tmp_path))
    assert outcome.error is None


def test_refused_arm_says_why_although_no_observation_follows(digest, policy_folder, tmp_path):
    refused = []

    def silent(since, message, frame):
        if isinstance(message, Acknowledge) and message.request_type == Arm.TYPE:
            refused.append(message)
        return None if refused and isinstance(message, Observation) else frame

    with (
        FakeDevice(digest, arm_result=Result.INPUT_OPEN, mangle=silent) as device,
        pytest.raises(RefusedError, match=r"INPUT_OPEN; .*emergency stop.*end switch.*motor driver"),
    ):
        run(run_config(device, policy_folder, tmp_path))
    assert len(refused) == len(device.of_type(Arm)) == 1


def test_late_answer_to_a_repeated_hello_does_not_spoil_the_nonce(digest, policy_folder, tmp_path):
    late = []

    def delay_first_reply(since, message, frame):
        if isinstance(message, HelloReply) and not late:
            late.append(frame)
            return None
        return late[0] + frame if isinstance(message, HelloReply) else frame

    with FakeDevice(digest, mangle=delay_first_reply) as device:
        outcome = run(run_config(device, policy_folder, tmp_path))
    assert outcome.error is None
    assert device.nonce == 79


def test_device_that_is_never_homed(digest, policy_folder, tmp_path):
    with FakeDevice(digest, homed_at=10**9) as device, pytest.raises(HandshakeError, match="homed"):
        run(run_config(device, policy_folder, tmp_path, homing_timeout_s=1.0))
    assert not device.of_type(Arm)


def test_silent_port_and_port_with_another_language(policy_folder, tmp_path, monkeypatch):
    monkeypatch.setattr("firmware_bridge.device.handshake.HELLO_TIMEOUT_S", 0.3)
    monkeypatch.setattr("firmware_bridge.run.greet", lambda conversation: _greet(conversation, 0.3))
    master, slave = os.openpty()
    config = Run(port=os.ttyname(slave), policy=policy_folder, log=tmp_path)
    with pytest.raises(NoReplyError, match="0 bytes came"):
        run(config)
    os.close(master)
    os.close(slave)
    garbage = FakeDevice("00" * 32, mangle=lambda since, message, frame: frame[:3] + b"\x77\x77" + frame[5:])
    with garbage, pytest.raises(NoReplyError, match="0 with a valid checksum"):
        run(run_config(garbage, policy_folder, tmp_path))


def _greet(conversation, timeout_s):
    from firmware_bridge.device.handshake import greet

    return greet(conversation, timeout_s)


def test_policy_folder_complaints(policy_folder, make_policy, tmp_path):
    with pytest.raises(BridgeError, match="no such folder"):
        open_policy_folder(tmp_path / "nowhere")
    with pytest.raises(BridgeError, match="no such file"):
        open_policy_folder(tmp_path)
    other = make_policy(seed=2)
    header = (policy_folder / "policy.h").read_bytes()
    (other / "policy.h").write_bytes(header)
    with pytest.raises(BridgeError, match=r"made from another policy\.safetensors"):
        open_policy_folder(other)


def test_stop_requested_leaves_no_traceback_for_usage_errors():
    done = subprocess.run([sys.executable, "-m", "firmware_bridge", "run"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert issubclass(StopRequested, KeyboardInterrupt)
