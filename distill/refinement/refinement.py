"""A run that begins with a student instead of training one: the same rounds and sizes, any objective, a search last."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from export.student_file import Student, read_student

from ..config import ShrinkConfig, TrainConfig
from ..datasets.replay import Normaliser
from ..distillation import Distillation, carry_out
from ..environment import Array
from ..errors import DistillError
from ..evaluate import TRAINING_SEED
from ..policy_distillation.objectives import check, objective_named
from ..progress import TrainingProgress
from ..refine_config import RefineConfig
from ..refine_options import LARGEST_SEARCH, check_refine_config
from ..report import choose
from ..shrink import Ranked
from ..shrinking import under
from ..source import check_fits
from ..teachers.critics import FrozenCritics, read_critics
from ..teachers.error_costs import ErrorCosts
from ..train_options import recorded_options
from ..training.descent import TakesSteps
from ..training.learner import Learner
from ..training.sparse_network import SparseNetwork
from ..training.student import Form
from .gaussian import Gaussian
from .guided_step import Guidance, GuidedStep
from .policy_gradient import GradientNumbers, PolicyGradient
from .pseudo_critic import PseudoCritic
from .search import SMALLEST_SEARCH, ReturnSearch, SearchNumbers
from .variables import Variables

_CRITIC_SEED = 2_000_000  # its random stream is none of any training seed
_SAVE_EVERY = 10  # generations
_WORTH_COMPILING = 4_000  # iterations a size


class NormalisedCritics:
    """The teacher's critics, for observations as the student's normaliser gives them."""

    def __init__(self, critics: FrozenCritics, student: Student) -> None:
        self._critics = critics
        self._mean = torch.from_numpy(np.tile(student.observation_mean, student.history))
        self._scale = torch.from_numpy(np.tile(student.observation_scale, student.history))

    def values(self, observations: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
        """Q (batch,)."""
        return self._critics.values(observations * self._scale + self._mean, actions)

    def by_action(self, observations: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
        """dQ/da (batch, action)."""
        return self._critics.by_action(observations * self._scale + self._mean, actions)


class StartedLearner:
    """Stands where a run trains from scratch: it has ended already, with this student."""

    error = 0.0

    def __init__(self, student: Student) -> None:
        self.iteration = 1
        form = Form(student.widths)
        weight = torch.cat([torch.from_numpy(layer.weight).flatten() for layer in student.layers])
        bias = torch.cat([torch.from_numpy(layer.bias) for layer in student.layers])
        self._network = SparseNetwork(form, weight, bias, (weight != 0.0).float())

    def step(self, replay: Any) -> None:
        """Never: it has no iterations."""
        raise AssertionError("a student that is there is not trained from scratch")

    def pruned(self, threshold: float) -> tuple[SparseNetwork, Ranked | None]:
        """The student's own network, copied; what ranked its weights is out of date as soon as they move."""
        network = self._network
        return SparseNetwork(network.form, network.weight, network.bias, network.mask), None

    def state(self) -> dict[str, torch.Tensor]:
        """Nothing: the student's file has it."""
        return {}

    def restore(self, state: dict[str, torch.Tensor], iteration: int, error: float) -> None:
        """Nothing to go back to."""

    def skip(self, iteration: int) -> None:
        """It is past all of them."""


class Refinement(Distillation):
    """One run of one seed."""

    starts_fine_tuned = True

    def __init__(self, config: RefineConfig, progress: TrainingProgress) -> None:
        """Raises DistillError: bad options, a student that does not fit, an objective that asks for too much."""
        check_refine_config(config)
        self.asked = config
        self.start = _read_start(config)
        if any(size > _kept(self.start) for size in config.kept_weights):
            raise DistillError(
                f"--kept-weights: got {max(config.kept_weights)}, the student {config.student} has "
                f"{_kept(self.start)} weights; name smaller sizes or begin with a larger student"
            )
        self.objective = objective_named(config.objective)
        self._critic: PseudoCritic | None = None
        self._guidance: Guidance | None = None
        self._played: list[list[float]] = []
        self._looks = 0
        self._ascent: PolicyGradient | None = None
        self._ascent_state: dict[str, torch.Tensor] = {}  # that a resumed one goes on from
        self._begun: str | None = None  # name of the candidate that the search begins with
        super().__init__(_train_config(config, self.start), progress)
        self._refuse_search_without_generations()
        self.told |= {"method": "refine", "objective": config.objective, "begun_with": str(config.student)}
        facts = self.facts
        self._judge_of_actions: NormalisedCritics | None = None
        if self.objective.needs_teacher_value or config.critic == "teacher":
            self._judge_of_actions = NormalisedCritics(self._critics(), self.start)
        check_fits(config.student, self.start, config.env, facts)

    def way_on(self, student: Path) -> str:
        """As the method that this replaces; nothing where the return was climbed."""
        return "" if self.asked.search == "policy-gradient" else super().way_on(student)

    def _critics(self) -> FrozenCritics:
        """Those of the teacher's zip, with the discount that this run uses."""
        config = self.asked
        inputs = self.facts.observation_size + len(self.facts.action_low)
        try:
            critics = read_critics(config.teacher, config.vecnormalize, config.activation, inputs)
        except DistillError as error:
            try:  # names the objectives that do without
                check(self.objective, teacher_has_probabilities=True, teacher_has_value=False, environment=True)
            except DistillError as choice:
                raise DistillError(f"--objective: {choice} ({error})") from error
            raise
        if self.objective.needs_teacher_value and critics.gamma not in {None, config.gamma}:
            raise DistillError(
                f"--gamma: got {config.gamma:g}, expected {critics.gamma:g}, by which the critics of "
                f"{config.teacher.name} discount; give that"
            )
        return critics

    def _learner(self) -> Learner:
        return StartedLearner(self.start)

    def _error_costs(self) -> ErrorCosts | None:
        if not self.objective.has_pseudo_reward:
            return super()._error_costs()
        if self.config.cost_sensitive:
            raise DistillError(
                f"--cost-sensitive: got objective {self.asked.objective}, which is no squared error, expected teacher "
                "or on-policy; leave one of the two out"
            )
        return None

    def _options(self) -> dict[str, Any]:
        return recorded_options(self.asked) | {"teacher": self.teacher.sha256}

    def _normaliser(self, observations: Array) -> Normaliser:
        """The student's own: its weights belong to it."""
        return Normaliser(self.start.observation_mean, self.start.observation_scale)

    def _student_metadata(self) -> tuple[dict[str, Any], dict[str, str]]:
        _, parents = super()._student_metadata()
        options = {name: value for name, value in self.options.items() if name != "teacher"}
        configuration = options | {"teacher_parameters": self.teacher.chain.parameters}
        return configuration, parents | {"student": options["student"]}

    def _taking_steps(self) -> TakesSteps:
        if not self.objective.has_pseudo_reward:
            return super()._taking_steps()  # forward and reverse cross entropy have the gradient of its error
        if self._guidance is None:
            self._guidance, self._critic = self._guide()
        assert self._critic is not None
        return GuidedStep(self._guidance, self._critic)

    def _guide(self) -> tuple[Guidance, PseudoCritic]:
        config, facts = self.asked, self.facts
        rewards = self.dataset.transitions.rewards
        typical = float(np.mean(np.abs(rewards), dtype=np.float64))
        if self.objective.uses_reward and typical == 0.0:
            raise DistillError(
                f"--objective {config.objective}: got {len(rewards)} rewards of the teacher that are all 0, expected "
                "some that are not: nothing says how much one is worth; take an objective without the reward"
            )
        gamma = 0.0 if self.objective.one_step else config.gamma
        guidance = Guidance(
            objective=self.objective,
            gaussian=Gaussian(config.spread),
            gamma=config.gamma,
            reward_weight=config.reward_weight / typical if self.objective.uses_reward else 0.0,
            batch=config.batch,
            observation_noise=config.observation_noise,
            judge=self._judge_of_actions,
            reward_by_judge=config.critic == "teacher",
        )
        actions = len(facts.action_low)
        return guidance, PseudoCritic(facts.observation_size, actions, gamma=gamma, seed=_CRITIC_SEED + config.seed)

    def _gradient_numbers(self) -> GradientNumbers:
        config = self.asked
        return GradientNumbers(config.search_episodes, config.spread, config.gamma)

    def _search_numbers(self) -> SearchNumbers:
        config = self.asked
        assert config.search != "policy-gradient"
        return SearchNumbers(config.search, config.search_episodes, config.search_episodes_each, config.search_step)

    def _refuse_search_without_generations(self) -> None:
        """Before anything is computed: what is searched on later has no more variables than the student now."""
        if self.asked.search == "none":
            return
        if self.asked.search == "policy-gradient":
            needed, way_out = self._gradient_numbers().round_episodes(self.spec), "raise it"
        else:
            needed = self._search_numbers().generation_episodes(len(Variables(self.start)))
            way_out = "raise it or lower --search-episodes-each"
        if self.asked.search_episodes < needed:
            raise DistillError(
                f"--search-episodes: got {self.asked.search_episodes}, expected at least {needed}, one generation; "
                f"{way_out}"
            )

    def _last_stage(self) -> None:
        """The search, at the mask of what would be chosen now."""
        config, run = self.asked, self.shrinking
        assert run is not None
        if config.search == "none":
            return
        if self._begun is None:
            self._begun = choose(self).name
            self.save()
        begun = next(each for each in run.candidates if each.name == self._begun)
        student = read_student(self.sizes_folder / begun.name)
        if len(Variables(student)) < SMALLEST_SEARCH:
            print(f"note: {begun.name} has fewer than {SMALLEST_SEARCH} numbers: no search", file=sys.stderr)
            return
        first = TRAINING_SEED * (2 + config.seed) - LARGEST_SEARCH
        search = self._search(student, first)
        played, look = list(self._played), self._looks
        ascends = isinstance(search, PolicyGradient)  # the others ask and tell once more from the beginning
        self.progress.stage("search", search.generations, done=len(played) if ascends else 0)

        def on_generation() -> None:
            self.progress.advance(1)
            if len(search.returns) > len(self._played) and len(search.returns) % _SAVE_EVERY == 0:
                self._played = list(search.returns)
                self.save()

        if isinstance(search, PolicyGradient):
            students = search.run(on_generation, played, look)
        else:
            students, look = search.run(config.jobs, on_generation, played), 0
        for found in students:
            look += 1
            if look <= self._looks:
                continue
            self.score(found, size=begun.size, error=begun.error, fine_tuned=True)
            self._looks, self._played = look, list(search.returns)
            self.save()
        self.told["search"] = {
            "began_with": begun.row(),
            "generations": search.generations,
            "mean_returns": [float(np.mean(returns)) for returns in search.returns],
        }
        self.mark("search")

    def _search(self, student: Student, first_seed: int) -> ReturnSearch | PolicyGradient:
        seed = self.asked.seed
        if self.asked.search != "policy-gradient":
            return ReturnSearch(self.spec, student, self._search_numbers(), seed=seed, first_seed=first_seed)
        self._ascent = PolicyGradient(self.spec, student, self._gradient_numbers(), seed=seed, first_seed=first_seed)
        if self._ascent_state:
            self._ascent.restore(self._ascent_state)
        return self._ascent

    def _more_state(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        figures: dict[str, Any] = {"played": self._played, "looks": self._looks, "begun": self._begun}
        tensors: dict[str, torch.Tensor] = {}
        if self._critic is not None:
            tensors |= {f"critic.{name}": value for name, value in self._critic.state().items()}
            figures["critic_steps"] = self._critic.steps
        if self._ascent is not None:
            tensors |= {f"ascent.{name}": value for name, value in self._ascent.state().items()}
        return tensors, figures

    def _restore_more(self, tensors: dict[str, torch.Tensor], figures: dict[str, Any]) -> None:
        self._played, self._looks, self._begun = figures["played"], figures["looks"], figures["begun"]
        self._ascent_state = under(tensors, "ascent")
        if critic := under(tensors, "critic"):
            self._guidance, self._critic = self._guide()
            self._critic.restore(critic, figures["critic_steps"])


_SHARED = tuple(field.name for field in dataclasses.fields(ShrinkConfig))


def _read_start(config: RefineConfig) -> Student:
    student = read_student(config.student)
    activations = [layer.activation for layer in student.layers]
    expected = ["relu"] * (len(activations) - 1) + ["tanh"]
    if activations != expected:
        raise DistillError(
            f"student {config.student}: got layers of {', '.join(activations)}, expected {', '.join(expected)}; refine "
            "a student that `python -m distill train` wrote"
        )
    if not _kept(student):
        raise DistillError(f"student {config.student}: all weights are 0, expected some to refine; take a larger one")
    return student


def _kept(student: Student) -> int:
    return sum(int((layer.weight != 0.0).sum()) for layer in student.layers)


def _train_config(config: RefineConfig, student: Student) -> TrainConfig:
    shared = {name: getattr(config, name) for name in _SHARED}
    if config.mask == "fixed" and config.fine_tune_iterations > 0:
        shared["kept_weights"] = (_kept(student),)
    objective = objective_named(config.objective)
    if shared["compiled"] is None:  # with critics the compiled step is never taken
        shared["compiled"] = not objective.has_pseudo_reward and config.fine_tune_iterations >= _WORTH_COMPILING
    return TrainConfig(
        **shared,
        hidden=student.widths[1:-1],
        iterations=1,
        states="student" if objective.needs_environment else "dataset",
    )


def refine(config: RefineConfig) -> dict[str, Any]:
    """Run everything and write student.safetensors, distill.json and sizes/ into `config.out`; returns the result.

    Raises:
        DistillError: bad options or inputs; earlier results stay in place until new ones are whole.
    """
    check_refine_config(config)
    return carry_out(config, lambda progress: Refinement(config, progress))
