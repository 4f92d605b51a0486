"""Options of `smallest`; each field's docstring is its --help text."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro

from .config import PriorName, SourceConfig
from .refine_config import ObjectiveName


@dataclass(frozen=True)
class SmallestConfig(SourceConfig):
    """Find the smallest student that holds the target: over widths, depths, priors and |D|, then by refining and
    searching on from the smallest so far. Every student on the way is kept as evidence."""

    out: Path = Path("runs/smallest")
    """Folder of the runs (finished ones are not made again), smallest.json, pareto.svg and student.safetensors."""
    target_return: float = 0.99
    """Share of the teacher's return to hold, on episodes that the report does not use."""
    bytes: bool = False
    """Smallest by the bytes that `export` stores (values, indices, row pointers, biases), not by kept parameters."""
    widths: tuple[int, ...] = (8, 16, 32)
    """Widths of hidden layers, narrow ones first."""
    depths: tuple[int, ...] = (0, 1, 2)
    """Numbers of hidden layers; 0 is the linear student."""
    priors: tuple[PriorName, ...] = ("log-uniform",)
    """Priors of the weights; those that need a scale are refused."""
    data_weights: tuple[float, ...] = (3e5,)
    """|D| of the loss: what the threshold cuts by."""
    objectives: tyro.conf.UseAppendAction[tuple[ObjectiveName, ...]] = ()
    """What the smallest students are refined and pruned on by; may be repeated; default: expected-entropy."""
    finalists: int = 2
    """So many of the smallest students are refined, and so many of those just too small are searched from."""
    search_episodes: int = 20_000
    """Training episodes of a search on the return from a student just too small: by CMA-ES, or beyond 400 parameters up
    the gradient of the return; 0 leaves searches out."""
    search_rounds: int = 3
    """As long as a search succeeds the next smaller students are searched from, so many times at most."""
    iterations: int = 40_000
    """Steps of training of every run."""
    fine_tune_iterations: int = 8_000
    """Steps of fine-tuning at every size."""
    selection_episodes: int = 50
    """Episodes on which students are judged; never those of the report."""
    evaluation_episodes: int = 100
    """Held-out episodes for the reported returns of teacher and smallest student."""
    seed: int = 0
    """Seeds everything."""
    jobs: int = 1
    """Runs at a time; results do not depend on it."""
    json: bool = False
    """Print one JSON object on stdout."""
