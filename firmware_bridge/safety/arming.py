"""The last step before the drive may be switched on: homed, and somebody has asked for it."""

import os

from firmware_bridge import notices
from firmware_bridge.device.conversation import Conversation
from firmware_bridge.device.handshake import Limits, next_observation
from firmware_bridge.supervisor import Supervisor
from hardware.protocol import ObservationFlag, State


def wait_for_arm(conversation: Conversation, supervisor: Supervisor, limits: Limits) -> bool:
    """Keep a homed device company until somebody asks `controls` to arm it: True. False when it is no longer homed.

    However long that takes. Raises LinkLostError (it fell silent: unplugged, or started again), RecorderError,
    StopRequested.
    """
    supervisor.controls.await_arm(True)
    notices.say(
        "homed and disarmed; arm it with Enter on the terminal, from the live page, or with "
        f"`kill -USR1 {os.getpid()}`; any other key stops"
    )
    try:
        while not supervisor.controls.arm_requested:
            observation = next_observation(conversation, limits)
            if not (observation.flags & ObservationFlag.HOMED and observation.state == State.IDLE):
                return False
        return True
    finally:
        supervisor.controls.await_arm(False)
