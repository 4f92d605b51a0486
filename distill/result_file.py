"""Results as JSON files: written whole or not at all."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from export.replace_files import replace_files


def writable(folder: Path) -> None:
    """Make sure that `folder` can be written, before hours are spent on what belongs there.

    Raises:
        ExportError: it cannot be made or written.
    """
    name = ".writable"
    replace_files(folder, {name: b""})
    (folder / name).unlink(missing_ok=True)


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Write beside the target, then rename; creates the folder."""
    replace_files(path.parent, {path.name: (json.dumps(value, indent=1) + "\n").encode()})


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
