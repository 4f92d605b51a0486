"""Results as JSON files: written whole or not at all."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from export.replace_files import replace_files

from .errors import DistillError


def writable(folder: Path) -> None:
    """Make sure that `folder` can be written, before hours are spent on what belongs there.

    Raises:
        DistillError: it is a file.
        ExportError: it cannot be made or written.
    """
    if folder.exists() and not folder.is_dir():
        raise DistillError(f"--out {folder}: got a file, expected a folder; name another")
    name = ".writable"
    replace_files(folder, {name: b""})
    (folder / name).unlink(missing_ok=True)


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Write beside the target, then rename; creates the folder.

    Raises:
        DistillError: a number that is not finite, which JSON has no word for.
        ExportError: it cannot be written.
    """
    replace_files(path.parent, {path.name: (as_text(value, path, indent=1) + "\n").encode()})


def as_text(value: dict[str, Any], place: Path | str, *, indent: int | None = None) -> str:
    """`value` as JSON for `place`. Raises DistillError as `write_json`."""
    try:
        return json.dumps(value, indent=indent, allow_nan=False)
    except ValueError as error:
        raise DistillError(
            f"{place}: got a number that is not finite ({error}), expected finite ones; look for an environment or an "
            "option that gives such a number"
        ) from error


def read_json(path: Path, *names: str) -> dict[str, Any]:
    """What `write_json` wrote: an object that has these names.

    Raises:
        DistillError: it is damaged.
    """
    try:
        value = json.loads(path.read_bytes())
        json.dumps(value, allow_nan=False)
    except (ValueError, RecursionError) as error:
        raise _damaged(path, " ".join(str(error).split())[:100]) from error
    if not isinstance(value, dict):
        raise _damaged(path, type(value).__name__)
    missing = [name for name in names if name not in value]
    if missing:
        raise _damaged(path, f"no {', '.join(missing)}")
    return value


def _damaged(path: Path, found: str) -> DistillError:
    return DistillError(
        f"{path}: got a damaged file ({found}), expected the JSON object that an earlier run wrote; remove it, then "
        "run the same command again"
    )


def replace_with_copy(source: Path, target: Path) -> None:
    """Put a copy of a file or a folder in the place of `target`, which is gone only when the copy is whole."""
    partial = target.with_name(f".{target.name}.part")
    if partial.is_dir():
        shutil.rmtree(partial)
    if source.is_dir():
        shutil.copytree(source, partial)
        if target.is_dir():
            shutil.rmtree(target)
    else:
        shutil.copyfile(source, partial)
    partial.replace(target)
