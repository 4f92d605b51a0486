"""The verb `identify`: who answers on a port, and whether it runs the policy it should."""

import dataclasses
from pathlib import Path
from typing import Any

from firmware_bridge.config import Identify
from firmware_bridge.device.conversation import Conversation
from firmware_bridge.device.handshake import check_identity, greet
from firmware_bridge.errors import LinkError
from firmware_bridge.logs.recorder import Recorder
from firmware_bridge.loop.policy_folder import open_policy_folder
from firmware_bridge.ports.link import open_link
from firmware_bridge.ports.port_name import simulated_board
from hardware.codec import name_of
from hardware.protocol import ResetCause, Variant


def identify(config: Identify) -> dict[str, Any]:
    """Ask; nothing is armed or configured. Raises BridgeError, also where the device has another policy than given."""
    if simulated_board(config.port) is not None:
        raise LinkError(
            f"port {config.port!r}: a simulated device lives as long as its run only, expected a port that is there; "
            "see who it is in the log of that run, or name the --link of `python -m hardware simulate`"
        )
    folder = open_policy_folder(config.policy) if config.policy is not None else None
    link = open_link(config.port, config.baudrate)
    try:
        reply = greet(Conversation(link, Recorder(Path("unused"), capacity_bytes=0)))
    finally:
        link.close()
    if folder is not None:
        check_identity(reply, folder, link.baudrate)
    told = dataclasses.asdict(reply)
    return {
        "port": config.port,
        "board": reply.board,
        "variant": name_of(Variant, reply.variant),
        "reset_cause": name_of(ResetCause, reply.reset_cause),
        "policy_digest": reply.policy_digest.hex(),
        "policy_is_the_given_one": None if folder is None else True,
        **{key: told[key] for key in ("protocol_version", "schema_hash", "period_us", "history", "acceleration_limit")},
    }


def print_identity(result: dict[str, Any]) -> None:
    """The answer as a table."""
    from firmware_bridge.reports.tables import console, two_columns

    console().print(two_columns("device", [(key.replace("_", " "), str(value)) for key, value in result.items()]))
