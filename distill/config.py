"""The verbs' options; each field's docstring is its --help text."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import tyro

from .environment import EnvironmentSpec
from .errors import DistillError

SHIPPED_TEACHER = Path("teachers/cart_rail.safetensors")


def in_range(option: str, value: float | None, low: float, high: float) -> None:
    """Refuse NaN and numbers outside [low, high]; None means that the option was left out.

    Raises:
        DistillError: names the option, what it got and what is possible.
    """
    if value is not None and not low <= value <= high:
        raise DistillError(f"{option}: got {value}, expected {low:g} to {high:g}")


def refuse_inside(out: Path, **inputs: Path | None) -> None:
    """Refuse inputs, by the names of their options, that a run would replace or remove in its folder `out`.

    Raises:
        DistillError: names the option and the file.
    """
    folder = out.resolve()
    for option, path in inputs.items():
        if path is None:
            continue
        found = path.resolve()
        own = found in {folder / "student.safetensors", folder / "distill.json"}
        if own or {folder / "sizes", folder / "checkpoint"} & set(found.parents):
            raise DistillError(
                f"--out: got {out}, where --{option} {path} lies and would be replaced, expected another folder; "
                "name one"
            )


def environment_spec(
    environment: str, arguments: str, wrappers: tuple[str, ...] = (), frame_stack: int = 1
) -> EnvironmentSpec:
    """Combine --env, --env-kwargs, --wrapper and --frame-stack.

    Raises:
        DistillError: the keyword arguments are not a JSON object, a wrapper is not module:callable, or too many frames.
    """
    in_range("--frame-stack", frame_stack, 1, 64)
    for wrapper in wrappers:
        if not all(wrapper.partition(":")):
            raise DistillError(f"--wrapper: got {wrapper!r}, expected module:callable; name both")
    try:
        parsed: Any = json.loads(arguments)
        json.dumps(parsed, allow_nan=False)
    except ValueError as error:
        raise DistillError(
            f"--env-kwargs: got {arguments!r}, expected a JSON object of finite numbers ({error})"
        ) from error
    if not isinstance(parsed, dict):
        raise DistillError(f"--env-kwargs: got {arguments!r}, expected a JSON object such as '{{\"history\": 5}}'")
    return EnvironmentSpec(environment, parsed, wrappers, frame_stack)


@dataclass(frozen=True)
class EnvironmentConfig:
    """The environment that policies act in."""

    env: str = "hardware:CartRail-v0"
    """Gymnasium id, `module:Id` where importing a module registers it."""
    env_kwargs: str = "{}"
    """Keyword arguments of the environment as a JSON object."""
    wrapper: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """`module:callable` that takes the environment and gives it back wrapped; may be repeated, applied in order."""
    frame_stack: int = 1
    """Stack this many observations, oldest first; reset fills them with the first one."""

    def spec(self) -> EnvironmentSpec:
        """Return the environment these options name. Raises DistillError as `environment_spec`."""
        return environment_spec(self.env, self.env_kwargs, self.wrapper, self.frame_stack)


@dataclass(frozen=True)
class SourceConfig(EnvironmentConfig):
    """The teacher and the environment it acts in."""

    teacher: Path = SHIPPED_TEACHER
    """A Stable-Baselines3 or sb3-contrib .zip, an .onnx, TorchScript (.pt), .npz of plain matrices (docs/formats.md)
    or this project's .safetensors. Nothing in it is executed."""
    vecnormalize: Path | None = None
    """The vecnormalize.pkl that belongs to the teacher, where its observations were normalised in training."""
    activation: Literal["relu", "tanh"] | None = None
    """Hidden activation of a zip that does not state one readably."""


@dataclass(frozen=True)
class CollectConfig(SourceConfig):
    """Roll the teacher out with exploration noise and write a Minari dataset; the same command goes on when cut off."""

    out: Path = Path("build/dataset")
    """Folder of the dataset: data/main_data.hdf5 and data/metadata.json."""
    episodes: int = 50
    """Whole episodes; a third without noise."""
    exploration_noise: float = 0.6
    """Largest noise of an episode, as a share of half the action range."""
    jobs: int = 1
    """Processes that share the episodes; changes no byte."""
    flat: bool = False
    """Also write dataset.safetensors, which `export verify --dataset` reads."""
    seed: int = 0
    """Seeds starts and noise."""
    json: bool = False
    """Print one JSON object on stdout."""


Method = Literal["bayesian", "l1", "magnitude", "dense"]
PriorName = Literal[
    "log-uniform",
    "log-uniform-exact",
    "ard",
    "group-ard",
    "gaussian",
    "laplace",
    "uniform-truncated",
    "uniform-flat",
]
AnnealingName = Literal["linear", "constant", "cosine", "late"]
NoiseName = Literal["correct", "official"]
Ranking = Literal["saliency", "posterior", "magnitude"]
Precision = Literal["float32", "bfloat16"]


@dataclass(frozen=True)
class ShrinkConfig(SourceConfig):
    """What training and refinement have in common: a student that drives, is labelled, and is pruned on."""

    out: Path = Path("build/distill")
    """Folder for student.safetensors, dataset.safetensors, distill.json and sizes/ (one student a size tried)."""
    dataset: Path | None = None
    """Train on this dataset (a Minari folder or a dataset.safetensors); without it the teacher is rolled out first."""
    target_return: float = 0.99
    """Share of the teacher's return that the student must hold on the selection episodes while it shrinks."""
    kept_weights: tuple[int, ...] = ()
    """Visit these sizes instead of looking for the smallest that holds the target; the smallest is the result."""
    ranking: Ranking = "saliency"
    """Which weights go while the student shrinks."""
    shrink: float = 0.85
    """Share of the weights that survives one shrinking."""
    fine_tune_iterations: int = 8_000
    """Steps of deterministic training at the fixed mask after each shrinking; 0 leaves both out."""
    fine_tune_doublings: int = 2
    """A size that misses the target is trained on, twice as long each time, at most so often."""
    fine_tune_learning_rate: float = 1e-3
    """Adam's first step size in fine-tuning; falls along a cosine."""
    episodes: int = 50
    """Teacher episodes to start from (ignored with --dataset)."""
    exploration_noise: float = 0.3
    """Largest exploration noise of a collected episode, as a share of half the action range."""
    round_iterations: int = 2_000
    """Iterations between two student-driven rounds, and between two checkpoints."""
    round_steps: int = 6_000
    """Environment steps of a student-driven round, at least; whole episodes."""
    recent_rows: int = 150_000
    """Fine-tuning draws from this many of the newest rows when the student drives: small students have none to spare
    for states that they have left behind."""
    observation_noise: float = 0.01
    """Gaussian noise on the normalised observations in training: keeps the gain low that amplifies sensor noise and
    float32 rounding alike."""
    batch: int = 256
    """Minibatch."""
    gamma: float = 0.99
    """Discount of the critics."""
    cost_sensitive: bool | None = None
    """Weigh the squared error of each action by what it costs by the teacher's own critics (zips of SAC, TQC, TD3 and
    DDPG hold them); default: where the file has them, but not with --noise official nor where a pseudo-reward leads."""
    compiled: bool | None = None
    """Compile the training steps: about half a minute once, then several times faster; default: in runs of 15,000
    iterations or more. Rounds differently, so the bytes differ."""
    selection_episodes: int = 50
    """Episodes on which sizes are chosen; never those of the report."""
    evaluation_episodes: int = 100
    """Held-out episodes for the reported returns of teacher and student."""
    seed: int = 0
    """Seeds everything; the same seed on the same machine gives the same bytes."""
    jobs: int = 1
    """Processes for rolling out the teacher, for several seeds and for a search; bytes do not depend on it."""
    resume: bool = False
    """Go on where a run with the same options in the same folder was cut off."""
    tensorboard: bool = False
    """Write scalars to OUT/tensorboard."""
    json: bool = False
    """Print one JSON object on stdout."""


@dataclass(frozen=True)
class TrainConfig(ShrinkConfig):
    """Distil the teacher into a sparse Bayesian student and write student.safetensors."""

    states: Literal["student", "dataset"] = "student"
    """Whose states: `student` lets the pruned student drive and the teacher label; `dataset` is the offline setting."""
    method: Method = "bayesian"
    """Which weights stay: by their posterior, a proximal L1 penalty, gradual magnitude pruning, or all of them."""
    hidden: tuple[int, ...] = (64, 64)
    """Widths of the student's hidden layers, before pruning; none (`--hidden` alone) makes a linear student."""
    iterations: int = 40_000
    """Steps of Bayesian training."""
    data_weight: float = 3e5
    """|D| of the loss: larger keeps more weights."""
    prior: PriorName = "log-uniform"
    """Prior of the weights."""
    prior_scale: float | None = None
    """Scale of a prior that has one: standard deviation, Laplace's b, or the uniform's half width."""
    annealing: AnnealingName = "linear"
    """How eta, the weight of the prior, grows."""
    noise: NoiseName = "correct"
    """Weight noise as derived, or as the published code computes it (then also its initial means and raw actions)."""
    normalise: bool = True
    """Standardise the observations (folded away at export); the published code does not."""
    value_weight: float | None = None
    """h, the weight of the value term; default 0.5 with --states dataset and 0 with --states student."""
    critic: bool | None = None
    """Train critics; default: when h is above 0."""
    threshold: float = 2.0
    """Bayesian training ends by pruning at this log alpha."""
    learning_rate: float = 1e-3
    """Adam's step size in Bayesian training."""
    precision: Precision = "float32"
    """Of the critics' and the student's matrix products."""
    seeds: int = 1
    """Train this many students, seeds `seed`, `seed` + 1, ..., into OUT/seed0, ...; several ones are compared."""
    device: Literal["cpu", "cuda"] = "cpu"
    """Where Bayesian training runs; on `cuda` all --seeds train at once."""


@dataclass(frozen=True)
class EvaluateConfig(SourceConfig):
    """Play teacher and student on the same held-out episodes."""

    student: Path = Path("build/distill/student.safetensors")
    """The student file."""
    episodes: int = 100
    """Held-out episodes."""
    json: bool = False
    """Print one JSON object on stdout."""


@dataclass(frozen=True)
class CompareConfig(EnvironmentConfig):
    """Play a student and the policy compiled from it on the same held-out episodes: what integers cost in return."""

    student: tyro.conf.Positional[Path] = Path("build/distill/student.safetensors")
    """The student file that the policy was compiled from."""
    policy: Path = Path("build/policy")
    """Folder that `python -m export compile` wrote."""
    episodes: int = 100
    """Held-out episodes."""
    seed: int = 0
    """Leave out so many of the held-out episodes first."""
    force: bool = False
    """Accept a policy that loses more than 1 % of the student's return."""
    json: bool = False
    """Print one JSON object on stdout."""


@dataclass(frozen=True)
class TeacherConfig(SourceConfig):
    """Say what a teacher file holds and what it scores."""

    teacher: tyro.conf.Positional[Path] = SHIPPED_TEACHER
    """The teacher's file: .zip, .onnx, .pt (TorchScript), .npz or .safetensors."""
    episodes: int = 100
    """Held-out episodes."""
    json: bool = False
    """Print one JSON object on stdout."""
