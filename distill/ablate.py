"""The ablations that the literature asks of the method: whole curves of return against density, not single points.

Every arm but (e) and (h) trains on one shared dataset, is not cut by a threshold, and is then pruned by rank, with
short fine-tuning, to the same densities; only what the arm's letter names differs. Ranks are the method's own
(posterior for Bayesian arms, magnitude for the others), but for the arm that ranks by saliency. (e) cuts the posterior
of the log-uniform arm at thresholds, without fine-tuning; what (b), (d), (f) and (g) are compared with *is* that arm,
under the name of what it has there. An arm of (d) that has fewer weights left than a density asks for stands for that
density with what it has (`pruned_to` in its rows).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from .ablate_config import AblateConfig
from .config import TrainConfig, in_range
from .datasets.collect import collect
from .datasets.dataset import Dataset, write_dataset
from .errors import DistillError
from .evaluate import LARGEST_EPISODES, REPORT_SEED, SELECTION_SEED, TRAINING_SEED, interquartile_mean
from .identity import Identities, as_json
from .online import online_rows
from .progress import TrainingProgress
from .result_file import read_json, writable, write_json
from .source import read_source
from .study import EPISODES, Arm, run_study, teacher_returns, teacher_returns_path
from .train_options import check_config
from .training.student import Form

LETTERS = "abcdefgh"
DENSITIES = (0.5, 0.25, 0.12, 0.08, 0.05, 0.03, 0.02)  # down to where the good arms lose the return
THRESHOLDS = (1.0, 2.0, 3.0, 4.0)
_UNCUT = 20.0  # no log alpha comes near it, so ranks alone decide
_SCALES = {"gaussian": (0.03, 0.1, 0.3), "laplace": (0.03, 0.1, 0.3)}  # of weights on standardised inputs
_L1_DATA_WEIGHTS = (5e3, 3e4, 2e5)  # leave about 6 %, 25 % and 60 % of the weights of a 64-64 student of Hopper
_DATASET = "dataset.safetensors"
_DATASET_SEED = 9_999  # of the shared dataset: beyond the seeds that arms may have
_SHOWN = ("iterations", "fine_tune_iterations", "data_weight", "hidden", "episodes", "exploration_noise", "seeds")


def variants(base: TrainConfig, half_square: float) -> Iterator[tuple[str, str, TrainConfig]]:
    """(letter, name, options) of every arm that trains a student from the dataset; equal options are one training.

    `half_square`: mean over the actions of the square of half their range, in the environment's units.
    """
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
    yield "c", "critic, value weight 0", replace(with_critics, value_weight=0.0)
    yield "c", "critic, value weight 0.5", replace(with_critics, value_weight=0.5)
    yield "d", "Bayesian, the posterior's ranks", bayesian
    yield "d", "saliency instead of the posterior's ranks", replace(base, ranking="saliency")
    defaults = TrainConfig()  # of what deterministic students never read
    plain = replace(base, ranking="magnitude", threshold=defaults.threshold)
    for weight in _L1_DATA_WEIGHTS:
        yield "d", f"L1, |D| {weight:.0e}", replace(plain, method="l1", data_weight=weight)
    yield "d", "gradual magnitude pruning", replace(plain, method="magnitude", data_weight=defaults.data_weight)
    # raw actions make the data term half_square times as large; |D| takes that back, so that the noise is compared
    official = replace(bayesian, noise="official", data_weight=base.data_weight / half_square)
    yield "f", "correct", bayesian
    yield "f", "official: noise, initial means N(0, 0.02^2), raw actions", official
    yield "g", "annealing: linear", bayesian
    yield "g", "annealing: constant", replace(bayesian, annealing="constant")
    yield "g", "annealing: cosine", replace(bayesian, annealing="cosine")
    yield "g", "annealing: late", replace(bayesian, annealing="late")


def ablate(config: AblateConfig) -> dict[str, Any]:
    """Run every arm that is not finished; write ablations.json and return what it says.

    Raises:
        DistillError: bad options, or the first arm that fails; what was finished stays.
    """
    _check(config)
    spec, facts, teacher = read_source(config)
    weights = Form((facts.observation_size, *config.hidden, len(facts.action_low))).weights
    base = replace(_base(config), kept_weights=_sizes(config, weights))
    half = (facts.action_high.astype(float) - facts.action_low) / 2
    found = list(variants(base, float((half * half).mean())))
    for _, _, options in found:
        check_config(options)
    writable(config.out)
    identities = Identities()
    if set(config.letters) != {"h"}:
        _make_dataset(config, identities)
    rows = _rows(config, found)
    returns = teacher_returns(config, teacher_returns_path(config.out / "arms", identities.source(config)))
    if "h" in config.letters and config.online_steps:
        rows += online_rows(config, spec, teacher, interquartile_mean(returns))
    result = {
        "environment": config.env,
        "teacher": config.teacher.name,
        **as_json({"source": identities.source(config)}),
        "dense_weights": weights,
        "seeds": config.seeds,
        "iterations": config.iterations,
        "options": as_json({name: getattr(config, name) for name in _SHOWN}),
        "sources": sorted({row["sources"] for row in rows}),
        "teacher_returns": returns.tolist(),
        "rows": rows,
    }
    write_json(config.out / "ablations.json", result)
    return {**result, "file": str(config.out / "ablations.json")}


def _check(config: AblateConfig) -> None:
    unknown = sorted(set(config.letters) - set(LETTERS))
    if unknown or not config.letters:
        raise DistillError(
            f"--letters: got {config.letters!r}, expected some of {', '.join(LETTERS)}; "
            "`python -m distill ablate --help` says what each compares"
        )
    in_range("--seeds", config.seeds, 1, (SELECTION_SEED - REPORT_SEED) // EPISODES)
    in_range("--jobs", config.jobs, 1, 1_024)
    in_range("--online-steps", config.online_steps, 0, 1e9)
    if set(config.letters) == {"h"} and not config.online_steps:
        raise DistillError("--online-steps: got 0 with --letters h, expected at least 1; raise it or name more letters")
    in_range("--episodes", config.episodes, 1, LARGEST_EPISODES)
    in_range("--exploration-noise", config.exploration_noise, 0.0, 10.0)
    in_range("--fine-tune-iterations", config.fine_tune_iterations, 1, 1e9)
    check_config(_base(config))


def _base(config: AblateConfig) -> TrainConfig:
    """What all arms have in common, but for the sizes that they visit."""
    return TrainConfig(
        teacher=config.teacher,
        vecnormalize=config.vecnormalize,
        env=config.env,
        env_kwargs=config.env_kwargs,
        activation=config.activation,
        wrapper=config.wrapper,
        frame_stack=config.frame_stack,
        dataset=config.out / _DATASET,
        states="dataset",
        value_weight=0.0,
        critic=False,
        hidden=config.hidden,
        iterations=config.iterations,
        data_weight=config.data_weight,
        threshold=_UNCUT,
        shrink=0.7,
        fine_tune_iterations=config.fine_tune_iterations,
        fine_tune_doublings=0,
        selection_episodes=1,  # nothing is selected
        evaluation_episodes=1,
    )


def _sizes(config: AblateConfig, weights: int) -> tuple[int, ...]:
    sizes = tuple(round(density * weights) for density in DENSITIES)
    if len(set(sizes)) < len(sizes) or sizes[-1] < 1:
        raise DistillError(
            f"--hidden: got {config.hidden}, which makes {weights} weights and sizes of "
            f"{', '.join(map(str, sizes))}, expected {len(sizes)} different ones from 1; name wider layers"
        )
    return sizes


def _rows(config: AblateConfig, found: list[tuple[str, str, TrainConfig]]) -> list[dict[str, Any]]:
    """Rows of (a) to (g): every different set of options is trained once and stands in all letters that have it."""
    names: dict[TrainConfig, str] = {}  # of an arm's first letter, which is its folder's
    for _, name, options in found:
        names.setdefault(options, name)
    cut = found[0][2]  # (e)'s students
    wanted = {options for letter, _, options in found if letter in config.letters}
    wanted |= {cut} if "e" in config.letters else set()
    arms = [
        Arm(
            config.env,
            name,
            replace(options, seed=seed, out=config.out / "arms" / _folder(name) / f"seed{seed}"),
            thresholds=THRESHOLDS if options == cut else (),
        )
        for options, name in names.items()
        if options in wanted
        for seed in range(config.seeds)
    ]
    rows = run_study(arms, config.jobs)
    shown = [
        {**row, "method": name, "ablation": letter}
        for letter, name, options in found
        if letter in config.letters
        for row in rows
        if row["method"] == names[options] and row["threshold"] is None
    ]
    if "e" in config.letters:
        shown += [  # what the thresholds are held against: the same students, ranked and fine-tuned
            {**row, "method": found[0][1], "ablation": "e"}
            for row in rows
            if row["method"] == names[cut] and row["threshold"] is None
        ]
        shown += [
            {**row, "method": f"threshold {row['threshold']:g}, not fine-tuned", "ablation": "e"}
            for row in sorted(rows, key=lambda row: (row["threshold"] or 0.0, row["seed"]))
            if row["threshold"] is not None
        ]
    return shown


def _folder(name: str) -> str:
    return "-".join("".join(letter if letter.isalnum() or letter in ".+" else " " for letter in name).split())


def _make_dataset(config: AblateConfig, identities: Identities) -> None:
    """The dataset of all arms; collected once, and again for another teacher, environment or number of episodes."""
    path, beside = config.out / _DATASET, config.out / "dataset.json"
    numbers = {"episodes": config.episodes, "exploration_noise": config.exploration_noise, "seed": _DATASET_SEED}
    wanted = as_json({**identities.source(config), **numbers})
    if path.is_file() and beside.is_file() and read_json(beside) == wanted:
        return
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
    beside.unlink(missing_ok=True)  # only now: a collection that fails leaves the earlier dataset as good as it was
    write_dataset(path, Dataset(rows, config.env, teacher.sha256, _DATASET_SEED))
    write_json(beside, wanted)
