"""Options of `ablate`; each field's docstring is its --help text."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .config import SourceConfig


@dataclass(frozen=True)
class AblateConfig(SourceConfig):
    """Compare priors, noise, schedules, thresholds and rivals of the method as curves of return against density."""

    out: Path = Path("runs/ablations")
    """Folder for the arms (finished ones are not run again), the shared dataset and ablations.json."""
    letters: str = "abcdefgh"
    """Which: a prior, b value function, c Q term, d deterministic rivals, e threshold, f the published code's noise,
    g annealing, h a small actor trained online by SAC."""
    hidden: tuple[int, ...] = (64, 64)
    """Widths of the hidden layers of every student."""
    iterations: int = 30_000
    """Steps of training of every arm."""
    fine_tune_iterations: int = 2_000
    """Steps of fine-tuning after each shrinking."""
    data_weight: float = 1e5
    """|D| of every Bayesian arm."""
    episodes: int = 200
    """Teacher episodes of the shared dataset."""
    exploration_noise: float = 0.3
    """Largest exploration noise of a collected episode, as a share of half the action range."""
    online_steps: int = 300_000
    """Environment steps of (h); 0 leaves it out."""
    seeds: int = 5
    """Training seeds of every arm."""
    jobs: int = 1
    """Processes; rows do not depend on it."""
    json: bool = False
    """Print one JSON object on stdout."""
