"""The verb `list`: the serial ports, which look like controllers, who holds them, and on request who answers there."""

import dataclasses
from pathlib import Path
from typing import Any

from firmware_bridge.config import ListPorts
from firmware_bridge.device.conversation import Conversation
from firmware_bridge.device.handshake import greet
from firmware_bridge.errors import BridgeError
from firmware_bridge.logs.recorder import Recorder
from firmware_bridge.ports.link import open_link
from firmware_bridge.ports.serial_ports import list_serial_ports, users_of

_PROBE_TIMEOUT_S = 1.5  # a board that restarts because its port was opened needs most of it


def make_list(config: ListPorts) -> dict[str, Any]:
    """JSON of the verb. What a probe runs into is told with its port; it never raises for one."""
    ports = list_serial_ports()
    users = users_of(ports)
    listed = []
    for port in ports:
        told = {**dataclasses.asdict(port), "in_use_by": users[port.path]}
        if config.probe and port.controller and not users[port.path]:
            told["answer"] = _probe(port.path, config.baudrate)
        listed.append(told)
    return {"ports": listed}


def print_list(result: dict[str, Any]) -> None:
    """The serial ports, or that there are none."""
    from rich.table import Table

    from firmware_bridge.reports.tables import console

    out = console()
    if not result["ports"]:
        out.print("no serial ports; a simulated device needs none: --port sim:")
        return
    table = Table("path", "stable path", "USB", "looks like", "in use by", "answer")
    for port in result["ports"]:
        table.add_row(
            port["path"],
            port["stable_path"],
            port["usb"],
            port["controller"] or port["description"],
            port["in_use_by"],
            _answer_text(port.get("answer")),
        )
    out.print(table)


def _probe(path: str, baudrate: int) -> dict[str, Any]:
    try:
        link = open_link(path, baudrate)
        try:
            reply = greet(Conversation(link, Recorder(Path("unused"), capacity_bytes=0)), _PROBE_TIMEOUT_S)
        finally:
            link.close()
    except BridgeError as error:
        return {"error": str(error)}
    return {"board": reply.board, "policy_digest": reply.policy_digest.hex(), "period_us": reply.period_us}


def _answer_text(answer: dict[str, Any] | None) -> str:
    if answer is None:
        return ""
    return answer.get("error") or f"{answer['board']}, policy {answer['policy_digest'][:12]}"
