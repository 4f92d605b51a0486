"""Options of the verb refine; each field's docstring is its --help text."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from .config import ShrinkConfig

ObjectiveName = Literal[
    "teacher",
    "on-policy",
    "entropy-regularised",
    "n-distill",
    "expected-entropy",
    "teacher-v-reward",
    "on-policy+r",
    "n-distill+r",
    "expected-entropy+r",
    "on-policy+r+v-cond",
    "kl-regularised",
    "td+v",
]


@dataclass(frozen=True)
class RefineConfig(ShrinkConfig):
    """Make a student better or smaller: it drives, an objective corrects it, its mask stays or shrinks."""

    student: tyro.conf.Positional[Path] = Path("build/distill/student.safetensors")
    """The student file to begin with; of ReLU layers and a tanh at the end, as `train` writes them."""
    objective: ObjectiveName = "expected-entropy"
    """Row of the table in docs/policy_distillation.md: what corrects it. `teacher` is the only one whose states are the
    teacher's; +r also follows the environment's reward."""
    mask: Literal["shrinking", "fixed"] = "shrinking"
    """Prune a little, refine, repeat while --target-return holds; or keep all weights that there are."""
    spread: float = 0.1
    """Standard deviation of the Gaussians that are put around deterministic actions, as a share of half their range.
    Above 0.24 log pi is negative even in full agreement: with a pseudo-reward of it, ending an episode pays."""
    reward_weight: float = 1.0
    """Nats that the teacher's mean |reward| of a control period is worth (+r, and what follows values)."""
    critic: Literal["learned", "teacher"] = "learned"
    """How the environment's reward reaches the student (+r): through critics learned beside it, or through those inside
    the teacher's SAC, TQC or TD3 zip, frozen. Objectives that ask for the teacher's value always read the zip's."""
    search: Literal["none", "policy-gradient", "cma-es", "ars"] = "none"
    """Last stage: after the return itself, at the mask of the student chosen until then. policy-gradient (PPO; actions
    are drawn --spread wide) for students of any size, where single rewards say something; the others for tiny ones."""
    search_episodes: int = 20_000
    """Training episodes of the search, at most; policy-gradient ends after 200 rounds of 10,000 steps or more."""
    search_episodes_each: int = 4
    """Episodes of each student of a generation, the same for all of them (not of policy-gradient)."""
    search_step: float = 0.02
    """First standard deviation of the search, as a share of a layer's typical weight (not of policy-gradient)."""
