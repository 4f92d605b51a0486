"""Critics out of a zip say what Stable-Baselines3's own say, and what is none is refused."""

from __future__ import annotations

from pathlib import Path

import gymnasium
import numpy as np
import pytest
import torch

from distill.errors import DistillError
from distill.teachers.critics import read_critics


def saved(folder: Path, algorithm: str) -> tuple[Path, torch.nn.Module]:
    import sb3_contrib
    import stable_baselines3

    kind = getattr(stable_baselines3, algorithm, None) or getattr(sb3_contrib, algorithm)
    model = kind("MlpPolicy", gymnasium.make("Pendulum-v1"), policy_kwargs={"net_arch": [16, 8]}, seed=1, device="cpu")
    path = folder / f"{algorithm}.zip"
    model.save(path)
    return path, model.policy


@pytest.mark.parametrize("algorithm", ["SAC", "TQC", "TD3", "DDPG"])
def test_values_and_gradients_are_the_zips_own(tmp_path: Path, algorithm: str) -> None:
    path, policy = saved(tmp_path, algorithm)
    critics = read_critics(path, None, None, 4)
    generator = torch.Generator().manual_seed(0)
    observations, actions = torch.randn(9, 3, generator=generator), torch.rand(9, 1, generator=generator) * 2 - 1
    moved = actions.clone().requires_grad_()
    found = policy.critic(observations, moved)
    stacked = (
        found if isinstance(found, torch.Tensor) else torch.stack(found, dim=1)
    )  # TQC: (batch, critics, quantiles)
    expected = stacked.mean(dim=-1).amin(dim=-1) if algorithm == "TQC" else stacked.squeeze(-1).amin(dim=-1)
    torch.testing.assert_close(critics.values(observations, actions), expected.detach())
    (gradient,) = torch.autograd.grad(expected.sum(), moved)
    torch.testing.assert_close(critics.by_action(observations, actions), gradient)
    assert len(critics.networks) == (1 if algorithm == "DDPG" else 2)


def test_what_has_no_action_values_is_refused(tmp_path: Path) -> None:
    path, _ = saved(tmp_path, "PPO")
    with pytest.raises(DistillError, match=r"PPO\.zip holds no action values, expected a SAC, TQC"):
        read_critics(path, None, None, 4)
    path, _ = saved(tmp_path, "SAC")
    with pytest.raises(DistillError, match=r"those of SAC\.zip take 4 inputs, expected 14"):
        read_critics(path, None, None, 14)
    with pytest.raises(DistillError, match="got --vecnormalize"):
        read_critics(path, tmp_path / "statistics.pkl", None, 4)
    matrices = tmp_path / "plain.npz"
    np.savez(matrices, w0=np.zeros(3))
    with pytest.raises(DistillError, match=r"got plain\.npz, expected a SAC"):
        read_critics(matrices, None, None, 4)
