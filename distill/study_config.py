"""Options of `study`; each field's docstring is its --help text."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

FigureName = Literal["fig2", "fig3", "fig4", "fig5", "fig6", "fields"]


@dataclass(frozen=True)
class StudyConfig:
    """Reproduce a figure of "Distilling Policy Distillation": curves with 95 % intervals, and a verdict a claim.

    fig2: on-policy + R goes round for ever, N-distill + R converges. fig3: who drives. fig4: number of actions. fig5:
    imperfect teachers. fig6: an optimal and an adversarial teacher in a corridor (what it compares is known from
    summaries of the paper, not the corridor's size and rewards: these are ours). fields: which objectives are gradients
    of anything, and where they end.
    """

    figure: tyro.conf.Positional[FigureName]
    """What to reproduce."""
    out: Path = Path("runs/policy_distillation")
    """Folder for FIGURE.json and FIGURE.svg; the same command goes on where it was cut off."""
    grids: int | None = None
    """Random worlds (of `fields`: random decision processes); default: the figure's own number."""
    iterations: int | None = None
    """Updates of every student, one episode each (of fig2: expected updates); default: the figure's own number."""
    learning_rate: float | None = None
    """Step size in the logits (fig3 to fig6); default: the figure's own."""
    seed: int = 0
    """First of the worlds' seeds, and of everything that is drawn (fig3 to fig6)."""
    jobs: int = 1
    """Processes that share the worlds, at most (fig2 and fields take one); changes no number."""
    json: bool = False
    """Print one JSON object on stdout."""
