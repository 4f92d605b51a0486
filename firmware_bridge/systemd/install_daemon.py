"""The verb `install-daemon`: unit, udev rule and an example configuration to where systemd and udev look for them."""

import grp
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

from firmware_bridge.check import template
from firmware_bridge.config import InstallDaemon
from firmware_bridge.errors import BridgeError
from firmware_bridge.reports.page import replace_text

UNIT = "bpd-bridge@.service"
RULES = "70-bpd-bridge.rules"
_SOURCES = Path(__file__).parent
_PROGRAM_IN_UNIT = "/usr/local/bin/bpd-bridge"
_GROUP_IN_FILES = "dialout"
_GROUPS = ("dialout", "uucp")
_RELOADS = (["systemctl", "daemon-reload"], ["udevadm", "control", "--reload"])
_CHOSEN = {"log_rotate_mb": 50.0, "log_keep_parts": 60}
"""A daemon waits for days, and logs 400 MB in each at 50 Hz: a week is kept, 3 GB; and the run before, at most 3 more.
"""
_NEXT = (
    "next: copy /etc/bpd-bridge/example.toml to /etc/bpd-bridge/NAME.toml, give it a port, policy and log below "
    "/var/lib/bpd-bridge/NAME (the only place the service may write to), put the policy there, run "
    "`bpd-bridge check /etc/bpd-bridge/NAME.toml`, then `systemctl enable --now bpd-bridge@NAME`"
)
_READABLE = stat.S_IRUSR | stat.S_IWUSR | stat.S_IRGRP | stat.S_IROTH


def install_daemon(config: InstallDaemon) -> dict[str, Any]:
    """Write the files (or, dry, only say which), and let systemd and udev read them. Raises BridgeError."""
    program = _program(config.bridge)
    group = _group(config.group)
    root = config.destdir or Path("/")
    unit = _replaced(_SOURCES / UNIT, {_PROGRAM_IN_UNIT: str(program), _GROUP_IN_FILES: group})
    rules = _replaced(_SOURCES / RULES, {_GROUP_IN_FILES: group})
    files = {
        root / "etc/systemd/system" / UNIT: unit,
        root / "etc/udev/rules.d" / RULES: rules,
        root / "etc/bpd-bridge/example.toml": template(_CHOSEN),
    }
    commands = [] if config.destdir is not None else [command for command in _RELOADS if shutil.which(command[0])]
    if not config.dry_run:
        for path, text in files.items():
            _write(path, text)
        for command in commands:
            _reload(command)
    return {
        "dry_run": config.dry_run,
        "program": str(program),
        "group": group,
        "files": [str(path) for path in files],
        "commands": [" ".join(command) for command in commands],
        "warnings": _warnings(program),
    }


def print_installation(result: dict[str, Any]) -> None:
    """What was done, or would be, and what comes next."""
    verb = "would write" if result["dry_run"] else "wrote"
    for path in result["files"]:
        print(f"{verb} {path}")
    for command in result["commands"]:
        print(f"{'would run' if result['dry_run'] else 'ran'} {command}")
    for warning in result["warnings"]:
        print(f"warning: {warning}", file=sys.stderr)
    print(_NEXT)


def _program(given: Path | None) -> Path:
    program = given if given is not None else Path(sys.executable).parent / "bpd-bridge"
    if not program.is_file() or not os.access(program, os.X_OK):
        raise BridgeError(
            f"{program}: no program, expected the bpd-bridge that the unit starts; install the package with pip, or "
            "name it with --bridge"
        )
    path = str(program.absolute())
    if any(character.isspace() or character in "%\"'\\$;" for character in path):
        raise BridgeError(f"{path}: a unit file cannot hold such a path; install where its name has no such character")
    return Path(path)


def _group(given: str | None) -> str:
    for name in (given,) if given is not None else _GROUPS:
        try:
            return grp.getgrnam(name).gr_name
        except KeyError:
            continue
    raise BridgeError(
        f"group {given or ' or '.join(_GROUPS)}: does not exist here, expected the group of serial ports (see "
        "`ls -l /dev/ttyUSB0`); name it with --group"
    )


def _replaced(source: Path, words: dict[str, str]) -> str:
    text = source.read_text(encoding="utf-8")
    for word, replacement in words.items():
        assert word in text, f"{source.name} names {word}"
        text = text.replace(word, replacement)
    return text


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_text(path, text)
        path.chmod(_READABLE)
    except OSError as error:
        raise BridgeError(
            f"{path}: cannot write ({error.strerror or error}); expected to be root; use sudo, or DESTDIR for a package"
        ) from error


def _reload(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        # In a container nothing runs that could be told; the files are right all the same.
        print(f"note: `{' '.join(command)}` said: {' '.join(done.stderr.split())}", file=sys.stderr)


def _warnings(program: Path) -> list[str]:
    """The service runs as nobody in particular: everybody must be able to reach what it starts."""
    for path in (program, *program.resolve().parents, Path(sys.prefix).resolve()):
        if not path.stat().st_mode & stat.S_IXOTH:
            return [f"{path} is closed to other users: the service cannot start {program}; install it elsewhere"]
    return []
