"""Whole images of the firmware: what each module takes of each chip, and that all of them move the cart alike.

    python -m benchmarks.firmware

Builds every image of the committed int8 student, runs those that an emulator runs in lock-step in modes device and
host, and writes docs/results/firmware.json. Nothing here depends on how fast this machine is.
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.provenance import ROOT, commit, machine, refuse_dirty
from distill.result_file import write_json
from export.compile import compile_student
from firmware_bridge.config import SIMULATOR_PORT, Emulate, Run
from firmware_bridge.emulate import emulate
from firmware_bridge.run import run
from hardware.board import BOARDS, Board
from hardware.build import build
from hardware.link_map import module_sizes
from hardware.plants.cart_rail import CART_RAIL

TARGET = ROOT / "docs" / "results" / "firmware.json"
STUDENT = ROOT / "students" / "cart_rail.safetensors"


def policy_for(board: Board, folder: Path) -> Path:
    """The folder of the policy as its compiler wants it: an AVR reads its tables from flash in a way of its own."""
    return folder / ("policy_avr" if board.emulator == "simavr" else "policy")


def images(folder: Path) -> list[dict[str, Any]]:
    """Every variant of every board that drives the cart, by module."""
    rows = []
    for board in BOARDS.values():
        for variant in board.variants if board.chip and board.plant in ("", CART_RAIL.name) else ():
            assert board.chip is not None
            image = build(policy_for(board, folder), folder / board.name, board.name, variant)
            modules = module_sizes(image.path.with_suffix(".map"), board.chip)
            rows.append(
                {
                    "board": board.name,
                    "chip": board.chip.title,
                    "variant": variant,
                    "flash_bytes": image.flash_bytes,
                    "ram_bytes": image.ram_bytes,
                    "modules": {name: dataclasses.asdict(size) for name, size in modules.items()},
                }
            )
    return rows


def runs(folder: Path) -> list[dict[str, Any]]:
    """The closed loop on this machine and on every emulated chip, in modes device and host."""
    told = ("mode", "steps", "upright_fraction_last_3s", "trajectory_sha256", "faults")
    rows = []
    for mode in ("device", "host"):
        log = folder / f"log_{mode}"
        outcome = run(Run(port=SIMULATOR_PORT, policy=folder / "policy", log=log, mode=mode, clock="lockstep"))
        if outcome.result is None or outcome.error is not None:
            raise SystemExit(f"error: mode {mode} on this machine: {outcome.error}")
        rows.append({"where": "process of this machine", **{key: outcome.result[key] for key in told}})
        for board in BOARDS.values():
            if board.chip is not None and board.machine is not None:
                policy = policy_for(board, folder)
                result = emulate(Emulate(policy=policy, out=folder / mode, board=board.name, mode=mode))
                counted = {"inference_instructions": result["inference_instructions"]}
                rows.append({"where": f"{board.chip.title}, emulated", **{key: result[key] for key in told}, **counted})
    return rows


def main() -> None:
    """Build, run, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--allow-dirty", action="store_true", help="measure uncommitted changes")
    arguments = parser.parse_args()
    refuse_dirty(allowed=arguments.allow_dirty)
    with tempfile.TemporaryDirectory(prefix="firmware-") as name:
        folder = Path(name)
        compiled = compile_student(STUDENT, folder / "policy", None, weights="int8")
        compile_student(STUDENT, folder / "policy_avr", None, weights="int8", target="avr")
        result = {
            "machine": machine(),
            "commit": commit(),
            "policy_digest": compiled.digest,
            "kept_weights": compiled.policy.kept_weights,
            "images": images(folder),
            "runs": runs(folder),
        }
    write_json(TARGET, result)
    print("wrote docs/results/firmware.json; tables: make results")


if __name__ == "__main__":
    main()
