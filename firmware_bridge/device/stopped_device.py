"""A device that was ARMED and no longer is: what happened, and the error that says so.

A fault is in its OBSERVATION. A device that started again (brown-out, reset button, watchdog) says nothing at all until
somebody says HELLO; then its ticks start again, or it is unhomed without a fault, and its HELLO_REPLY has the cause.
Frames that only came late were passed over before (`observation_order`).
"""

from firmware_bridge.device.conversation import Conversation
from firmware_bridge.errors import BridgeError, DeviceFaultError, DeviceRestartedError
from hardware.codec import name_of
from hardware.protocol import MAXIMUM_WATCHDOG_PERIODS, PROTOCOL_VERSION, Fault, Hello, Observation, ResetCause, State

_LONGEST_UNANSWERED = 10 * MAXIMUM_WATCHDOG_PERIODS
"""Ticks between two observations of an ARMED device: what may be on its way behind those that its watchdog counts."""


def ask_who_is_there(conversation: Conversation) -> None:
    """Say HELLO to a silent device: one that runs is not disturbed, one that started again begins to speak."""
    conversation.send(Hello(PROTOCOL_VERSION, 0))


def stopped_error(conversation: Conversation, observation: Observation, last_tick: int) -> BridgeError | None:
    """The error for an observation that ends the run; None when the device is ARMED and its ticks go on."""
    ahead = (observation.tick - last_tick) & 0xFFFF_FFFF
    if ahead >= 0x8000_0000 or (observation.state == State.UNHOMED and observation.fault == Fault.NONE):
        return _restarted(conversation, observation, last_tick)
    if observation.state != State.ARMED:
        return _fault(observation)
    return _jumped(observation, last_tick) if ahead > _LONGEST_UNANSWERED else None


def _jumped(observation: Observation, last_tick: int) -> DeviceFaultError:
    return DeviceFaultError(
        f"the device's ticks jumped from {last_tick} to {observation.tick} while it was ARMED, expected its watchdog "
        f"to stop it after {MAXIMUM_WATCHDOG_PERIODS} periods without an answer; keep the log and flash it again"
    )


def _restarted(conversation: Conversation, observation: Observation, last_tick: int) -> DeviceRestartedError:
    reply = conversation.reply
    cause = name_of(ResetCause, reply.reset_cause) if reply is not None else "unknown"
    return DeviceRestartedError(
        f"the device started again in the middle of the run: tick {observation.tick} after {last_tick}, state "
        f"{name_of(State, observation.state)}, reset cause {cause}, expected ARMED at a later tick; "
        "it came up with the drive off; "
        f"{_CAUSES.get(reply.reset_cause if reply is not None else 0, 'look at its supply and its reset line')}, "
        "home it and run again"
    )


_CAUSES: dict[int, str] = {
    ResetCause.BROWN_OUT: "look at its supply (the motor may pull it down)",
    ResetCause.WATCHDOG: "its firmware hung: keep the log and report it",
}


def _fault(observation: Observation) -> DeviceFaultError:
    return DeviceFaultError(
        f"the device stopped the cart: fault {name_of(Fault, observation.fault)} at tick {observation.tick}, state "
        f"{name_of(State, observation.state)}, expected ARMED; {_REMEDIES.get(observation.fault, 'see the log')}"
    )


_REMEDIES: dict[int, str] = {
    Fault.WATCHDOG: "answers came too late or were lost: see latency and link counters in "
    "`python -m firmware_bridge report`",
    Fault.RAIL_END: "the cart came too near the end of the rail: centre it and run again",
    Fault.DRIVE_FAULT: "look at the drive's own fault display",
    Fault.HOMING_LOST: "the encoders lost their reference: home again",
    Fault.E_STOP: "release the emergency stop and run again",
    Fault.ENCODER_FROZEN: "the motor moved and an encoder did not: look at plug and coupling, reset the device, home",
    Fault.ENCODER_JUMP: "an encoder counted what no cart or rod can do: look at its cable, reset the device, home",
    Fault.IMAGE_DAMAGED: "a bit of its flash has changed; flash it again",
}
