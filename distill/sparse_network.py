"""A plain perceptron under a mask, with hand-written gradients: what fine-tuning trains and what is shipped.

All weights lie in one flat tensor and all biases in another, as in the Bayesian student: one optimiser call does all
layers, and one sort ranks them.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from .student import Form

Layers = list[tuple[torch.Tensor, torch.Tensor]]  # (weight (outputs, inputs), bias (outputs,)) of each layer


class SparseNetwork:
    """ReLU hidden layers and a tanh at the end; inputs normalised, outputs in [-1, 1].

    `weight` (weights,), `bias` (units,) are trained; `mask` (weights,) is 1 where a weight lives and 0 where it is
    pruned, and `weight` is exactly 0 there at all times.
    """

    def __init__(self, form: Form, weight: torch.Tensor, bias: torch.Tensor, mask: torch.Tensor) -> None:
        self.form = form
        self.mask = mask.clone()
        self.weight, self.bias = weight * mask, bias.clone()
        weight_gradient, bias_gradient = torch.zeros_like(self.weight), torch.zeros_like(self.bias)
        self.weight.grad, self.bias.grad = weight_gradient, bias_gradient
        self._flat_weight_gradient = weight_gradient
        self._weights, self._biases = form.matrices(self.weight), form.rows(self.bias)
        self._weight_gradients, self._bias_gradients = form.matrices(weight_gradient), form.rows(bias_gradient)
        self._tape: list[tuple[torch.Tensor, torch.Tensor]] = []

    @property
    def kept(self) -> int:
        """Weights that are not pruned; some may yet turn out to reach no output."""
        return int(self.mask.count_nonzero())

    def parameters(self) -> list[torch.Tensor]:
        """The trained tensors, each with its gradient in `.grad`."""
        return [self.weight, self.bias]

    def layers(self) -> Layers:
        """Copies of every layer's weight and bias."""
        return [(weight.clone(), bias.clone()) for weight, bias in zip(self._weights, self._biases, strict=True)]

    @torch.no_grad()
    def act(self, observations: torch.Tensor) -> torch.Tensor:
        """Actions (batch, actions) for normalised observations (batch, inputs); remembers for `backward`."""
        self._tape = []
        hidden, last = observations, len(self._weights) - 1
        for index, (weight, bias) in enumerate(zip(self._weights, self._biases, strict=True)):
            output = torch.addmm(bias, hidden, weight.T)
            output = output.tanh_() if index == last else output.relu_()
            self._tape.append((hidden, output))
            hidden = output
        return hidden

    @torch.no_grad()
    def backward(self, action_gradient: torch.Tensor) -> None:
        """Gradients of the last `act`'s loss, given dloss/daction (batch, actions); none where a weight is pruned."""
        for index, inner in self._backwards(action_gradient):
            torch.sum(inner, dim=0, out=self._bias_gradients[index])
            torch.mm(inner.T, self._tape[index][0], out=self._weight_gradients[index])
        self._flat_weight_gradient.mul_(self.mask)

    def _backwards(self, upstream: torch.Tensor) -> Iterator[tuple[int, torch.Tensor]]:
        """From the last layer to the first: its index and dloss/d(its weighted sum), (batch, outputs)."""
        last = len(self._tape) - 1
        for index in range(last, -1, -1):
            output = self._tape[index][1]
            # through tanh: 1 - y^2; through ReLU: where the output is positive
            inner = upstream * (1.0 - output * output) if index == last else upstream * (output > 0.0)
            yield index, inner
            if index > 0:
                upstream = torch.mm(inner, self._weights[index])

    @torch.no_grad()
    def curvature(self, observations: torch.Tensor) -> torch.Tensor:
        """Diagonal of the Gauss-Newton matrix of the mean squared error: (weights,), mean of (daction_k/dweight)^2.

        Observations (batch, inputs) normalised; the mean runs over the batch and the actions k.
        """
        actions = self.act(observations)
        squares = torch.zeros_like(self.weight)
        views = self.form.matrices(squares)
        for action in range(actions.shape[1]):
            one = torch.zeros_like(actions)
            one[:, action] = 1.0
            for index, inner in self._backwards(one):
                hidden = self._tape[index][0]
                views[index].addmm_((inner * inner).T, hidden * hidden)
        return squares / actions.numel()

    @torch.no_grad()
    def prune(self, mask: torch.Tensor) -> None:
        """Set a new mask (weights,)."""
        self.mask.copy_(mask)
        self.weight.mul_(self.mask)

    def state(self) -> dict[str, torch.Tensor]:
        """Everything that `restore` needs."""
        return {"weight": self.weight, "bias": self.bias, "mask": self.mask}

    @torch.no_grad()
    def restore(self, state: dict[str, torch.Tensor]) -> None:
        """Go back to a `state()`."""
        for name, tensor in self.state().items():
            tensor.copy_(state[name])
