"""The ablations that the literature asks of the method: whole curves of return against density, not single points.

Every arm of (a) to (d), (f) and (g) trains on one shared dataset, is never cut by its own threshold, and is then pruned
by rank, with short fine-tuning, to the same densities; only what the arm's letter names differs. Ranks are the method's
own (posterior for Bayesian arms, magnitude for the others), but for the arm that ranks by saliency.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from .ablate_config import AblateConfig
from .config import TrainConfig, in_range
from .datasets.collect import collect
from .datasets.dataset import Dataset, write_dataset
from .evaluate import REPORT_SEED, TRAINING_SEED
from .online import online_rows
from .progress import TrainingProgress
from .result_file import writable, write_json
from .rollout import play
from .source import read_source
from .study import TEACHER_EPISODES, Arm, run_study
from .training.student import Form

DENSITIES = (0.5, 0.35, 0.25, 0.18, 0.12, 0.08, 0.05)
_UNCUT = 8.0  # no log alpha is at or above it after clipping, so ranks alone decide
_SCALES = {"gaussian": (0.03, 0.1, 0.3), "laplace": (0.03, 0.1, 0.3)}  # times half a normalised input's worth
_DATASET_SEED = 9_999  # of the shared dataset: no training seed comes near its episodes


def variants(base: TrainConfig) -> Iterator[tuple[str, str, TrainConfig]]:
    """(letter, name, options) of every arm that trains a student from the dataset."""
    bayesian = replace(base, ranking="posterior")
    yield "a", "log-uniform", bayesian
    yield "a", "log-uniform, exact", replace(bayesian, prior="log-uniform-exact")
    yield "a", "ARD", replace(bayesian, prior="ard")
    yield "a", "group ARD", replace(bayesian, prior="group-ard")
    for prior, scales in _SCALES.items():
        for scale in scales:
            yield "a", f"{prior} {scale:g}", replace(bayesian, prior=prior, prior_scale=scale)  # type: ignore[arg-type]
    yield "a", "uniform, truncated normal", replace(bayesian, prior="uniform-truncated", prior_scale=1.0)
    yield "a", "uniform, flat", replace(bayesian, prior="uniform-flat")
    yield "b", "no critic", bayesian
    # with critics the student moves every second step: twice the iterations are as many steps of the student
    with_critics = replace(bayesian, critic=True, iterations=2 * base.iterations)
    yield "b", "critic, value weight 0", replace(with_critics, value_weight=0.0)
    yield "c", "value weight 0.5", replace(with_critics, value_weight=0.5)
    yield "d", "saliency instead of the posterior's ranks", replace(base, ranking="saliency")
    for weight in (1e3, 1e4, 1e5):
        yield "d", f"L1, |D| {weight:.0e}", replace(base, method="l1", ranking="magnitude", data_weight=weight)
    yield "d", "gradual magnitude pruning", replace(base, method="magnitude", ranking="magnitude")
    for threshold in (1.0, 2.0, 3.0, 4.0):
        cut = replace(bayesian, threshold=threshold, kept_weights=(), fine_tune_iterations=0)
        yield "e", f"threshold {threshold:g}, not fine-tuned", cut
    yield "f", "official noise", replace(bayesian, noise="official")
    yield "g", "annealing: constant", replace(bayesian, annealing="constant")
    yield "g", "annealing: cosine", replace(bayesian, annealing="cosine")
    yield "g", "annealing: late", replace(bayesian, annealing="late")


def ablate(config: AblateConfig) -> dict[str, Any]:
    """Run every arm that is not finished; write ablations.json and return what it says.

    Raises:
        DistillError: bad options, or the first arm that fails; what was finished stays.
    """
    in_range("--seeds", config.seeds, 1, 100)
    in_range("--jobs", config.jobs, 1, 1_024)
    in_range("--online-steps", config.online_steps, 0, 1e9)
    writable(config.out)
    dataset = _shared_dataset(config)
    spec, facts, teacher = read_source(config)
    weights = Form((facts.observation_size, *config.hidden, len(facts.action_low))).weights
    base = TrainConfig(
        teacher=config.teacher,
        vecnormalize=config.vecnormalize,
        env=config.env,
        env_kwargs=config.env_kwargs,
        activation=config.activation,
        wrapper=config.wrapper,
        frame_stack=config.frame_stack,
        dataset=dataset,
        states="dataset",
        value_weight=0.0,
        critic=False,
        hidden=config.hidden,
        iterations=config.iterations,
        data_weight=config.data_weight,
        threshold=_UNCUT,
        kept_weights=tuple(round(density * weights) for density in DENSITIES),
        shrink=0.7,
        fine_tune_iterations=2_000,
        fine_tune_doublings=0,
        selection_episodes=1,  # nothing is selected
        evaluation_episodes=1,
    )
    arms, letters = [], {}
    for letter, name, options in variants(base):
        if letter not in config.letters:
            continue
        letters[name] = letter
        for seed in range(config.seeds):
            folder = config.out / "arms" / name.replace(" ", "-").replace(",", "").replace("|", "") / f"seed{seed}"
            arms.append(Arm(config.env, name, replace(options, seed=seed, out=folder)))
    rows = [{**row, "ablation": letters[row["method"]]} for row in run_study(arms, config.jobs)]
    if "h" in config.letters and config.online_steps:
        rows += online_rows(config, spec, teacher)
    seeds = range(REPORT_SEED, REPORT_SEED + TEACHER_EPISODES)
    result = {
        "environment": config.env,
        "teacher": config.teacher.name,
        "dense_weights": weights,
        "seeds": config.seeds,
        "iterations": config.iterations,
        "teacher_returns": play(spec, teacher.policy, seeds).returns.tolist(),
        "rows": rows,
    }
    write_json(config.out / "ablations.json", result)
    return {**result, "file": str(config.out / "ablations.json")}


def _shared_dataset(config: AblateConfig) -> Path:
    """The dataset of all arms; collected once."""
    path = config.out / "dataset.safetensors"
    if path.is_file():
        return path
    spec, _, teacher = read_source(config, say_notes=False)
    with TrainingProgress() as progress:
        progress.stage("collect", None)
        rows = collect(
            spec,
            teacher.policy,
            episodes=config.episodes,
            first_seed=TRAINING_SEED * (1 + _DATASET_SEED),
            exploration_noise=config.exploration_noise,
            on_step=progress.advance,
        )
    write_dataset(path, Dataset(rows, config.env, teacher.sha256, _DATASET_SEED))
    return path
