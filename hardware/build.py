"""Builds a firmware image: portable C (`firmware/`), one board (`boards/`) and the policy's header from export."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from hardware.errors import BuildError

FIRMWARE_FOLDER = Path(__file__).parent / "firmware"
BOARDS_FOLDER = Path(__file__).parent / "boards"
MODULES = ("main", "link", "safety", "drive", "observe", "framing")
BOARDS = ("host",)
WARNINGS = ("-Wall", "-Wextra", "-Wconversion", "-Wdouble-promotion", "-Werror")
FLAGS = ("-std=c11", "-O2", "-ffp-contract=off", *WARNINGS)


@dataclass(frozen=True)
class Image:
    """A built image: where it lies, the policy inside, and the board it is for."""

    path: Path
    policy_digest: str
    board: str


def read_policy_digest(header: Path) -> str:
    """The digest that a generated `policy.h` carries (64 hex digits). Raises BuildError."""
    try:
        text = header.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        raise BuildError(
            f"no policy header at {header}: expected policy.h in the folder given by --policy; "
            "write it with `python -m export compile STUDENT --out DIR`"
        ) from None
    found = re.search(r'#define\s+POLICY_DIGEST_HEX\s+"([0-9a-f]{64})"', text)
    if found is None:
        raise BuildError(
            f"{header} has no POLICY_DIGEST_HEX of 64 hex digits: expected a header written by "
            "`python -m export compile`; write it again"
        )
    return found.group(1)


def find_compiler() -> str:
    """The host's C compiler: $CC, cc, gcc or clang. Raises BuildError."""
    for name in (os.environ.get("CC"), "cc", "gcc", "clang"):
        if name and (path := shutil.which(name)):
            return path
    raise BuildError("no C compiler: looked for $CC, cc, gcc and clang on PATH; install one (`apt-get install gcc`)")


def build(policy: Path, out: Path, board: str = "host", extra_flags: tuple[str, ...] = ()) -> Image:
    """Compile the firmware for `board` with `policy`/policy.h inside; writes `out`/firmware.

    Raises BuildError when the board is unknown, the header is missing or unusable, the folder cannot be written, or
    the compiler refuses; an image that was there before stays.
    """
    if board not in BOARDS:
        raise BuildError(f"unknown board: got {board!r}, expected one of {', '.join(BOARDS)}")
    digest = read_policy_digest(policy / "policy.h")
    compiler = find_compiler()
    sources = [FIRMWARE_FOLDER / f"{name}.c" for name in MODULES] + [BOARDS_FOLDER / f"{board}.c"]
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".build-", dir=out) as scratch:
            image = Path(scratch) / "firmware"
            command = [compiler, *FLAGS, *extra_flags, "-I", str(FIRMWARE_FOLDER), "-I", str(policy)]
            command += [str(source) for source in sources] + ["-o", str(image), "-lm"]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                raise _refusal(Path(compiler).name, out, done.stderr)
            os.replace(image, out / "firmware")
    except OSError as error:
        raise BuildError(
            f"cannot build into {out}: got {error.strerror or error}, expected a writable folder with free space; "
            "mend that or choose another --out"
        ) from error
    return Image(path=out / "firmware", policy_digest=digest, board=board)


def _refusal(compiler: str, out: Path, log: str) -> BuildError:
    if "No space left on device" in log:
        return BuildError(
            f"cannot build into {out}: {compiler} got 'No space left on device', expected room for some megabytes "
            f"there and in {tempfile.gettempdir()}; free space or choose another --out"
        )
    return BuildError(f"{compiler} refused the firmware: {_first_error(log)}")


def _first_error(log: str) -> str:
    """The line of a compiler's log that says what is wrong."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    for line in lines:
        if "error:" in line:
            return line
    return lines[-1] if lines else "it said nothing"
