"""The whole distillation of one teacher: data, training, shrinking with student-driven rounds, choice, report.

A run is a sequence of rounds; between any two it can be cut off and go on to the same bytes (checkpoint.py).
"""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from export.student_file import Student, write_student

from .checkpoint import Checkpoint
from .config import ShrinkConfig, TrainConfig
from .datasets.dataset import write_dataset
from .datasets.replay import Normaliser, Replay
from .drive import Driver
from .environment import Array
from .errors import DistillError
from .evaluate import TRAINING_SEED
from .folder_lock import FolderLock
from .plan import Plan, Rung
from .progress import TrainingProgress
from .report import refuse_obstacles, write_results
from .result_file import read_json, writable
from .rollout import longest_episode
from .rows import collect_rows, read_rows
from .scalars import Scalars
from .select import Candidate, Selection
from .shrink import Ranked, importance, layers_of, shrink
from .shrinking import Shrinking, under
from .source import read_error_costs, read_source
from .teachers.error_costs import ErrorCosts
from .train_options import check_config, recorded_options
from .training.descent import Descent, Step, Streams, TakesSteps
from .training.learner import Learner, compiled, make_learner
from .training.sparse_network import SparseNetwork
from .training.student import Form

_FINE_TUNING = 1_000_000  # its random streams are none of any training seed
_SALIENCY_ROWS = 20_000  # observations on which a weight's saliency is taken


class Distillation:
    """One run of one seed.

    `Refinement` (refinement/refinement.py) begins with a student instead of training one: what it replaces are the
    methods from `_learner` to `_taking_steps`.
    """

    starts_fine_tuned = False  # whether the network that shrinking begins with could be shipped as it is

    def __init__(self, config: TrainConfig, progress: TrainingProgress) -> None:
        check_config(config)
        writable(config.out)
        refuse_obstacles(config.out)
        torch.set_num_threads(1)
        self.config = config
        self.progress = progress
        self.curve: list[dict[str, float]] = []
        self.told: dict[str, Any] = {}  # what a subclass adds to distill.json
        self.seconds: dict[str, float] = {}
        self.cpu_seconds = 0.0  # of the parts of the run before it was resumed
        self.spec, self.facts, self.teacher = read_source(config)
        self.driver = Driver(
            self.spec,
            self.teacher.policy,
            TRAINING_SEED * (1 + config.seed) + config.episodes,
            steps=config.round_steps,
            episode_steps=longest_episode(self.spec),
        )
        self.driven = config.states == "student"
        self._weigh = self._error_costs()
        self.told["cost_sensitive"] = self._weigh is not None
        self.learner = self._learner()
        form = Form((self.facts.observation_size, *config.hidden, len(self.facts.action_low)))
        if any(size > form.weights for size in config.kept_weights):
            raise DistillError(
                f"--kept-weights: got {max(config.kept_weights)}, the student has {form.weights} weights before "
                "pruning; name a smaller size or raise --hidden"
            )
        self._step = Step(
            form,
            batch=config.batch,
            observation_noise=config.observation_noise,
            compiled=compiled(config),
        )
        self.scalars = Scalars(config.out / "tensorboard" if config.tensorboard else None)
        self.options = self._options()
        self.checkpoint = Checkpoint(config.out / "checkpoint", self.options)
        self.steps = 0  # of training and fine-tuning
        self._cpu_started = cpu_seconds()
        self._stage_started = time.perf_counter()
        self._streams = Streams(_FINE_TUNING + config.seed)
        self.shrinking: Shrinking | None = None

    def way_on(self, student: Path) -> str:
        """Ends the warning of a student that misses the target: what may still reach it."""
        source = f"--teacher {self.config.teacher} --env {self.config.env}"
        search = "--mask fixed --fine-tune-iterations 0 --search policy-gradient"
        return f"; to climb the return from it: python -m distill refine {student} {source} {search}"

    def finished(self) -> dict[str, Any] | None:
        """The results of this very run, if it is over; None if it is not, or never began.

        Raises:
            DistillError: the run that is over had other options.
        """
        path = self.config.out / "distill.json"
        if self.checkpoint.exists() or not path.is_file():
            return None
        stored = read_json(path, "options")
        if stored.get("options") != json.loads(json.dumps(self.options)):
            raise DistillError(
                f"--resume: {path} is the result of other options, expected an unfinished run or these ones; "
                "start over without --resume"
            )
        if not Path(stored["student"]).is_file():
            raise DistillError(
                f"--resume: {stored['student']}: no such file, expected the student of the run that is over; start "
                "over without --resume"
            )
        return stored

    def run(self) -> dict[str, Any]:
        """All stages; returns what distill.json says."""
        saved = self.checkpoint.load() if self.config.resume else None
        if saved is None and self.checkpoint.exists():
            folder = self.checkpoint.folder
            print(f"note: this run takes the place of the unfinished one in {folder}", file=sys.stderr)
        self.prepare(collected=saved is not None)
        if saved is not None:
            for rows in self.checkpoint.rounds(self.dataset.transitions):
                self.replay.extend(rows)
            try:
                self._restore(*saved)
            except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
                raise self.checkpoint.damaged(" ".join(repr(error).split())[:200]) from error
        self._train()
        self.selection = Selection(
            self.spec,
            self.teacher.policy,
            self.dataset.transitions.observations,
            self.config.selection_episodes,
        )
        self._shrink()
        self.mark("shrink")
        self._last_stage()
        return write_results(self)

    def _learner(self) -> Learner:
        return make_learner(self.config, self.facts)

    def _error_costs(self) -> ErrorCosts | None:
        """What --cost-sensitive asks for; the published code weighs all errors the same."""
        if self.config.cost_sensitive is None and self.config.noise == "official":
            return None
        return read_error_costs(self.config, self.facts)

    def _options(self) -> dict[str, Any]:
        """What must agree for a run to be resumed."""
        return recorded_options(self.config) | {"teacher": self.teacher.sha256}

    def _normaliser(self, observations: Array) -> Normaliser:
        normaliser = Normaliser.fit(observations, self.facts.history)
        if self.config.normalise:
            return normaliser
        return Normaliser(normaliser.mean * 0, normaliser.scale * 0 + 1)

    def _last_stage(self) -> None:
        """What comes between the last size and the choice."""

    def _more_state(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        """What a subclass adds to the checkpoint of a run that shrinks."""
        return {}, {}

    def _restore_more(self, tensors: dict[str, torch.Tensor], figures: dict[str, Any]) -> None:
        """Go back to a `_more_state()`."""

    def _student_metadata(self) -> tuple[dict[str, Any], dict[str, str]]:
        """The configuration and the parents that a student file records."""
        configuration = recorded_options(self.config) | {"teacher_parameters": self.teacher.chain.parameters}
        return configuration, {"teacher": self.teacher.sha256, "dataset": self.dataset_sha256}

    def _taking_steps(self) -> TakesSteps:
        """What fine-tuning at a mask does at each iteration."""
        return self._step

    def prepare(self, *, collected: bool = False) -> None:
        """Dataset, normaliser and replay; an earlier run's checkpoint goes once there is something to put there."""
        own = self.checkpoint.folder / "dataset.safetensors"
        if self.config.dataset is None:
            self._own_rows(own, collected=collected)
        self.dataset = read_rows(self.config, self.facts, self.teacher, own)
        if self.config.dataset is not None and not collected:
            self.checkpoint.clear()
        self.dataset_sha256 = self.dataset.digest()
        self.normaliser = self._normaliser(self.dataset.transitions.observations)
        self.replay = Replay(
            self.normaliser,
            self.facts.history,
            self.facts.action_low,
            self.facts.action_high,
            self._weigh,
        )
        self.replay.extend(self.dataset.transitions)
        self.mark("collect")

    def _own_rows(self, path: Path, *, collected: bool) -> None:
        if not collected:
            rows = collect_rows(self.config, self.spec, self.teacher, self.progress)
            self.checkpoint.clear()
            write_dataset(path, rows)
        elif not path.is_file():
            raise DistillError(
                f"--resume: {path}: no such file, expected the rows that the run began with; start over without "
                "--resume"
            )

    def _train(self) -> None:
        """Train from scratch until the first cut; does nothing in a run that was resumed later."""
        config, learner = self.config, self.learner
        self.progress.stage("train", config.iterations, done=learner.iteration)
        while learner.iteration < config.iterations:
            learner.step(self.replay)
            self.steps = learner.iteration
            self.progress.advance(1)
            if learner.iteration % config.round_iterations == 0:
                self.between_rounds()
        self._finite(learner.error, learner.iteration)
        self.mark("train")

    def between_rounds(self) -> None:
        """Look at the loss, let the student drive, and save: what a run does between two stretches of training."""
        learner = self.learner
        self._finite(learner.error, learner.iteration)
        self._round(learner.pruned(self.config.threshold)[0], learner.error)
        self.save()

    def _shrink(self) -> None:
        """Prune a little, fine-tune, judge, repeat, as the plan says."""
        config = self.config
        if self.shrinking is None:
            network, ranked = self.learner.pruned(config.threshold)
            plan = self._plan()
            self.shrinking = Shrinking(network, ranked, plan, plan.first(network.kept), None, [])
            self._judge(fine_tuned=self.starts_fine_tuned)
        run = self.shrinking
        while run.rung is not None:
            if run.descent is None:
                self._cut(run, run.rung.keep)
                run.descent = self._descent(run.network, run.rung)
            self.progress.stage(f"{run.network.kept} weights", run.rung.iterations, done=run.descent.iteration)
            while run.descent.iteration < run.rung.iterations:
                if run.descent.iteration % config.round_iterations == 0:
                    if run.descent.iteration > 0:
                        self._finite(run.descent.error, run.descent.iteration)
                        self.save()
                    self._round(run.network, run.descent.error)
                run.descent.step(self.replay)
                self.steps += 1
                self.progress.advance(1)
            self._finite(run.descent.error, run.descent.iteration)
            holds = False
            if run.rung.judged:
                candidate = self._judge(fine_tuned=True)
                holds = not self.selection.loses(candidate, config.target_return)
            run.rung = run.plan.following(run.rung, holds=holds)
            run.descent = None
            self.save()

    def _cut(self, run: Shrinking, keep: int) -> None:
        if keep >= run.network.kept:
            return
        batch = self.replay.sample(_SALIENCY_ROWS, self._streams.generator, transitions=False, newest=self._newest())
        ranked = run.ranked or Ranked(run.network.weight.clone(), torch.zeros_like(run.network.weight))
        score = importance(run.network, ranked, self.config.ranking, batch)
        record = shrink(run.network, ranked, score, keep=keep, threshold=self.config.threshold)
        if run.ranked is not None:
            run.ranked = record

    def _newest(self) -> int | None:
        return self.config.recent_rows if self.driven else None

    def _descent(self, network: SparseNetwork, rung: Rung) -> Descent:
        return Descent(
            network,
            self._taking_steps(),
            self._streams,
            iterations=rung.iterations,
            learning_rate=self.config.fine_tune_learning_rate,
            newest=self._newest(),
        )

    def _judge(self, *, fine_tuned: bool) -> Candidate:
        """Score the network as it is and keep its file."""
        run = self.shrinking
        assert run is not None
        error = run.descent.error if run.descent is not None else self.learner.error
        student = self._student(run.network, run.ranked)
        return self.score(student, size=run.network.kept, error=error, fine_tuned=fine_tuned)

    def score(self, student: Student, *, size: int, error: float, fine_tuned: bool) -> Candidate:
        """Make a student a candidate: play the selection episodes and keep its file."""
        run = self.shrinking
        assert run is not None
        candidate = self.selection.score(
            student,
            f"{len(run.candidates):02d}.safetensors",
            size=size,
            error=error,
            fine_tuned=fine_tuned,
            steps=self.steps,
            cpu_seconds=self.cpu(),
        )
        write_student(self.sizes_folder / candidate.name, student)
        run.candidates.append(candidate)
        self.scalars.add(self.steps, selection_iqm=candidate.summary["iqm"])
        return candidate

    def _round(self, network: SparseNetwork, loss: float) -> None:
        """One student-driven round, where there are any, and a row of the curve."""
        row: dict[str, float] = {"iteration": self.steps, "loss": loss, "kept_weights": network.kept}
        if self.driven:
            row["return_mean"], rows = self.driver.round(self._student(network, None), self.replay)
            self.checkpoint.add_rows(rows)
        self.curve.append(row)
        self.scalars.add(self.steps, **row)
        density = network.kept / network.form.weights
        self.progress.show(loss=loss, density=density, mean_return=row.get("return_mean"))

    def _finite(self, loss: float, iteration: int) -> None:
        if not math.isfinite(loss):
            raise DistillError(
                f"train: the loss became {loss} at iteration {iteration}, expected a finite number; lower "
                "--learning-rate or --fine-tune-learning-rate"
            )

    @property
    def sizes_folder(self) -> Path:
        """Where candidates lie until the results are written."""
        return self.checkpoint.folder / "sizes"

    def save(self) -> None:
        """Write the checkpoint: everything between two rounds."""
        figures: dict[str, Any] = {
            "iteration": self.learner.iteration,
            "error": self.learner.error,
            "steps": self.steps,
            "dataset": self.dataset_sha256,
            "next_seed": self.driver.next_seed,
            "curve": self.curve,
            "cpu_seconds": self.cpu(),
            "seconds": self.seconds,
        }
        run = self.shrinking
        if run is None:
            self.checkpoint.save({f"learner.{name}": value for name, value in self.learner.state().items()}, figures)
            return
        own, figures["shrinking"] = run.state()
        more, figures["more"] = self._more_state()
        tensors = own | {f"more.{name}": value for name, value in more.items()}
        tensors |= {f"streams.{name}": value for name, value in self._streams.state().items()}
        self.checkpoint.save(tensors, figures)

    def _restore(self, tensors: dict[str, torch.Tensor], figures: dict[str, Any]) -> None:
        """Go back to what `save` wrote."""
        if figures["dataset"] != self.dataset_sha256:
            raise DistillError(
                f"--resume: the run in {self.config.out} trained on other rows than {self.config.dataset} holds, "
                "expected the same dataset; name that one, or start over without --resume"
            )
        self.driver.next_seed, self.steps = figures["next_seed"], figures["steps"]
        self.curve, self.cpu_seconds, self.seconds = figures["curve"], figures["cpu_seconds"], figures["seconds"]
        state = figures.get("shrinking")
        if state is None:
            self.learner.restore(under(tensors, "learner"), figures["iteration"], figures["error"])
            return
        self.learner.skip(figures["iteration"])
        self._restore_more(under(tensors, "more"), figures["more"])
        self._streams.restore(under(tensors, "streams"))
        network = self.learner.pruned(self.config.threshold)[0]
        self.shrinking = Shrinking.restored(tensors, state, network=network, plan=self._plan(), descent=self._descent)
        for candidate in self.shrinking.candidates:
            if not (self.sizes_folder / candidate.name).is_file():
                raise DistillError(
                    f"--resume: {self.sizes_folder / candidate.name}: no such file, expected the student that the run "
                    "kept there; start over without --resume"
                )

    def _plan(self) -> Plan:
        config = self.config
        return Plan(
            sizes=config.kept_weights,
            factor=config.shrink,
            iterations=config.fine_tune_iterations,
            doublings=config.fine_tune_doublings,
        )

    def _student(self, network: SparseNetwork, ranked: Ranked | None) -> Student:
        """The student file's content for one network."""
        facts = self.facts
        configuration, parents = self._student_metadata()
        return Student(
            layers=layers_of(network, ranked),
            observation_mean=self.normaliser.mean,
            observation_scale=self.normaliser.scale,
            action_low=facts.action_low,
            action_high=facts.action_high,
            history=facts.history,
            environment=self.config.env,
            control_period_s=facts.control_period_s,
            observation_names=facts.observation_names,
            action_names=facts.action_names,
            threshold=self.config.threshold if ranked else None,
            config=configuration,
            parents=parents,
            seed=self.config.seed,
        )

    def charge(self, seconds: float) -> None:
        """Count so much CPU time for everything so far: runs that trained together share what it took."""
        self.cpu_seconds, self._cpu_started = seconds, cpu_seconds()

    def cpu(self) -> float:
        """CPU seconds of the run so far, its parts before a resumption included."""
        return self.cpu_seconds + cpu_seconds() - self._cpu_started

    def mark(self, stage: str) -> None:
        """Add the wall time since the last mark to a stage."""
        now = time.perf_counter()
        self.seconds[stage] = self.seconds.get(stage, 0.0) + now - self._stage_started
        self._stage_started = now


def cpu_seconds() -> float:
    """CPU time of this process and of the ones it has waited for (compiling, rolling out)."""
    return sum(os.times()[:4])


def distil(config: TrainConfig) -> dict[str, Any]:
    """Run everything and write student.safetensors, distill.json and sizes/ into `config.out`; returns the result.

    Raises:
        DistillError: bad options or inputs; earlier results stay in place until new ones are whole.
    """
    check_config(config)
    return carry_out(config, lambda progress: Distillation(config, progress))


def carry_out(config: ShrinkConfig, make: Callable[[TrainingProgress], Distillation]) -> dict[str, Any]:
    """Begin a run, or go on with it, in its folder that nobody else may use meanwhile.

    Raises:
        DistillError: as the run.
    """
    writable(config.out)
    with FolderLock(config.out), TrainingProgress() as progress:
        run = make(progress)
        if config.resume and (finished := run.finished()) is not None:
            return finished
        if config.resume and not run.checkpoint.exists():
            print(f"note: nothing to resume in {config.out}, the run starts from the beginning", file=sys.stderr)
        try:
            return run.run()
        except KeyboardInterrupt:
            if run.checkpoint.begun:
                print(f"stopped; go on with the same command and --resume ({run.checkpoint.folder})", file=sys.stderr)
            else:
                print("stopped before the first checkpoint: there is nothing to go on with", file=sys.stderr)
            raise
