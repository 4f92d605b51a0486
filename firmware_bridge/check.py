"""The verb `check`: what a configuration file says, where each value comes from, and whether a run could start with it.

Nothing is opened that could move or reset anything: a serial port is only looked at (open() raises DTR).
"""

import dataclasses
import os
import shutil
import socket
import textwrap
import typing
from pathlib import Path
from typing import Any

from firmware_bridge.config import Check, Run
from firmware_bridge.configuration_file import configurable_fields, read_configuration, type_text
from firmware_bridge.errors import BridgeError, ConfigurationError
from firmware_bridge.field_texts import field_texts
from firmware_bridge.loop.policy_folder import open_policy_folder
from firmware_bridge.ports.port_name import HOST_BOARD, Simulated, TcpAddress, UsbDevice, parse_port
from firmware_bridge.ports.port_users import port_user
from firmware_bridge.ports.serial_ports import existing_ports_text, find_usb_port
from firmware_bridge.ports.simulated_port import missing_packages
from hardware.board import find_board

_EXAMPLES = {"port": "usb:0483:374b", "policy": "policy", "log": "log"}
_CONNECT_TIMEOUT_S = 2.0


def check(config: Check) -> dict[str, Any]:
    """JSON of the verb; `ok` is False where a run could not start. Raises ConfigurationError for an unusable file."""
    if config.template:
        return {"ok": True, "template": template()}
    if config.file is None:
        raise ConfigurationError("check: no file given, expected bridge.toml; pass it, or --template for an example")
    values = read_configuration(config.file)
    texts = field_texts(Run)
    keys = []
    missing = []
    for name, (field, kind) in configurable_fields().items():
        if name in values:
            value, source = values[name], str(config.file)
        elif field.default is dataclasses.MISSING:
            value, source = None, "missing"
            missing.append(name)
        else:
            value, source = field.default, "default"
        told = str(value) if isinstance(value, Path) else value
        keys.append({"key": name, "value": told, "source": source, "type": type_text(kind), "meaning": texts[name]})
    findings = []
    if missing:
        findings.append(
            _finding("keys", False, f"{', '.join(missing)}: not in the file; give them on the command line")
        )
    else:
        findings.append(_attempt("values", lambda: (Run(**values), "within their ranges")[1]))
    if "policy" in values:
        findings.append(_attempt("policy", lambda: _policy_text(values["policy"])))
    if "port" in values:
        findings.append(_attempt("port", lambda: _port_text(values["port"])))
    return {"file": str(config.file), "keys": keys, "findings": findings, "ok": all(item["ok"] for item in findings)}


def print_check(result: dict[str, Any]) -> None:
    """The template as it is, or tables."""
    if "template" in result:
        print(result["template"], end="")
        return
    from rich.table import Table

    from firmware_bridge.reports.tables import console, two_columns

    table = Table("key", "value", "from", "meaning", title=result["file"], title_justify="left")
    for key in result["keys"]:
        value = "" if key["value"] is None else str(key["value"])
        table.add_row(key["key"], value, key["source"] if key["source"] != result["file"] else "file", key["meaning"])
    out = console()
    out.print(table)
    rows = [(item["what"], ("ok: " if item["ok"] else "NOT OK: ") + item["text"]) for item in result["findings"]]
    out.print(two_columns("could a run start?", rows))


def template(chosen: dict[str, Any] | None = None) -> str:
    """A configuration file with every key, explained; what has a default is commented out, but for the `chosen`."""
    lines = [
        "# Configuration of `bpd-bridge run --config FILE`. Paths are relative to this file; the command line wins."
    ]
    texts = field_texts(Run)
    for name, (field, kind) in configurable_fields().items():
        lines += ["", *textwrap.wrap(texts[name], 116, initial_indent="# ", subsequent_indent="# ")]
        if chosen and name in chosen:
            lines.append(f"{name} = {_toml(chosen[name])}")
        elif field.default is dataclasses.MISSING:
            lines.append(f"{name} = {_toml(_EXAMPLES[name])}")
        elif field.default is None:
            lines += [f"# Default: none. Expected {type_text(kind)}.", f"# {name} = {_placeholder(kind)}"]
        else:
            lines += [f"# Expected {type_text(kind)}.", f"# {name} = {_toml(field.default)}"]
    return "\n".join(lines) + "\n"


def _placeholder(kind: Any) -> str:
    """Something of the right type, for keys without a default."""
    return '"..."' if Path in typing.get_args(kind) or str in typing.get_args(kind) else "0"


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return f"[{', '.join(_toml(item) for item in value)}]"
    if isinstance(value, int | float):
        return repr(value)
    return '"' + str(value).replace("\\", "\\\\").replace('"', '\\"') + '"'


def _finding(what: str, ok: bool, text: str) -> dict[str, Any]:
    return {"what": what, "ok": ok, "text": text}


def _attempt(what: str, attempt: Any) -> dict[str, Any]:
    try:
        return _finding(what, True, attempt())
    except BridgeError as error:
        return _finding(what, False, str(error))


def _policy_text(path: Path) -> str:
    folder = open_policy_folder(path)
    return f"digest {folder.digest[:12]}, control period {folder.period_us} us, history of {folder.history} frames"


def _port_text(port: str) -> str:
    name = parse_port(port)
    if isinstance(name, Simulated):
        return _simulated_text(name.board)
    if isinstance(name, TcpAddress):
        try:
            socket.create_connection((name.host, name.port), _CONNECT_TIMEOUT_S).close()
        except (OSError, UnicodeError) as error:
            raise BridgeError(f"port {port}: cannot connect ({error}); start the device that listens there") from error
        return "somebody listens there"
    path = find_usb_port(name) if isinstance(name, UsbDevice) else name.path
    return _serial_text(path)


def _serial_text(path: str) -> str:
    if not Path(path).exists():
        raise BridgeError(f"port {path}: does not exist; {existing_ports_text()}; pass one of them, or sim:")
    if not Path(path).is_char_device():
        raise BridgeError(f"port {path}: no device, expected a serial port; {existing_ports_text()}")
    if not os.access(path, os.R_OK | os.W_OK):
        raise BridgeError(f"port {path}: permission denied; add yourself to its group (often dialout) and log in again")
    user = port_user(path)
    if user:
        raise BridgeError(f"port {path}: {user} holds it; close the other program")
    return f"{path} exists, may be opened, and nobody is seen to hold it (it was not opened)"


def _simulated_text(board: str) -> str:
    missing = [f"the Python package {name} (extra hardware)" for name in missing_packages()]
    chip = find_board(board).chip
    compiler = "cc" if chip is None else f"{chip.tools.prefix}gcc"
    if shutil.which(compiler) is None:
        missing.append(f"the compiler {compiler}")
    if board != HOST_BOARD and find_board(board).emulator == "qemu" and shutil.which("qemu-system-arm") is None:
        missing.append("the emulator qemu-system-arm")
    if missing:
        raise BridgeError(f"a simulated {board} needs {' and '.join(missing)}; install it")
    return f"everything that a simulated {board} needs is installed"
