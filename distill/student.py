"""The student: a multilayer perceptron of Bayesian layers, and the masked plain network it turns into."""

from __future__ import annotations

import itertools

import torch

from .sparse_linear import SparseLinear


class BayesianStudent(torch.nn.Module):
    """ReLU hidden layers and a tanh at the end; inputs normalised, outputs in [-1, 1] (shares of half the range)."""

    layers: torch.nn.ModuleList

    def __init__(self, sizes: tuple[int, ...], generator: torch.Generator) -> None:
        super().__init__()
        self.layers = torch.nn.ModuleList(
            SparseLinear(inputs, outputs, generator) for inputs, outputs in itertools.pairwise(sizes)
        )

    def sparse_layers(self) -> list[SparseLinear]:
        """The layers, first to last."""
        return [layer for layer in self.layers if isinstance(layer, SparseLinear)]

    def forward(self, observations: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Noisy actions (batch, actions) for normalised observations (batch, inputs)."""
        hidden = observations
        *body, head = self.sparse_layers()
        for layer in body:
            hidden = torch.relu(layer(hidden, generator))
        return torch.tanh(head(hidden, generator))

    def kl(self) -> torch.Tensor:
        """Total KL; scalar."""
        return torch.stack([layer.kl() for layer in self.sparse_layers()]).sum()

    def masked(self, threshold: float) -> MaskedStudent:
        """A deterministic copy with the weights at or above the threshold removed."""
        return MaskedStudent(
            [layer.mean.detach().clone() for layer in self.sparse_layers()],
            [layer.bias.detach().clone() for layer in self.sparse_layers()],
            [layer.mask(threshold) for layer in self.sparse_layers()],
        )


class MaskedStudent(torch.nn.Module):
    """Plain weights under a fixed mask; what fine-tuning trains and what is written to the student file."""

    def __init__(self, weights: list[torch.Tensor], biases: list[torch.Tensor], masks: list[torch.Tensor]) -> None:
        super().__init__()
        self.weights = torch.nn.ParameterList(weight * mask for weight, mask in zip(weights, masks, strict=True))
        self.biases = torch.nn.ParameterList(biases)
        self.masks = masks

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        """Actions (batch, actions) in [-1, 1] for normalised observations (batch, inputs)."""
        hidden = observations
        last = len(self.masks) - 1
        for index, mask in enumerate(self.masks):
            hidden = torch.nn.functional.linear(hidden, self.weights[index] * mask, self.biases[index])
            hidden = torch.tanh(hidden) if index == last else torch.relu(hidden)
        return hidden

    def chain(self) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """(weight, bias) of each layer; weight exactly 0 where masked."""
        return [
            ((self.weights[index] * mask).detach().clone(), self.biases[index].detach().clone())
            for index, mask in enumerate(self.masks)
        ]
