"""The whole distillation of one teacher: data, Bayesian training, student-driven rounds, pruning, choice, report."""

from __future__ import annotations

import dataclasses
import itertools
import math
import sys
import time
from pathlib import Path
from typing import Any

import torch

from export.compile import build_policy
from export.student_file import Layer, Student, write_student

from .collect import collect
from .config import TrainConfig, environment_spec, in_range
from .dataset import Dataset, read_dataset, write_dataset
from .environment import EnvironmentFacts, EnvironmentSpec
from .errors import DistillError
from .evaluate import LARGEST_EPISODES, TRAINING_SEED, compare
from .network import network_policy
from .priors import LOG_ALPHA_BOUND
from .progress import TrainingProgress
from .replay import Normaliser, Replay
from .result_file import writable, write_json
from .rollout import play
from .select import Candidate, Selection
from .student import BayesianStudent, MaskedStudent
from .teacher import Teacher, read_teacher
from .train import BayesianTraining, Hyperparameters, fine_tune

_THRESHOLDS = (1.0, 2.0, 3.0)
_DRIVING_THRESHOLD = 2.0  # the mask under which the student drives while it is still trained


def check_config(config: TrainConfig) -> None:
    """Refuse impossible numbers before anything is computed.

    Raises:
        DistillError: names the option, what it got and what is possible.
    """
    ranges: dict[str, tuple[float, float]] = {
        "iterations": (1, 1e9),
        "data_weight": (1e-6, 1e12),
        "batch": (1, 1_000_000),
        "learning_rate": (1e-9, 1.0),
        "fine_tune_learning_rate": (1e-9, 1.0),
        "fine_tune_iterations": (0, 1e9),
        "round_iterations": (1, 1e9),
        "round_steps": (1, 1e7),
        "episodes": (1, LARGEST_EPISODES),
        "selection_episodes": (1, LARGEST_EPISODES),  # beyond, choosing and reporting would share episodes
        "evaluation_episodes": (1, LARGEST_EPISODES),
        "noise": (0.0, 10.0),
        "observation_noise": (0.0, 10.0),
        "value_weight": (0.0, 1e6),
        "threshold": (-LOG_ALPHA_BOUND, LOG_ALPHA_BOUND),
        "target_return": (0.01, 2.0),
        "gamma": (0.0, 0.999999),
        "seed": (0, 10_000),  # a seed moves the training episodes by a million
    }
    for name, (low, high) in ranges.items():
        in_range(f"--{name.replace('_', '-')}", getattr(config, name), low, high)
    if not config.hidden or min(config.hidden) < 1 or max(config.hidden) > 65_535:
        raise DistillError(f"--hidden: got {config.hidden}, expected widths from 1 to 65535")


class Distillation:
    """Everything one run shares between its stages."""

    def __init__(self, config: TrainConfig) -> None:
        check_config(config)
        writable(config.out)
        self.config = config
        torch.set_num_threads(1)
        self.seconds: dict[str, float] = {}
        self.curve: list[dict[str, float]] = []
        self.spec: EnvironmentSpec = environment_spec(config.env, config.env_kwargs)
        self.facts: EnvironmentFacts = self.spec.facts()
        self.teacher: Teacher = read_teacher(config.teacher, self.facts, config.activation)
        self.episode_steps = int(self.spec.make().spec.max_episode_steps or 1_000)  # type: ignore[union-attr]  # made by id
        self.round_episodes = math.ceil(config.round_steps / self.episode_steps)
        self.next_seed = TRAINING_SEED * (1 + config.seed)

    def seeds(self, count: int) -> int:
        """Reserve `count` training seeds; returns the first."""
        first = self.next_seed
        self.next_seed += count
        return first

    def dataset(self, progress: TrainingProgress) -> Dataset:
        """Read --dataset, or roll the teacher out."""
        config = self.config
        if config.dataset is not None:
            dataset = read_dataset(config.dataset)
            if dataset.environment != config.env:
                raise DistillError(
                    f"dataset {config.dataset}: was collected in {dataset.environment!r}, --env is {config.env!r}; "
                    "collect one there or name its environment"
                )
            width = dataset.transitions.observations.shape[1], dataset.transitions.teacher_actions.shape[1]
            if width != (self.facts.observation_size, len(self.facts.action_low)):
                raise DistillError(
                    f"dataset {config.dataset}: got {width[0]} inputs and {width[1]} actions, the environment has "
                    f"{self.facts.observation_size} and {len(self.facts.action_low)}; check --env-kwargs"
                )
            return dataset
        progress.stage("collect", config.episodes * self.episode_steps)
        rows = collect(
            self.spec,
            self.teacher.policy,
            episodes=config.episodes,
            first_seed=self.seeds(config.episodes),
            noise=config.noise,
            on_step=progress.advance,
        )
        return Dataset(rows, config.env, self.teacher.sha256, config.seed)

    def as_student(
        self, masked: MaskedStudent, bayesian: BayesianStudent, threshold: float, normaliser: Normaliser
    ) -> Student:
        """The student file's content for one masked network."""
        chain = masked.chain()
        layers = []
        posterior = zip(chain, bayesian.layer_mean, bayesian.log_alphas(), strict=True)
        for index, ((weight, bias), mean, alpha) in enumerate(posterior):
            layers.append(
                Layer(
                    weight=weight.numpy(),
                    bias=bias.numpy(),
                    activation="tanh" if index == len(chain) - 1 else "relu",
                    mean=mean.numpy().copy(),
                    log_alpha=alpha.numpy().copy(),
                )
            )
        recorded = {
            key: str(value) if isinstance(value, Path) else value
            for key, value in dataclasses.asdict(self.config).items()
            if key not in ("out", "json", "teacher", "dataset")  # where files lie must not change the bytes
        } | {"teacher_parameters": self.teacher.parameters}
        return Student(
            layers=tuple(layers),
            observation_mean=normaliser.mean,
            observation_scale=normaliser.scale,
            action_low=self.facts.action_low,
            action_high=self.facts.action_high,
            history=self.facts.history,
            environment=self.config.env,
            control_period_s=self.facts.control_period_s,
            observation_names=self.facts.observation_names,
            action_names=self.facts.action_names,
            threshold=threshold,
            config=recorded,
            parents={"teacher": self.teacher.sha256},
            seed=self.config.seed,
        )


def distil(config: TrainConfig) -> dict[str, Any]:
    """Run everything and write student.safetensors and distill.json into `config.out`; returns the result.

    Raises:
        DistillError: bad options or inputs; student and results are written only at the end.
    """
    started, cpu_started = time.perf_counter(), time.process_time()
    run = Distillation(config)
    value_weight = config.value_weight
    if value_weight is None:
        value_weight = 0.5 if config.states == "dataset" else 0.0
    numbers = Hyperparameters(
        hidden=config.hidden,
        iterations=config.iterations,
        batch=config.batch,
        learning_rate=config.learning_rate,
        data_weight=config.data_weight,
        value_weight=value_weight,
        gamma=config.gamma,
        tau=0.005,
        fine_tune_iterations=config.fine_tune_iterations,
        fine_tune_learning_rate=config.fine_tune_learning_rate,
        observation_noise=config.observation_noise,
    )
    facts = run.facts
    with TrainingProgress() as progress:
        dataset = run.dataset(progress)
        clock = _Clock(run.seconds)
        clock.mark("collect", started)
        normaliser = Normaliser.fit(dataset.transitions.observations, facts.history)
        driven = config.states == "student"
        rounds = (config.iterations + config.fine_tune_iterations) // config.round_iterations + 4 if driven else 0
        capacity = len(dataset.transitions) + rounds * run.round_episodes * run.episode_steps
        replay = Replay(normaliser, facts.history, facts.action_low, facts.action_high, capacity)
        replay.extend(dataset.transitions)
        sizes = (facts.observation_size, *config.hidden, len(facts.action_low))
        training = BayesianTraining(sizes, numbers, config.seed)

        def drive(student: Student) -> float:
            """One student-driven round: play, label, keep; returns the mean return."""
            first = run.seeds(run.round_episodes)
            played = play(
                run.spec,
                network_policy(student),
                range(first, first + run.round_episodes),
                label=run.teacher.policy,
                noise=[0.0 if index % 2 else 0.1 for index in range(run.round_episodes)],
            )
            assert played.transitions is not None
            replay.extend(played.transitions)
            return float(played.returns.mean())

        progress.stage("train", config.iterations)
        weights_total = sum(a * b for a, b in itertools.pairwise(sizes))
        while training.iteration < config.iterations:
            training.step(replay)
            if training.iteration % config.round_iterations == 0:
                loss = training.error
                if not math.isfinite(loss):
                    raise DistillError(
                        f"train: the loss became {loss} at iteration {training.iteration}, expected a finite "
                        "number; lower --learning-rate"
                    )
                student = run.as_student(
                    training.student.masked(_DRIVING_THRESHOLD), training.student, _DRIVING_THRESHOLD, normaliser
                )
                alive = build_policy(student).kept_weights
                row = {"iteration": training.iteration, "kept_weights": alive, "density": alive / weights_total}
                if driven:
                    row["return_mean"] = drive(student)
                run.curve.append({**row, "loss": loss})
                progress.show(loss=loss, density=row["density"], mean_return=row.get("return_mean"))
            progress.advance(1)
        clock.mark("train")

        selection = Selection(run.spec, run.teacher.policy, dataset.transitions.observations, config.selection_episodes)
        candidates: list[Candidate] = []
        thresholds = _THRESHOLDS if config.threshold is None else (config.threshold,)
        progress.stage("fine-tune", len(thresholds) * config.fine_tune_iterations)
        rows, next_seed = len(replay), run.next_seed
        for threshold in thresholds:
            # every threshold starts from the same data and seeds: which others are tried changes nothing
            replay.rewind(rows)
            run.next_seed = next_seed
            masked = training.student.masked(threshold)
            student = run.as_student(masked, training.student, threshold, normaliser)
            candidates.append(selection.score(student, threshold, fine_tuned=False))
            if config.fine_tune_iterations == 0:
                continue

            def refresh(iteration: int, masked: MaskedStudent = masked, threshold: float = threshold) -> None:
                progress.advance(1)
                if driven and iteration % config.round_iterations == 0:
                    drive(run.as_student(masked, training.student, threshold, normaliser))

            fine_tune(masked, replay, numbers, config.seed, refresh)
            tuned = run.as_student(masked, training.student, threshold, normaliser)
            candidates.append(selection.score(tuned, threshold, fine_tuned=True))
        clock.mark("fine_tune")
        chosen = selection.choose(candidates, config.target_return)
        shortcomings = selection.shortcomings(chosen, config.target_return)
        progress.stage("evaluate", None)
        teacher_return, student_return = compare(
            run.spec, run.teacher.policy, build_policy(chosen.student).evaluate_float32, config.evaluation_episodes
        )
        clock.mark("evaluate")

    path = config.out / "student.safetensors"
    if config.dataset is None:
        write_dataset(config.out / "dataset.safetensors", dataset)
    evaluation = {"teacher": teacher_return, "student": student_return, "fine_tuned": chosen.fine_tuned}
    write_student(path, dataclasses.replace(chosen.student, evaluation=evaluation))
    result: dict[str, Any] = {
        "student": str(path),
        "dataset": str(config.dataset or config.out / "dataset.safetensors"),
        "environment": config.env,
        "teacher_parameters": run.teacher.parameters,
        "teacher_kind": run.teacher.kind,
        "kept_weights": chosen.kept_weights,
        "kept_parameters": chosen.kept_parameters,
        "density": chosen.kept_weights / weights_total,
        "threshold": chosen.threshold,
        "fine_tuned": chosen.fine_tuned,
        "target_held": not shortcomings,
        "return_iqm": student_return["iqm"],
        "teacher_return_iqm": teacher_return["iqm"],
        "teacher_return": teacher_return,
        "student_return": student_return,
        "iterations": config.iterations,
        "rows": len(replay),
        "candidates": [candidate.row() for candidate in candidates],
        "curve": run.curve,
        "stage_seconds": run.seconds,
        "cpu_seconds": time.process_time() - cpu_started,
        "seconds": time.perf_counter() - started,
    }
    write_json(config.out / "distill.json", result)
    if shortcomings:
        print(f"warning: no student holds the target; the best one has {'; '.join(shortcomings)}", file=sys.stderr)
    return result


class _Clock:
    """Wall time of each stage."""

    def __init__(self, seconds: dict[str, float]) -> None:
        self._seconds = seconds
        self._last = time.perf_counter()

    def mark(self, stage: str, since: float | None = None) -> None:
        now = time.perf_counter()
        self._seconds[stage] = now - (self._last if since is None else since)
        self._last = now
