"""The JSON files that the stages of `make demo` leave behind, read and checked."""

import json
import math
from pathlib import Path
from typing import Any

from firmware_bridge.errors import SummaryError

COMMANDS = {
    "distill.json": "python -m distill train --json",
    "robustness.json": "python -m distill robustness STUDENT --json",
    "export.json": "python -m export compile STUDENT --out DIR --json",
    "verify.json": "python -m export verify DIR --json",
    "measure.json": "python -m export measure DIR --json",
    "measure_teacher.json": "python -m export measure TEACHER_DIR --json",
    "run_host.json": "python -m firmware_bridge run --port sim: --mode host --json",
    "run_device.json": "python -m firmware_bridge run --port sim: --mode device --json",
    "lockstep_host.json": "python -m firmware_bridge run --port sim: --clock lockstep --mode host --json",
    "lockstep_device.json": "python -m firmware_bridge run --port sim: --clock lockstep --mode device --json",
}
"""Each file, and the command whose standard output it is."""


class Stage:
    """One stage's JSON object; access names the file, the key, and the command that makes it."""

    def __init__(self, path: Path, value: dict[str, Any]) -> None:
        self.path = path
        self.value = value

    def get(self, *keys: str) -> Any:
        """Value at a path of keys. Raises SummaryError when it is missing."""
        value: Any = self.value
        for key in keys:
            if not isinstance(value, dict) or key not in value:
                raise self._error(f"no key {'.'.join(keys)!r}")
            value = value[key]
        return value

    def number(self, *keys: str) -> float:
        """A finite number at a path of keys. Raises SummaryError."""
        value = self.get(*keys)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise self._error(f"{'.'.join(keys)!r} is {value!r}, expected a finite number")
        return value

    def text(self, *keys: str) -> str:
        """A string that is not empty. Raises SummaryError."""
        value = self.get(*keys)
        if not isinstance(value, str) or not value:
            raise self._error(f"{'.'.join(keys)!r} is {value!r}, expected text")
        return value

    def _error(self, what: str) -> SummaryError:
        return SummaryError(f"{self.path}: {what}; make it again with {_remedy(self.path)}")


def read_stages(build: Path) -> dict[str, Stage]:
    """All files of `COMMANDS` in `build`, by name. Raises SummaryError for the first that is missing or damaged."""
    return {name: _read(build / name) for name in COMMANDS}


def _read(path: Path) -> Stage:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise SummaryError(f"{path}: no such file; make it with {_remedy(path)}") from error
    except ValueError as error:
        raise SummaryError(f"{path}: not JSON ({error}); make it again with {_remedy(path)}") from error
    if not isinstance(value, dict):
        raise SummaryError(f"{path}: expected one JSON object; make it again with {_remedy(path)}")
    return Stage(path, value)


def _remedy(path: Path) -> str:
    return f"`{COMMANDS[path.name]} > {path.name}`, or all of them with `make demo`"
