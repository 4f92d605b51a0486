"""What to do about a log that cannot be written: a full disk, a folder in the way and a killed writer differ."""

import errno

_SPACE = "expected a disk with space; free space or choose another folder for it"
_PERMISSION = "expected a folder that may be written to; change its permissions or choose another one"
_IN_THE_WAY = "expected a folder with regular files; remove what is in the way or choose another folder"
_DESCRIPTORS = "expected file descriptors to be had; end other programs or raise the limit (`ulimit -n`)"
_GONE = "expected its folder and files to stay while a run goes on; leave them there and record it again"
_MEMORY = "expected memory and processes to be had; end other programs"
_WRITER = "expected its process to live until the run is over; see whether the kernel ended it (`dmesg`) and run again"
_DISK = "expected a writable disk; see what it says (`dmesg`), or choose a folder on another one"

_STEPS = {
    errno.ENOSPC: _SPACE,
    errno.EDQUOT: _SPACE,
    errno.EFBIG: _SPACE,
    errno.EACCES: _PERMISSION,
    errno.EPERM: _PERMISSION,
    errno.EROFS: _PERMISSION,
    errno.EEXIST: _IN_THE_WAY,
    errno.ENOTDIR: _IN_THE_WAY,
    errno.EISDIR: _IN_THE_WAY,
    errno.ELOOP: "expected a folder, not links that lead back to themselves; mend the link or choose another folder",
    errno.ENAMETOOLONG: "expected a name that the file system takes; choose a shorter one",
    errno.EMFILE: _DESCRIPTORS,
    errno.ENFILE: _DESCRIPTORS,
    errno.ENOENT: _GONE,
    errno.ESTALE: _GONE,
    errno.ENOMEM: _MEMORY,
    errno.EAGAIN: _MEMORY,
}


def next_step(number: int | None) -> str:
    """Expected, and the next step, for error `number` of the system; None: the writer itself failed, not the disk."""
    return _WRITER if number is None else _STEPS.get(number, _DISK)
