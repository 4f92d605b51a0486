"""The second half of a run, pruning a little and fine-tuning again and again, as something that can be put on disk."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from .plan import Plan, Rung
from .select import Candidate
from .shrink import Ranked
from .training.descent import Descent
from .training.sparse_network import SparseNetwork


@dataclass
class Shrinking:
    """The network that shrinks, its plan, and the candidates so far."""

    network: SparseNetwork
    ranked: Ranked | None  # the posterior that the network was pruned from, where one was trained
    plan: Plan
    rung: Rung | None
    descent: Descent | None
    candidates: list[Candidate]

    def state(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        """Tensors and figures of a checkpoint, for `restored`."""
        tensors = {f"network.{name}": value for name, value in self.network.state().items()}
        if self.ranked is not None:
            tensors |= {"ranked.mean": self.ranked.mean, "ranked.log_alpha": self.ranked.log_alpha}
        if self.descent is not None:
            tensors |= {f"descent.{name}": value for name, value in self.descent.state().items()}
        return tensors, {
            "rung": None if self.rung is None else dataclasses.asdict(self.rung),
            "descent": None if self.descent is None else [self.descent.iteration, self.descent.error],
            "attempt": self.plan.attempt,
            "missed": self.plan.missed,
            "visited": self.plan.visited,
            "candidates": [candidate.row() for candidate in self.candidates],
        }

    @staticmethod
    def restored(
        tensors: dict[str, torch.Tensor],
        figures: dict[str, Any],
        *,
        network: SparseNetwork,
        plan: Plan,
        descent: Callable[[SparseNetwork, Rung], Descent],
    ) -> Shrinking:
        """What `state` wrote, put into a network and a plan of the same run; `descent` makes one at its beginning."""
        network.restore(under(tensors, "network"))
        plan.attempt, plan.missed, plan.visited = figures["attempt"], figures["missed"], figures["visited"]
        ranked = under(tensors, "ranked")
        run = Shrinking(
            network=network,
            ranked=Ranked(**ranked) if ranked else None,
            plan=plan,
            rung=None if figures["rung"] is None else Rung(**figures["rung"]),
            descent=None,
            candidates=[Candidate.from_row(row) for row in figures["candidates"]],
        )
        begun = under(tensors, "descent")
        if begun and run.rung is not None:
            run.descent = descent(network, run.rung)
            run.descent.restore(begun, *figures["descent"])
        return run


def under(tensors: dict[str, torch.Tensor], part: str) -> dict[str, torch.Tensor]:
    """The tensors of one part of a checkpoint, by the names that the part gave them."""
    prefix = f"{part}."
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
