"""Writes cart_rail_rollout.json: what hardware:CartRail-v0 gives for seeded episodes, as one hash a setting.

Trained teachers depend on every bit of it. Run this only where a change of the environment is meant, and say so.
"""

import hashlib
import json
import platform
from pathlib import Path

import mujoco
import numpy as np

from hardware.environment import CartRailEnvironment

PATH = Path(__file__).parent / "cart_rail_rollout.json"
SETTINGS = (
    {},
    {"start": "rest", "history": 1},
    {"start": "random", "randomise": True},
    {"start": "mixed", "randomise": True, "near_upright_share": 0.3},
)
EPISODES, STEPS = 5, 200


def rollout_sha256(arguments: dict) -> str:
    """Hash of observations (float32), rewards (float64), ends and counts of seeded episodes with seeded actions."""
    digest = hashlib.sha256()
    environment = CartRailEnvironment(**arguments)
    for seed in range(EPISODES):
        generator = np.random.default_rng(seed)
        observation, _ = environment.reset(seed=seed)
        digest.update(observation.tobytes())
        swing = np.repeat(generator.uniform(-30.0, 30.0, STEPS // 10), 10)  # long pushes reach the rail's limits
        for action in (swing + generator.normal(0.0, 4.0, STEPS)).astype(np.float32):
            observation, reward, terminated, truncated, info = environment.step(np.array([action]))
            counts = (environment.plant.cart_count, environment.plant.rod_count)
            ends = (terminated, truncated, info["upright"])
            digest.update(observation.tobytes() + np.float64(reward).tobytes() + repr((counts, ends)).encode())
            if terminated:
                break
    return digest.hexdigest()


def versions() -> dict[str, str]:
    """What the last bits of a simulation depend on besides our code."""
    return {"mujoco": mujoco.__version__, "machine": platform.machine(), "system": platform.system()}


def golden() -> dict:
    """The content of the file."""
    hashes = [{"arguments": arguments, "sha256": rollout_sha256(arguments)} for arguments in SETTINGS]
    return {"versions": versions(), "rollouts": hashes}


if __name__ == "__main__":
    PATH.write_text(json.dumps(golden(), indent=1) + "\n")
