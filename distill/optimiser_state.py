"""Adam's moments as named tensors, for checkpoints without pickle."""

from __future__ import annotations

import torch


def optimiser_state(optimiser: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """Name -> tensor for every moment and step count."""
    parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    return {
        f"optimiser.{index}.{name}": value
        for index, parameter in enumerate(parameters)
        for name, value in optimiser.state[parameter].items()
    }


def restore_optimiser(optimiser: torch.optim.Optimizer, state: dict[str, torch.Tensor]) -> None:
    """Put `optimiser_state`'s tensors back; an optimiser that had not stepped yet has none."""
    parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    for name, value in state.items():
        prefix, _, rest = name.partition(".")
        if prefix == "optimiser":
            index, _, moment = rest.partition(".")
            optimiser.state[parameters[int(index)]][moment] = value.clone()
