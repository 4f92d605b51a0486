"""Scripted sensor faults: what `--inject` takes, and what becomes of SENSORS."""

import re

import pytest

from hardware.errors import SimulatorError
from hardware.faults import KINDS, FaultInjector, ScriptedFault, parse_fault
from hardware.protocol import SensorFlag, Sensors

REFERENCED = int(SensorFlag.REFERENCED)


def played(*faults, ticks=range(1, 7)):
    """What a device is told by a plant whose cart counts the ticks and whose rod counts them backwards."""
    injector = FaultInjector([parse_fault(fault) for fault in faults])
    return [injector.apply(Sensors(tick, 0, tick, -tick, REFERENCED)) for tick in ticks]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("e-stop@7", ScriptedFault("e-stop", 7)),
        ("end-left@1:3", ScriptedFault("end-left", 1, 3)),
        ("encoder-jump-rod=-40@9:1", ScriptedFault("encoder-jump-rod", 9, 1, -40)),
        ("encoder-jump-cart@9", ScriptedFault("encoder-jump-cart", 9, None, 1000)),
    ],
)
def test_the_script_is_read(text, fault):
    assert parse_fault(text) == fault


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("e-stip@3", "unknown kind 'e-stip', expected one of " + ", ".join(KINDS)),
        ("e-stop", "expected KIND[=SIZE]@TICK[:PERIODS]"),
        ("e-stop@\u0663", "expected KIND[=SIZE]@TICK[:PERIODS]"),
        ("e-stop@12345678901", "numbers of ten digits at most"),
        ("e-stop@", "expected KIND[=SIZE]@TICK[:PERIODS]"),
        ("e-stop@3:", "expected KIND[=SIZE]@TICK[:PERIODS]"),
        ("e-stop@-3", "expected KIND[=SIZE]@TICK[:PERIODS]"),
        ("e-stop=4@3", "expected one only for encoder-jump-cart and encoder-jump-rod"),
        ("e-stop@0", "expected a tick from 1 on"),
        ("e-stop@3:0", "at least one period"),
        ("encoder-jump-rod=2147483648@3", "a size that fits 32 bits"),
    ],
)
def test_what_is_no_fault_is_refused_in_one_line(text, expected):
    with pytest.raises(SimulatorError, match=re.escape(expected)) as caught:
        parse_fault(text)
    assert str(caught.value).startswith(f"--inject {text!r}")
    assert "\n" not in str(caught.value)


def test_every_kind_does_what_it_says_for_as_long_as_it_says():
    healthy = played()
    for kind in KINDS:
        told = played(f"{kind}@3:2")
        assert [told[index] == healthy[index] for index in range(6)] == [True, True, False, False, True, True], kind
        assert [seen.tick for seen in told] == list(range(1, 7))


def test_frozen_encoders_hold_their_last_count_and_jumps_stay():
    assert [seen.cart_count for seen in played("encoder-frozen-cart@3")] == [1, 2, 2, 2, 2, 2]
    assert [seen.rod_count for seen in played("encoder-frozen-rod@1")] == [-1] * 6
    assert [seen.cart_count for seen in played("encoder-jump-cart=10@5")] == [1, 2, 3, 4, 15, 16]
    assert played("encoder-jump-cart=2147483647@1", ticks=[1])[0].cart_count == -(2**31)  # wraps as a counter does


def test_several_faults_act_together():
    told = played("e-stop@2", "reference-lost@3", "encoder-frozen-rod@2")
    assert [seen.flags for seen in told[:3]] == [1, 1 | SensorFlag.EMERGENCY_STOP, SensorFlag.EMERGENCY_STOP]
    assert told[-1].rod_count == -1


def test_thousands_of_digits_are_one_short_line():
    """Python refuses to convert so many, with an error of its own."""
    with pytest.raises(SimulatorError, match="numbers of ten digits at most") as caught:
        parse_fault("e-stop@" + 5000 * "9")
    assert len(str(caught.value)) < 600
