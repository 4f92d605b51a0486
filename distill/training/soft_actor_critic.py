"""Soft actor-critic (Haarnoja et al. 2018) as Stable-Baselines3 has it, its update as one compiled function of tensors.

Replay, exploration, defaults and zip files stay Stable-Baselines3's; numbers and draws are those of its own `train`
but for rounding. What makes it faster: both critics in one batched product, no gradient of the critics' weights in the
actor's step, and optimisers that fuse with what comes before them.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import gymnasium
import torch
from stable_baselines3 import SAC
from stable_baselines3.common.policies import ContinuousCritic
from stable_baselines3.sac.policies import LOG_STD_MAX, LOG_STD_MIN

from .adam import Tracked, adam_step, corrections
from .compiled import Compiled
from .critic import CriticForm, critic_backward, critic_forward
from .relu import through_relu

_BOTH = slice(0, 2)
_INSIDE = 1e-6  # Stable-Baselines3's, so that the logarithm of 1 - action^2 stays finite


class SoftActorCritic(SAC):  # type: ignore[misc]  # Stable-Baselines3 is not typed strictly
    """SAC with ReLU layers, twin critics, a learned entropy coefficient and a constant learning rate, on the CPU.

    Args:
        environment: of one box of observations and one of actions.
        hidden: widths of the actor.
        critic_hidden: widths of the critics.
        seed: of everything random.
        compiled: whether the update is compiled.
    """

    def __init__(
        self,
        environment: gymnasium.Env[Any, Any],
        hidden: tuple[int, ...],
        critic_hidden: tuple[int, ...],
        seed: int,
        *,
        compiled: bool = True,
    ) -> None:
        widths = {"pi": list(hidden), "qf": list(critic_hidden)}
        super().__init__("MlpPolicy", environment, policy_kwargs={"net_arch": widths}, seed=seed, device="cpu")
        observations, actions = math.prod(self.observation_space.shape), math.prod(self.action_space.shape)
        self._form = CriticForm((observations + actions, *critic_hidden, 1))
        self._sizes = (observations, *hidden, 2 * actions)
        self._own_critics = Tracked.start(self._flat_critics(self.critic))
        self._own_target = self._flat_critics(self.critic_target)
        self._own_actor = Tracked.start(self._flat_actor())
        self._own_logarithm = Tracked.start(self.log_ent_coef.data)
        self._compiled = Compiled(self._update) if compiled else torch.no_grad()(self._update)

    def train(self, gradient_steps: int, batch_size: int = 64) -> None:
        """That many updates, each on a batch drawn from the replay buffer."""
        for _ in range(gradient_steps):
            batch = self.replay_buffer.sample(batch_size)
            self._n_updates += 1
            self._compiled(
                *self._own_actor.tensors(),
                *self._own_critics.tensors(),
                *self._own_logarithm.tensors(),
                self._own_target,
                batch.observations.float(),
                batch.actions,
                batch.rewards,
                batch.next_observations.float(),
                batch.dones,
                torch.randn(batch.actions.shape),
                torch.randn(batch.actions.shape),
                torch.tensor(corrections(self._n_updates, self.learning_rate)),
            )

    def _excluded_save_params(self) -> list[str]:
        own = [name for name in vars(self) if name.startswith("_own_")]
        return [*super()._excluded_save_params(), *own, "_compiled"]

    def _flat_critics(self, critics: ContinuousCritic) -> torch.Tensor:
        """Their numbers in one tensor, whose views take the place of their own."""
        flat = torch.zeros(sum(2 * (a + 1) * b for a, b in pairwise(self._form.sizes)))
        for index, network in enumerate(critics.q_networks):
            linear = [layer for layer in network if isinstance(layer, torch.nn.Linear)]
            for layer, (weight, bias) in zip(linear, self._form.layers(flat), strict=True):
                _share(layer, weight[index], bias[index, 0])
        return flat

    def _flat_actor(self) -> torch.Tensor:
        """Likewise; the last layer's outputs are means and log deviations."""
        flat = torch.zeros(sum((a + 1) * b for a, b in pairwise(self._sizes)))
        *hidden, (weight, bias) = _layers(self._sizes, flat)
        linear = [layer for layer in self.actor.latent_pi if isinstance(layer, torch.nn.Linear)]
        for layer, (own, shift) in zip(linear, hidden, strict=True):
            _share(layer, own, shift)
        actions = self._sizes[-1] // 2
        _share(self.actor.mu, weight[:, :actions], bias[:actions])
        _share(self.actor.log_std, weight[:, actions:], bias[actions:])
        return flat

    def _update(self, *tensors: torch.Tensor) -> torch.Tensor:
        """One update: actor, critics, log entropy coefficient (values and moments each), critics' target, a batch's
        five fields, noise (batch, actions) of this and of the next observation's actions, rates (2,).
        """
        actor, critics, logarithm = (Tracked(*tensors[start : start + 3]) for start in (0, 3, 6))
        target, observations, actions, rewards, following, dones, noise, next_noise, rates = tensors[9:]
        form, count = self._form, len(observations)
        with torch.enable_grad():
            values = actor.values.detach().requires_grad_()
            own, likelihood = _sampled(self._sizes, values, observations, noise)
        coefficient = logarithm.values.exp()
        adam_step(logarithm, -(likelihood.detach() + self.target_entropy).mean().reshape(1), rates)

        next_actions, next_likelihood = _sampled(self._sizes, actor.values, following, next_noise)
        future = critic_forward(form, target, torch.cat((following, next_actions), 1), _BOTH)[-1].amin(0)
        wanted = rewards + (1 - dones) * self.gamma * (future - coefficient * next_likelihood)
        steps = critic_forward(form, critics.values, torch.cat((observations, actions), 1), _BOTH)
        adam_step(critics, critic_backward(form, critics.values, steps, (steps[-1] - wanted) / count), rates)

        by_action = _smaller_by_action(form, critics.values, torch.cat((observations, own.detach()), 1), own.shape[1])
        with torch.enable_grad():
            loss = (coefficient * likelihood).mean() - (own * by_action).sum() / count
            (gradient,) = torch.autograd.grad(loss, values)
        adam_step(actor, gradient, rates)
        target.lerp_(critics.values, self.tau)
        return rates


def _share(layer: torch.nn.Linear, weight: torch.Tensor, bias: torch.Tensor) -> None:
    """Let a layer live in `weight` (inputs, outputs) and `bias` (outputs,), with the numbers that it has."""
    weight.copy_(layer.weight.data.mT)
    bias.copy_(layer.bias.data)
    layer.weight.data, layer.bias.data = weight.mT, bias


def _layers(sizes: tuple[int, ...], flat: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Flat numbers as views: weight (inputs, outputs), bias (outputs,) of every layer."""
    parts = torch.split(flat, [count for a, b in pairwise(sizes) for count in (a * b, b)])
    return [
        (weight.view(a, b), bias) for (a, b), weight, bias in zip(pairwise(sizes), parts[::2], parts[1::2], strict=True)
    ]


def _sampled(
    sizes: tuple[int, ...], flat: torch.Tensor, observations: torch.Tensor, noise: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The actor's actions (batch, actions) within +-1 for this noise, and their log likelihood (batch, 1)."""
    hidden = observations
    *layers, (weight, bias) = _layers(sizes, flat)
    for inner, shift in layers:
        hidden = torch.addmm(shift, hidden, inner).relu()
    mean, deviation = torch.addmm(bias, hidden, weight).chunk(2, dim=1)
    deviation = deviation.clamp(LOG_STD_MIN, LOG_STD_MAX)
    actions = (mean + deviation.exp() * noise).tanh()
    gaussian = -(noise * noise / 2 + deviation + math.log(2 * math.pi) / 2)
    return actions, (gaussian - (1 - actions * actions + _INSIDE).log()).sum(1, keepdim=True)


def _smaller_by_action(form: CriticForm, values: torch.Tensor, pairs: torch.Tensor, actions: int) -> torch.Tensor:
    """d min(Q1, Q2) / d action (batch, actions); no gradient of the critics' weights is computed."""
    steps = critic_forward(form, values, pairs, _BOTH)
    first = (steps[-1][0] <= steps[-1][1]).float()
    layers = form.layers(values)
    upstream = torch.stack((first, 1 - first))
    for (weight, _), output in zip(layers[:0:-1], steps[-2:0:-1], strict=True):
        upstream = through_relu(upstream @ weight.mT, output)
    return (upstream @ layers[0][0][:, -actions:].mT).sum(0)
