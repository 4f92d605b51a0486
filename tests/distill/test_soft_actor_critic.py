"""The fused soft actor-critic against Stable-Baselines3's own."""

import math
import shutil

import gymnasium
import numpy as np
import pytest
import torch
from stable_baselines3 import SAC

from distill.training.soft_actor_critic import SoftActorCritic

STEPS = 140  # of which the last forty train
HIDDEN, CRITICS = (16, 8), (32, 24)


def learned(model: SAC) -> SAC:
    torch.set_num_threads(1)
    return model.learn(STEPS)


no_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler")


@pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=no_compiler)])
def test_an_update_is_stable_baselines_own(compiled: bool, capfd) -> None:
    environment = "InvertedPendulum-v5"
    ours = learned(SoftActorCritic(gymnasium.make(environment), HIDDEN, CRITICS, 3, compiled=compiled))
    widths = {"net_arch": {"pi": list(HIDDEN), "qf": list(CRITICS)}}
    theirs = learned(SAC("MlpPolicy", gymnasium.make(environment), policy_kwargs=widths, seed=3, device="cpu"))
    before = SAC("MlpPolicy", gymnasium.make(environment), policy_kwargs=widths, seed=3, device="cpu").policy
    wanted, got, start = (each.state_dict() for each in (theirs.policy, ours.policy, before))
    assert wanted.keys() == got.keys()
    for name, values in wanted.items():
        assert (values - start[name]).abs().max() > 1e-3 * (0.1 if "target" in name else 1)
        assert torch.allclose(got[name], values, atol=2e-5), name
    assert math.isclose(ours.log_ent_coef.item(), theirs.log_ent_coef.item(), abs_tol=1e-6)
    assert theirs.log_ent_coef.item() < -0.005
    assert "could not be compiled" not in capfd.readouterr().err


def test_a_saved_one_is_read_as_any(tmp_path) -> None:
    model = learned(SoftActorCritic(gymnasium.make("InvertedPendulum-v5"), HIDDEN, CRITICS, 0, compiled=False))
    model.save(tmp_path / "model.zip")
    read = SAC.load(tmp_path / "model.zip", device="cpu")
    observation = np.linspace(-0.5, 0.5, 4, dtype=np.float32)
    actions = [each.predict(observation, deterministic=True)[0] for each in (model, read)]
    assert np.array_equal(*actions)
