"""The verb `emulate`: the image of a microcontroller, emulated, balances the simulated pendulum in lock-step."""

import json
import time
from typing import Any

from export.errors import ExportError
from export.measure import measure
from firmware_bridge import page
from firmware_bridge.config import SIMULATOR_PORT, Emulate, Run
from firmware_bridge.errors import BridgeError, HostPolicyError
from firmware_bridge.policy_folder import open_policy_folder
from firmware_bridge.run import run
from firmware_bridge.simulated_port import build_image

# The processor whose instructions are counted for each board's chip.
_COUNTED_INPUTS = 500  # soft float takes longer for some numbers: the mean over so many
_TARGETS = {"netduinoplus2": "cortex-m4f", "microbit": "cortex-m0plus", "atmega328p": "avr"}


def emulate(config: Emulate) -> dict[str, Any]:
    """Build, run, count; what is written to OUT/BOARD.json. Raises BridgeError, also for what ended the run early."""
    started = time.monotonic()
    if config.board not in _TARGETS:
        raise BridgeError(f"--board {config.board}: nothing emulates it, expected one of {', '.join(_TARGETS)}")
    folder = open_policy_folder(config.policy)
    work = config.out / config.board
    built = build_image(config.policy, work, config.board)
    closed_loop = Run(
        port=SIMULATOR_PORT,
        policy=config.policy,
        log=work / "log",
        mode=config.mode,
        duration_s=config.duration_s,
        clock="lockstep",
        image=built.path,
    )
    outcome = run(closed_loop)
    if outcome.error is not None or outcome.result is None:
        raise outcome.error or BridgeError("the run gave no result; run it again")
    try:
        counted = measure(config.policy, folder.policy, _TARGETS[config.board], inputs=_COUNTED_INPUTS)
    except ExportError as error:
        raise HostPolicyError(str(error)) from error
    told = ("mode", "steps", "upright_fraction_last_3s", "trajectory_sha256", "faults", "policy_digest")
    result = {
        "board": config.board,
        **{key: outcome.result[key] for key in told},
        "image": str(built.path),
        "image_flash_bytes": built.flash_bytes,
        "image_ram_bytes": built.ram_bytes,
        "inference_instructions": counted.instructions,
        "log": outcome.result["log"],
        "seconds": time.monotonic() - started,
    }
    page.replace_text(config.out / f"{config.board}.json", json.dumps(result, indent=2) + "\n")
    return result


def print_emulation(result: dict[str, Any]) -> None:
    """The result as a table."""
    from firmware_bridge.tables import console, two_columns

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
