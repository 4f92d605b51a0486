"""`sim:`, a device without a device: `python -m hardware simulate` as a child process, reaped on every way out."""

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import time
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from firmware_bridge.child_process import module_command, module_environment
from firmware_bridge.errors import SimulatorError
from hardware.parent_death import dies_with_parent
from hardware.scratch import ScratchFolder

_PACKAGES = ("mujoco", "elftools")
_START_TIMEOUT_S = 60.0
_STOP_TIMEOUT_S = 15.0
_BUILD_TIMEOUT_S = 120.0
_TIDY_TIMEOUT_S = 10.0
_PATIENCE_S = 20.0  # where the simulator cannot be made to die with this process: then it ends by itself


@dataclasses.dataclass(frozen=True)
class SimulatorSettings:
    """How the simulator is started; `seconds` is its own upper bound, should this process vanish; the plant's
    true states are written to `trajectory`."""

    image: Path
    clock: str
    seed: int
    randomise: bool
    seconds: float
    trajectory: Path


@dataclasses.dataclass(frozen=True)
class BuiltImage:
    """An image of the firmware; what it takes of a chip's flash and RAM in bytes, None for board host."""

    path: Path
    flash_bytes: int | None
    ram_bytes: int | None


def missing_packages() -> list[str]:
    """What the simulator imports and the base install does not bring."""
    return [name for name in _PACKAGES if not _importable(name)]


def require_packages() -> None:
    """Raise SimulatorError where the simulator cannot run: said before anything is built."""
    missing = missing_packages()
    if missing:
        raise SimulatorError(
            f"a simulated device needs the extra `hardware`: {' and '.join(missing)} cannot be imported; "
            "pip install 'bayesian-policy-distillation[hardware]'"
        )


def _importable(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except (ImportError, ValueError):
        return False


def build_image(policy: Path, out: Path, board: str) -> BuiltImage:
    """Build the firmware for the simulator with this policy. Raises SimulatorError."""
    arguments = ["build", "--board", board, "--policy", str(policy), "--out", str(out), "--json"]
    done = _run_build(arguments)
    built = _last_object(done.stdout)
    image = built.get("image")
    if done.returncode != 0 or not isinstance(image, str):
        raise SimulatorError(
            f"cannot build the firmware: {_last_line(done.stderr) or 'no image named'}; try `{_text(arguments)}`"
        )
    return BuiltImage(Path(image), built.get("flash_bytes"), built.get("ram_bytes"))


def _run_build(arguments: list[str]) -> subprocess.CompletedProcess[str]:
    """Run it to its end; an interrupt is passed on, and waited for: the child has a folder to remove."""
    child = subprocess.Popen(
        [*dies_with_parent(), *_command(arguments)],
        env=module_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Ctrl-C reaches the foreground group at the same time as us: then a second one would cut its tidying short.
        start_new_session=True,
    )
    try:
        out, errors = child.communicate(timeout=_BUILD_TIMEOUT_S)
    except BaseException as error:
        _interrupt(child)
        if isinstance(error, subprocess.TimeoutExpired):
            raise SimulatorError(
                f"building the firmware took more than {_BUILD_TIMEOUT_S:g} s; try `{_text(arguments)}`"
            ) from error
        raise
    return subprocess.CompletedProcess(arguments, child.returncode, out, errors)


def _interrupt(child: subprocess.Popen[str]) -> None:
    """End the child and the compilers it started, by force if it takes too long."""
    for number in (signal.SIGINT, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.communicate(timeout=_TIDY_TIMEOUT_S)
            return


class SimulatedPort:
    """Context manager around the child. `path` is the port to open, `result` what the child reported after `stop`."""

    def __init__(self, settings: SimulatorSettings) -> None:
        self.result: dict[str, Any] = {}
        self._folder = ScratchFolder("firmware-bridge-")
        self.path = self._folder.path / "link"
        self._stdout_path = self._folder.path / "stdout"
        self._stderr_path = self._folder.path / "stderr"
        self._arguments = [
            *("simulate", "--image", str(settings.image), "--link", str(self.path), "--clock", settings.clock),
            *("--seed", str(settings.seed), "--seconds", f"{settings.seconds:g}"),
            *(("--randomise",) if settings.randomise else ()),
            *("--patience-s", f"{_PATIENCE_S:g}", "--trajectory", str(settings.trajectory), "--json"),
        ]
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        """Start the child and wait until its link is there. Raises SimulatorError; the child is reaped then too."""
        try:
            # Files, not pipes: a pipe nobody reads would stop the simulator when it is full.
            with self._stdout_path.open("wb") as out, self._stderr_path.open("wb") as errors:
                self._process = subprocess.Popen(
                    # Killed with this process: one that ended by its patience would write over a later trajectory.
                    [*dies_with_parent(), *_command(self._arguments)],
                    env=module_environment(),
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=errors,
                    # Ctrl-C reaches the whole foreground group; the cart must brake before its plant vanishes.
                    start_new_session=True,
                )
            self._wait_for_link()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """End the child, kill it when it does not listen, read its result. Safe to call twice."""
        process, self._process = self._process, None
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
            try:
                process.wait(_STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                # The child leads its own group: the firmware it started goes with it.
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            self.result = _last_object(_text_of(self._stdout_path))
            said = _ending(process.returncode, _text_of(self._stderr_path))
            if said and not self.result:
                self.result = {"error": said}
        self._folder.cleanup()

    def _wait_for_link(self) -> None:
        deadline = time.monotonic() + _START_TIMEOUT_S
        while not self.path.exists():
            process = self._process
            if process is None or process.poll() is not None:
                reason = _last_line(_text_of(self._stderr_path)) or "it ended without a word"
                raise SimulatorError(f"the simulator did not start: {reason}; try `{_text(self._arguments)}`")
            if time.monotonic() > deadline:
                raise SimulatorError(
                    f"the simulator made no link within {_START_TIMEOUT_S:g} s; try `{_text(self._arguments)}`"
                )
            time.sleep(0.01)


def _command(arguments: list[str]) -> list[str]:
    return [*module_command("hardware"), *arguments]


def _text(arguments: list[str]) -> str:
    return " ".join(["python -m hardware", *arguments])


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1].removeprefix("error: ") if lines else ""


def _ending(status: int, said: str) -> str:
    """Why the child ended, its own error first; "" where it did as it was told. Its last words may be that all is well.

    A child that has said its error dies by our SIGTERM all the same if that finds it on its way out.
    """
    errors = [line for line in said.splitlines() if line.startswith("error: ")]
    if errors:
        return errors[-1].removeprefix("error: ")
    if status in (0, -signal.SIGTERM):
        return ""
    how = f"ended by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
    return f"the simulator was {how} and gave no reason, expected it to run until the end; try again"


def _last_object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
