"""`identify`: the device's answer, and a policy that is not the device's."""

import pytest
from fake_device import FakeDevice

from firmware_bridge.config import Identify
from firmware_bridge.device.identify import identify
from firmware_bridge.errors import LinkError, MismatchError, NoReplyError
from firmware_bridge.loop.policy_folder import open_policy_folder
from hardware.protocol import Arm, Config


def test_the_device_says_who_it_is_and_nothing_is_armed(policy_folder):
    digest = open_policy_folder(policy_folder).digest
    with FakeDevice(digest) as device:
        result = identify(Identify(port=device.path, policy=policy_folder))
    assert result["policy_digest"] == digest
    assert result["policy_is_the_given_one"] is True
    assert result["reset_cause"] == "POWER_ON"
    assert not device.of_type(Arm)
    assert not device.of_type(Config)


def test_another_policy_is_an_error_that_names_both(policy_folder, make_policy):
    other = open_policy_folder(make_policy(seed=9)).digest
    with FakeDevice(other) as device, pytest.raises(MismatchError, match="policy digest differs") as caught:
        identify(Identify(port=device.path, policy=policy_folder))
    assert other in str(caught.value)


def test_silence_is_one_line(tmp_path):
    import os

    master, slave = os.openpty()
    with pytest.raises(NoReplyError, match="no HELLO_REPLY within"):
        identify(Identify(port=os.ttyname(slave)))
    os.close(master)
    os.close(slave)


@pytest.mark.parametrize("port", ["sim:", "sim:qemu", "sim:qemu:microbit"])
def test_a_simulated_device_is_no_port_to_ask(port):
    with pytest.raises(LinkError, match=rf"port '{port}': a simulated device lives as long as its run only.*--link"):
        identify(Identify(port=port))
