"""The critics inside a SAC, TQC, TD3 or DDPG zip: what the teacher thinks of an action, frozen."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from ..errors import DistillError
from .stable_baselines import contents, named_layers, policy_class
from .zip_settings import hidden_activation

_KINDS = {"SACPolicy": "SAC", "TQCPolicy": "TQC", "TD3Policy": "TD3/DDPG"}
_EXPECTED = "expected a SAC, TQC, TD3 or DDPG zip"
_OR = "or do without them (--cost-sensitive False; refine: --critic learned, an objective without the teacher's value)"

Layers = tuple[tuple[torch.Tensor, torch.Tensor], ...]  # weight (out, in), bias (out,)


@dataclass(frozen=True)
class FrozenCritics:
    """Q_pi(s, a), in the environment's reward, discounted by the teacher's own gamma; SAC's and TQC's are also worth
    the entropy of their noise."""

    networks: tuple[Layers, ...]
    activation: str
    gamma: float | None = None
    """The teacher's discount, where its file says it."""

    @property
    def inputs(self) -> int:
        """Observation and action together."""
        return self.networks[0][0][0].shape[1]

    def values(self, observations: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
        """Q (batch,): the lowest critic, of several quantiles their mean.

        `observations` (batch, observation) in physical units, `actions` (batch, action) as shares of half their range.
        """
        pairs = torch.cat((observations, actions), dim=-1)
        found = []
        for layers in self.networks:
            hidden = pairs
            for index, (weight, bias) in enumerate(layers):
                hidden = torch.addmm(bias, hidden, weight.mT)
                if index < len(layers) - 1:
                    hidden = torch.relu(hidden) if self.activation == "relu" else torch.tanh(hidden)
            found.append(hidden.mean(dim=-1))
        return torch.stack(found).amin(dim=0)

    def by_action(self, observations: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
        """dQ/da (batch, action)."""
        with torch.enable_grad():
            moved = actions.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(self.values(observations, moved).sum(), moved)
        return gradient


def read_critics(path: Path, vecnormalize: Path | None, activation: str | None, inputs: int) -> FrozenCritics:
    """The critics of the teacher's file; `inputs`: of the environment's observation and action together.

    Raises:
        DistillError: a file without critics, of another size, or behind statistics: what rewards were divided by in
            training is then unknown, and inputs may have been folded away.
    """
    if path.suffix != ".zip":
        raise DistillError(f"teacher's critics: got {path.name}, {_EXPECTED}; {_OR}")
    if vecnormalize is not None:
        raise DistillError(
            "teacher's critics: got --vecnormalize, expected a teacher trained on plain observations and rewards, for "
            f"the units of its values are not in the file; {_OR}"
        )
    settings, weights = contents(path, path.read_bytes())
    owner = policy_class(path, settings)
    count = 0
    while any(name.startswith(f"critic.qf{count}.") for name in weights):
        count += 1
    if owner not in _KINDS or count == 0:
        raise DistillError(f"teacher's critics: {path.name} holds no action values, {_EXPECTED}; {_OR}")
    chosen, _ = hidden_activation(path, settings.get("policy_kwargs") or {}, _KINDS[owner], activation)
    networks = tuple(
        tuple(
            (torch.from_numpy(weight), torch.from_numpy(bias))
            for weight, bias in named_layers(path, weights, (f"critic.qf{index}",), ())[0]
        )
        for index in range(count)
    )
    for layers in networks:
        sizes = [inputs] + [len(bias) for _, bias in layers]
        if [weight.shape[1] for weight, _ in layers] != sizes[:-1]:
            raise DistillError(
                f"teacher's critics: those of {path.name} take {layers[0][0].shape[1]} inputs, expected {inputs}, the "
                f"environment's observation and action; check --env; {_OR}"
            )
    gamma = settings.get("gamma")
    return FrozenCritics(networks, chosen, float(gamma) if isinstance(gamma, int | float) else None)
