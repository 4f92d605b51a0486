"""The verb `emulate`: the image of a microcontroller, emulated, balances the simulated pendulum in lock-step.

Image and log are made in a folder of their own and get their names together with the result, so that OUT never holds
the image of one run beside the log of another.
"""

import dataclasses
import json
import os
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from export.errors import ExportError
from export.measure import measure
from firmware_bridge import notices
from firmware_bridge.config import SIMULATOR_PORT, Emulate, Run
from firmware_bridge.errors import BridgeError, HostPolicyError, SimulatorError, StopRequested
from firmware_bridge.loop.policy_folder import PolicyFolder, open_policy_folder
from firmware_bridge.ports.simulated_port import BuiltImage, build_image
from firmware_bridge.reports import page
from firmware_bridge.run import run
from hardware.scratch import ScratchFolder

_COUNTED_INPUTS = 500  # soft float takes longer for some numbers: the mean over so many
# The processor whose instructions are counted for each board's chip.
_TARGETS = {"netduinoplus2": "cortex-m4f", "microbit": "cortex-m0plus", "atmega328p": "avr"}


def emulate(config: Emulate) -> dict[str, Any]:
    """Build, run, count; what is written to OUT/BOARD.json. Raises BridgeError, also for what ended the run early.

    An interrupt leaves OUT as it was and says so. A run that failed leaves its folder as OUT/BOARD.failed.
    """
    if config.board not in _TARGETS:
        raise BridgeError(f"--board {config.board}: nothing emulates it, expected one of {', '.join(_TARGETS)}")
    policy = open_policy_folder(config.policy)
    target = Path(os.path.realpath(config.out / config.board))
    if target.exists() and not target.is_dir():
        raise BridgeError(f"{target}: got a file, expected a folder or a free name; remove it or choose another --out")
    unchanged = f"what {config.out} held is unchanged"
    try:
        config.out.mkdir(parents=True, exist_ok=True)
        scratch = ScratchFolder(f".{config.board}-", target.parent)
        try:
            return _emulate(config, policy, scratch, target)
        finally:
            scratch.cleanup()
    except StopRequested as stop:
        stop.left = f"the emulated device is gone, {unchanged}"
        raise
    except KeyboardInterrupt:
        raise KeyboardInterrupt(unchanged) from None


def _emulate(config: Emulate, policy: PolicyFolder, scratch: ScratchFolder, target: Path) -> dict[str, Any]:
    started = time.monotonic()
    built = build_image(config.policy, scratch.path, config.board)
    log = scratch.path / "log"
    try:
        played = _play(config, built, log, scratch.path, target)
    except BridgeError:
        if log.is_dir():
            _put(scratch, failed := target.with_name(f"{target.name}.failed"))
            notices.say(f"image and log of the run that failed are in {failed}", notices.WARNING)
        raise
    try:
        counted = measure(config.policy, policy.policy, _TARGETS[config.board], inputs=_COUNTED_INPUTS)
    except ExportError as error:
        raise HostPolicyError(str(error)) from error
    told = ("mode", "steps", "upright_fraction_last_3s", "trajectory_sha256", "faults", "policy_digest")
    result = {
        "board": config.board,
        **{key: played[key] for key in told},
        "image": str(target / built.path.relative_to(scratch.path)),
        "image_flash_bytes": built.flash_bytes,
        "image_ram_bytes": built.ram_bytes,
        "inference_instructions": counted.instructions,
        "log": played["log"],
        "seconds": time.monotonic() - started,
    }
    with _signals_wait():
        _put(scratch, target)
        page.replace_text(config.out / f"{config.board}.json", json.dumps(result, indent=2) + "\n")
    return result


def _play(config: Emulate, built: BuiltImage, log: Path, scratch: Path, target: Path) -> dict[str, Any]:
    """The result of the closed loop, whose log names files as they are called below `target`, not in `scratch`.

    Raises what ended it early, and SimulatorError for a trajectory not written.
    """
    closed_loop = Run(
        port=SIMULATOR_PORT,
        policy=config.policy,
        log=log,
        mode=config.mode,
        duration_s=config.duration_s,
        clock="lockstep",
        image=built.path,
    )
    named_log, named_image = (target / path.relative_to(scratch) for path in (log, built.path))
    outcome = run(closed_loop, told=dataclasses.replace(closed_loop, log=named_log, image=named_image))
    if outcome.error is not None or outcome.result is None:
        raise outcome.error or BridgeError("the run gave no result; run it again")
    said = outcome.result["simulator"].get("error")
    if said is not None:
        raise SimulatorError(f"the simulator failed at the end of the run: {said}")
    return outcome.result


def _put(scratch: ScratchFolder, target: Path) -> None:
    """Give the folder its name; what was there is kept as TARGET.previous, an older one of these goes."""
    previous = target.with_name(f"{target.name}.previous")
    if target.exists():
        shutil.rmtree(previous, ignore_errors=True)
        target.rename(previous)
    scratch.keep_as(target)


@contextmanager
def _signals_wait() -> Iterator[None]:
    """A signal that comes now is taken afterwards: the names change together."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM, signal.SIGHUP))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def print_emulation(result: dict[str, Any]) -> None:
    """The result as a table."""
    from firmware_bridge.reports.tables import console, two_columns

    rows = [
        ("upright, last 3 s", f"{result['upright_fraction_last_3s']:.1%}"),
        ("steps", str(result["steps"])),
        ("faults", ", ".join(f"{fault['reason']} at tick {fault['tick']}" for fault in result["faults"]) or "none"),
        ("flash, whole image", f"{result['image_flash_bytes']:,} B"),
        ("RAM, stack included", f"{result['image_ram_bytes']:,} B"),
        ("instructions per inference", f"{result['inference_instructions']:,.0f}"),
        ("trajectory", result["trajectory_sha256"]),
        ("policy", result["policy_digest"][:12]),
        ("image", result["image"]),
    ]
    console().print(two_columns(f"{result['board']}, emulated, mode {result['mode']}, lock-step", rows))
