"""Options of `teach`, apart from its heavy imports."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class TeachConfig:
    """Train a teacher on one of our pendulums with SAC, randomised parameters, and write its actor."""

    env: str = "hardware:CartRail-v0"
    """hardware:CartRail-v0, hardware:Edukit-v0 or hardware:Qube-v0; or one that takes the same arguments as these and
    names the sizes of its observations in its metadata, as `observation_scale`."""
    out: Path = Path("runs/teacher")
    """Folder for teacher.safetensors and teacher.json (learning curve)."""
    steps: int = 150_000
    """Environment steps."""
    seed: int = 0
    """Seeds torch, the environment and the replay buffer."""
    hidden: tuple[int, ...] = (256, 256)
    """Widths of the actor's and the critics' hidden layers."""
    evaluate_every: int = 10_000
    """Steps between evaluations on the selection seeds."""
    learning_rate: float = 5e-4
    """Adam's initial step size; falls linearly to a tenth."""
    gamma: float = 0.98
    """Discount."""
    near_upright_share: float = 0.3
    """Share of training episodes that start near upright."""
    json: bool = False
    """Print one JSON object on stdout."""
