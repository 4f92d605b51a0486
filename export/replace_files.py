"""Writing several files so that a failure leaves the previous ones in place."""

import contextlib
import errno
import os
import stat
from collections.abc import Mapping
from pathlib import Path

from export.errors import ExportError


def replace_files(folder: Path, contents: Mapping[str, bytes]) -> list[Path]:
    """Write `contents` (name -> bytes) into `folder` and return the paths.

    Every file is written completely under a temporary name before the first one is renamed, so a full disk or an
    interrupt while writing loses nothing. Several renames are not one step: a failure between two of them (or a power
    cut) leaves new files beside old ones, each of them whole; the digest that they carry tells them apart.

    Raises:
        ExportError: the folder cannot be made or written, or the disk is full; the message names what was replaced.
    """
    temporaries: list[Path] = []
    replaced: list[str] = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        targets = [regular_target(folder / name) for name in contents]
        for target, data in zip(targets, contents.values(), strict=True):
            temporary = target.with_name(f".{target.name}.{os.getpid()}.part")
            temporaries.append(temporary)
            with temporary.open("wb") as stream:
                stream.write(data)
                stream.flush()
                # Some file systems report a full disk only here.
                os.fsync(stream.fileno())
        for temporary, target, name in zip(temporaries, targets, contents, strict=True):
            temporary.replace(target)
            replaced.append(name)
    except OSError as error:
        reason = error.strerror or str(error)
        state = f"only {', '.join(replaced)} replaced" if replaced else "earlier files there are unchanged"
        raise ExportError(
            f"cannot write into {folder}: {reason}; {state}, free it or choose another folder, then try again"
        ) from error
    finally:
        for temporary in temporaries:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
    return [folder / name for name in contents]


def regular_target(path: Path) -> Path:
    """Where a file named `path` lies, symlinks followed: rename to that.

    Raises:
        OSError: something that is no regular file stands there. A rename would put a file in the place of a device
            node, which root is allowed to.
    """
    target = Path(os.path.realpath(path))
    try:
        mode = target.lstat().st_mode
    except FileNotFoundError:
        return target
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, f"{path.name} is a folder")
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, f"{path.name} is a device, pipe, socket or endless symlink, not a regular file")
    return target
