"""Read the layers out of a TorchScript file without running it: its text is followed, its tensors are read."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

from ..environment import EnvironmentFacts
from ..errors import DistillError
from .actor import LARGEST_FILE, Actor
from .steps import chain_of
from .torch_archive import EXPECTED, TorchArchive, UnreadableError
from .torch_program import TorchProgram


def read_torch_script(path: Path, data: bytes, facts: EnvironmentFacts) -> Actor:
    """The actor of a TorchScript file.

    Raises:
        DistillError: damaged, no TorchScript, or a program that is more than a chain of layers.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if sum(info.file_size for info in archive.infolist()) > LARGEST_FILE:
                raise UnreadableError(f"it unpacks to more than {LARGEST_FILE} bytes")
            steps, stored = TorchProgram(TorchArchive(archive, path)).follow()
    except DistillError:
        raise
    except Exception as error:  # zip, pickle, parser and program each fail in their own way; one case for the user
        found = " ".join(str(error).split())[:200] or type(error).__name__
        raise DistillError(
            f"teacher {path}: cannot be read ({found}), expected {EXPECTED}; nothing in it was run, export "
            "the actor to ONNX or save its policy as a zip"
        ) from error
    chain, notes = chain_of(path, steps, facts)
    return Actor(chain, "TorchScript", stored, None, notes)
