"""The JSON of a run, from what a connection has counted."""

import dataclasses

from firmware_bridge.config import Run
from firmware_bridge.loop.policy_folder import open_policy_folder
from firmware_bridge.session import Session
from firmware_bridge.session_result import session_result
from hardware.protocol import Observation, State

LAST_NS = 3_000_000_000


def test_clock_sync_is_as_of_the_last_observation(policy_folder, tmp_path):
    """However late it is asked for: after braking, or hours of other connections, the same."""
    config = Run(port="/dev/ttyX", policy=policy_folder, log=tmp_path)
    session = Session(config, open_policy_folder(policy_folder), None, 1, 50)
    clock = session.tally.clock
    clock.add(1_000_000, 2_000_100_000, 2_000_200_000, 1_000_300)
    session.tally.observe(Observation(7, 0, (0.0,) * 5, (0.0,) * 5, 0.0, State.ARMED, 0, 1), LAST_NS)
    told = session_result(session, None, None, 1.0)["clock_sync"]
    assert told == dataclasses.asdict(clock.estimate(LAST_NS))
    assert told["uncertainty_ns"] < 1_000_000
