"""Train a teacher of the paper's size (25-256-256-1) on a pendulum with Stable-Baselines3's SAC.

What made it learn: state-dependent exploration (gSDE), one update every two steps,
gamma 0.98, 30 % of the starts near upright, and a fixed scaling of the observation. The actor's mean is left
unclipped (`clip_mean=0`), so the shipped network is a plain chain of linear layers, ReLU and tanh.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict, fields
from typing import Any

import gymnasium
import numpy as np
import torch
from numpy.typing import NDArray

from export.student_file import Layer, Student, write_student

from .config import in_range
from .environment import EnvironmentSpec
from .errors import DistillError
from .evaluate import REPORT_SEED, SELECTION_SEED
from .network import parameter_count
from .result_file import writable, write_json
from .rollout import Policy, play
from .teach_config import TeachConfig


def _observation_scale(environment: gymnasium.Env[Any, Any], name: str) -> NDArray[np.float32]:
    """What each quantity of a frame is divided by (base,), to bring it to the order of one."""
    scale = environment.unwrapped.metadata.get("observation_scale")
    if scale is None or not hasattr(environment.unwrapped, "history"):
        raise DistillError(
            f"--env {name}: got no observation_scale in its metadata or no history, expected one of "
            "hardware:CartRail-v0, hardware:Edukit-v0, hardware:Qube-v0; train a teacher for others with "
            "Stable-Baselines3 itself"
        )
    return np.array(scale, dtype=np.float32)


def _actor_policy(model: Any, scale: NDArray[np.float32]) -> Policy:
    actor = model.policy.actor
    space = model.action_space

    def act(observations: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.no_grad():
            squashed = actor(torch.from_numpy(observations / scale), deterministic=True).numpy()
        low, high = space.low, space.high
        actions: NDArray[np.float32] = (low + 0.5 * (squashed + 1.0) * (high - low)).astype(np.float32)
        return actions

    return act


def _command(config: TeachConfig) -> str:
    """What trains this teacher again: environment, steps, seed, folder, and every option that is not the default."""
    words = ["python -m distill teach"]
    for field in fields(config):
        value = getattr(config, field.name)
        if field.name in ("env", "steps", "seed", "out") or (field.name != "json" and value != field.default):
            text = " ".join(map(str, value)) if isinstance(value, tuple) else str(value)
            words.append(f"--{field.name.replace('_', '-')} {text}")
    return " ".join(words)


def teach(config: TeachConfig) -> dict[str, Any]:
    """Train, keep the best actor on the selection seeds, report it on unused ones; see `TeachConfig`."""
    from stable_baselines3 import SAC
    from stable_baselines3.common.callbacks import BaseCallback

    if config.steps < config.evaluate_every or config.evaluate_every < 1:
        raise DistillError(
            f"--steps {config.steps} with --evaluate-every {config.evaluate_every}: expected at least one evaluation; "
            "raise --steps or lower --evaluate-every"
        )
    in_range("--steps", config.steps, 1, 1e9)
    in_range("--seed", config.seed, 0, 2**31)
    writable(config.out)
    torch.set_num_threads(1)
    started = time.perf_counter()
    training = EnvironmentSpec(config.env, {"randomise": True, "near_upright_share": config.near_upright_share})
    held_out = EnvironmentSpec(config.env, {"randomise": True})
    environment = training.make()
    frame_scale = _observation_scale(environment, config.env)
    history = int(environment.unwrapped.history)  # type: ignore[attr-defined]  # our pendulums' own attribute
    scale = np.tile(frame_scale, history)
    box = environment.observation_space
    assert isinstance(box, gymnasium.spaces.Box)
    scaled = gymnasium.spaces.Box(box.low / scale, box.high / scale, dtype=np.float32)
    wrapped = gymnasium.wrappers.TransformObservation(
        environment, lambda observation: (observation / scale).astype(np.float32), scaled
    )
    model = SAC(
        "MlpPolicy",
        wrapped,
        learning_rate=lambda remaining: config.learning_rate * (0.1 + 0.9 * remaining),
        buffer_size=config.steps,
        learning_starts=2_000,
        batch_size=256,
        tau=0.01,
        gamma=config.gamma,
        train_freq=8,
        gradient_steps=4,
        ent_coef="auto",
        use_sde=True,
        policy_kwargs={"net_arch": list(config.hidden), "clip_mean": 0.0, "log_std_init": -2.0},
        seed=config.seed,
        device="cpu",
    )
    curve: list[dict[str, float]] = []
    best: dict[str, Any] = {"key": (-1.0, -np.inf), "state": None, "steps": 0}

    class Evaluate(BaseCallback):  # type: ignore[misc]  # Stable-Baselines3 is not typed strictly
        """Plays the selection episodes now and then and remembers the best actor."""

        def _on_step(self) -> bool:
            if self.num_timesteps % config.evaluate_every:
                return True
            seeds = range(SELECTION_SEED, SELECTION_SEED + 50)
            episodes = play(held_out, _actor_policy(model, scale), seeds)
            held = float(np.mean(episodes.held)) if episodes.held is not None else 0.0
            row = {
                "steps": float(self.num_timesteps),
                "return_mean": float(episodes.returns.mean()),
                "return_worst": float(episodes.returns.min()),
                "held": held,
                "seconds": time.perf_counter() - started,
            }
            curve.append(row)
            print(json.dumps(row), file=sys.stderr, flush=True)
            key = (held, row["return_mean"])
            if key > best["key"]:
                best["key"] = key
                best["steps"] = self.num_timesteps
                best["state"] = {name: value.clone() for name, value in model.policy.actor.state_dict().items()}
            return True

    model.learn(config.steps, callback=Evaluate())
    model.policy.actor.load_state_dict(best["state"])
    seeds = range(REPORT_SEED, REPORT_SEED + 100)
    report: dict[str, Any] = {}
    for name, spec in (("randomised", held_out), ("nominal", EnvironmentSpec(config.env, {}))):
        episodes = play(spec, _actor_policy(model, scale), seeds)
        assert episodes.held is not None
        report[name] = {
            "return_mean": float(episodes.returns.mean()),
            "return_worst": float(episodes.returns.min()),
            "held": int(episodes.held.sum()),
            "episodes": len(episodes.held),
        }
    actor = model.policy.actor
    linears = [layer for layer in [*actor.latent_pi, actor.mu] if isinstance(layer, torch.nn.Linear)]
    recorded = {key: value for key, value in asdict(config).items() if key not in ("out", "json")}
    recorded["hidden"] = list(config.hidden)
    target = config.out / "teacher.safetensors"
    facts = held_out.facts()
    network = Student(
        layers=tuple(
            Layer(
                layer.weight.detach().numpy().copy(),
                layer.bias.detach().numpy().copy(),
                "tanh" if index == len(linears) - 1 else "relu",
            )
            for index, layer in enumerate(linears)
        ),
        observation_mean=np.zeros_like(frame_scale),
        observation_scale=frame_scale,
        action_low=facts.action_low,
        action_high=facts.action_high,
        history=facts.history,
        environment=config.env,
        control_period_s=facts.control_period_s,
        observation_names=facts.observation_names,
        action_names=facts.action_names,
        role="teacher",
        config=recorded,
        seed=config.seed,
        evaluation=report,
    )
    config.out.mkdir(parents=True, exist_ok=True)
    write_student(target, network)
    result = {
        "teacher": str(target),
        "command": _command(config),
        "parameters": parameter_count(network),
        "selected_at_steps": int(best["steps"]),
        "evaluation": report,
        "config": recorded,
        "curve": curve,
        "seconds": time.perf_counter() - started,
    }
    write_json(config.out / "teacher.json", result)
    return result
