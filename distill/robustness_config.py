"""Options of `robustness`; each field's docstring is its --help text."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro

from .config import SourceConfig


@dataclass(frozen=True)
class RobustnessConfig(SourceConfig):
    """Play teacher and students on a grid of wrong plants: mass, length, friction, and a delay nobody trained for.

    For the plants of `hardware`. An episode succeeds when the rod was upright for the whole of its last 3 s.
    """

    students: tyro.conf.Positional[tuple[Path, ...]] = (Path("students/cart_rail.safetensors"),)
    """Student files; of several (the seeds of one recipe, say) the rates are those of all their episodes together, with
    the lowest and highest student's beside them."""
    mass_factors: tuple[float, ...] = (0.8, 1.0, 1.2)
    """Of the rod's mass; 1 is the nominal plant."""
    length_factors: tuple[float, ...] = (0.8, 1.0, 1.2)
    """Of the rod's length."""
    friction_factors: tuple[float, ...] = (0.8, 1.0, 1.2)
    """Of the axis's friction and the rod's damping."""
    extra_delay_periods: tuple[int, ...] = (0, 1)
    """Control periods that an action waits longer than it does on the device."""
    episodes: int = 20
    """Held-out episodes on every plant, the same starts on all."""
    jobs: int = 1
    """Plants at a time; results do not depend on it."""
    json: bool = False
    """Print one JSON object on stdout."""
