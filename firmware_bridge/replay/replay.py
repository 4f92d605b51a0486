"""The verb `replay`: a log through the parser and the policy again; the first difference, if there is one."""

import dataclasses
from typing import Any

from firmware_bridge.config import Replay
from firmware_bridge.errors import LogError, MismatchError
from firmware_bridge.logs import topics as log_topics
from firmware_bridge.logs.columns import known_fields, require
from firmware_bridge.logs.read_log import LogReader, text_in
from firmware_bridge.logs.read_progress import with_progress
from firmware_bridge.loop.host_policy import open_backend
from firmware_bridge.loop.policy_folder import open_policy_folder
from firmware_bridge.replay.frames import Difference, FrameReplay
from firmware_bridge.replay.policy import PolicyReplay
from hardware.codec import SCHEMA_HASH
from hardware.protocol import BASE_OBSERVATION_SIZE

UNLIKE_TOLERANCE = 1e-5
"""Share of the action range by which two kinds of arithmetic may differ (other backend, other processor)."""
_SAME_BITS = {"c", "csr"}

_TOPICS = (
    *(topic.name for topic in log_topics.MESSAGE_TOPICS.values()),
    *(topic.name for topic in (log_topics.RAW_RECEIVED, log_topics.RAW_SENT, log_topics.LINK_ERRORS)),
    *(topic.name for topic in (log_topics.DROPPED, log_topics.HOST_ACTION)),
)


def replay(config: Replay) -> dict[str, Any]:
    """Replay the log; its result has `difference`, None when everything is as it was.

    Raises LogError, HostPolicyError, MismatchError (the log is of another policy or another protocol).
    """
    reader = LogReader(config.log, _TOPICS)
    if reader.session.get("schema_hash") != SCHEMA_HASH:
        raise MismatchError(
            f"log {reader.path}: its messages have schema {reader.session.get('schema_hash')}, this version's have "
            f"{SCHEMA_HASH}; replay it with the version of this package that wrote it"
        )
    from_start = reader.session.get("part", 0) == 0
    frames = FrameReplay(from_start)
    policy, backend_name = _policy(config, reader, from_start)
    difference: Difference | None = None
    known: set[str] = set()
    for record in with_progress(reader, "replaying"):
        if record.topic not in known:
            known.add(record.topic)
            require(record.topic, reader.fields.get(record.topic), known_fields(record.topic), reader.path)
        try:
            difference = frames.add(record) or (policy.add(record) if policy is not None else None)
        except OverflowError as error:
            raise LogError(
                f"log {reader.path}: a record of {record.topic} holds a number that the wire cannot carry ({error}), "
                "expected float32; record it again"
            ) from error
        if difference is not None:
            break
    else:
        if reader.damaged:
            difference = Difference("file", None, "bytes", reader.cut, "undamaged chunks")
        difference = difference or frames.finish(cut=not reader.complete)
    return {
        "log": str(reader.path),
        "parts": len(reader.parts),
        "complete": reader.complete,
        "cut": reader.cut,
        "frames_received": frames.received.compared,
        "frames_sent": frames.sent.compared,
        "frames_skipped": frames.received.skipped + frames.sent.skipped,
        "errors_compared": frames.errors_compared,
        "backend": backend_name,
        "host_actions": policy.compared["/host_action"] if policy is not None else 0,
        "device_actions": policy.compared["/action"] if policy is not None else 0,
        "actions_skipped": policy.skipped if policy is not None else 0,
        "largest_difference": max(policy.largest.values()) if policy is not None else None,
        "difference": dataclasses.asdict(difference) if difference is not None else None,
    }


def print_replay(result: dict[str, Any]) -> None:
    """The result as a table."""
    from firmware_bridge.reports.tables import console, two_columns

    cut = "" if result["complete"] else f", cut off ({result['cut']})"
    rows = [
        ("log", f"{result['parts']} file(s){cut}"),
        ("frames received, the same", f"{result['frames_received']:,}"),
        ("frames sent, the same", f"{result['frames_sent']:,}"),
        ("counts of link errors, the same", f"{result['errors_compared']:,}"),
    ]
    if result["frames_skipped"] or result["actions_skipped"]:
        text = f"{result['frames_skipped']:,} frames, {result['actions_skipped']:,} actions (the log has a hole there)"
        rows.append(("not compared", text))
    if result["backend"]:
        rows.append(("host's actions, the same", f"{result['host_actions']:,} ({result['backend']})"))
        rows.append(("device's actions, the same", f"{result['device_actions']:,}"))
        rows.append(("largest difference of an action", f"{result['largest_difference']:.3g} m/s^2"))
    difference = result["difference"]
    if difference is None:
        rows.append(("difference", "none"))
    else:
        tick = "" if difference["tick"] is None else f", tick {difference['tick']}"
        rows.append(("FIRST DIFFERENCE", f"{difference['where']}{tick}, {difference['field']}"))
        rows += [("  got", str(difference["got"])), ("  expected", str(difference["expected"]))]
    console().print(two_columns(f"replay of {result['log']}", rows))


def _policy(config: Replay, reader: LogReader, from_start: bool) -> tuple[PolicyReplay | None, str]:
    if config.policy is None:
        return None, ""
    folder = open_policy_folder(config.policy)
    logged = text_in(reader.session, "policy_digest")
    if folder.digest != logged:
        raise MismatchError(
            f"log {reader.path}: was made with policy {logged[:12]}, {config.policy} is {folder.digest[:12]}; "
            "pass the folder of the policy that ran"
        )
    if folder.base_size != BASE_OBSERVATION_SIZE:
        raise MismatchError(
            f"policy {config.policy}: takes {folder.base_size} numbers a frame, the wire brings "
            f"{BASE_OBSERVATION_SIZE}; pass a policy for this plant"
        )
    backend, _ = open_backend(folder, config.backend)
    unlike = UNLIKE_TOLERANCE * float((folder.policy.action_high - folder.policy.action_low).max())
    ran = text_in(reader.session, "backend")
    same = 0.0 if ran == backend.name or {ran, backend.name} <= _SAME_BITS else unlike
    if config.tolerance is not None:
        same = unlike = config.tolerance
    return PolicyReplay(backend, folder.history, same, unlike, from_start), backend.name
