"""Do the device, the host's C and the host's numpy compute the same action from every observation of a long run?"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from firmware_bridge.config import SIMULATOR_PORT, Run
from firmware_bridge.logs.read_log import read_log
from firmware_bridge.loop.host_policy import CBackend, CsrBackend
from firmware_bridge.loop.policy_folder import open_policy_folder
from firmware_bridge.run import run
from hardware.protocol import State

_TOLD = 5  # differences that are spelled out


def shadow_agreement(policy: Path, image: Path, out: Path, seconds: float, seed: int = 0) -> dict[str, Any]:
    """One run in shadow mode and lock-step; how many actions agree to the bit, and `differences` in words.

    The device's actions are those of its ACTION messages, the host's those that the bridge logged while it ran (C), and
    those of numpy and of C once more from the logged observations.
    """
    outcome = run(
        Run(
            port=SIMULATOR_PORT,
            policy=policy,
            log=out,
            mode="shadow",
            clock="lockstep",
            image=image,
            duration_s=seconds,
            seed=seed,
            backend="c",
        )
    )
    if outcome.result is None or outcome.error is not None:
        raise SystemExit(f"error: shadow mode: {outcome.error}")
    log = read_log(out)
    folder = open_policy_folder(policy)
    device = {value["observation_tick"]: _bits(value["action"]) for value in log.values("/action")}
    logged = {value["observation_tick"]: _bits(value["action"]) for value in log.values("/host_action")}
    backends = {"host numpy": CsrBackend(folder), "host C, from the log": CBackend(folder)}
    # The run ends with an observation that only the device still answers.
    observations = [value for value in log.values("/observation") if value["state"] == State.ARMED]
    observations = [value for value in observations if value["tick"] in logged]
    differences, compared, actions = [], 0, set()
    for value in observations:
        tick = value["tick"]
        given = {"device": device.get(tick), "host C": logged[tick]}
        for name, backend in backends.items():
            given[name] = _bits(backend.step(tuple(value["current"])))
        compared += 1
        actions.add(given["device"])
        if len(set(given.values())) > 1 and len(differences) < _TOLD:
            differences.append(f"shadow, tick {tick}: {given}")
    shadow = outcome.result["shadow"]
    if compared != outcome.result["steps"] or shadow["compared"] != compared or shadow["max_difference"] != 0.0:
        differences.append(
            f"shadow: {compared} of {outcome.result['steps']} periods compared, the bridge says {shadow}"
        )
    return {
        "weights": folder.policy.weight_format,
        "policy_digest": folder.digest,
        "simulated_s": seconds,
        "steps": outcome.result["steps"],
        "compared": compared,
        "different_actions": len(actions),
        "upright_fraction_last_3s": outcome.result["upright_fraction_last_3s"],
        "trajectory_sha256": outcome.result["trajectory_sha256"],
        "differences": differences,
    }


def _bits(action: float | None) -> int | None:
    """The float32 as its bits; None stays (no action, or not a number)."""
    if action is None or not math.isfinite(action):
        return None
    return int(np.float32(action).view(np.uint32))
