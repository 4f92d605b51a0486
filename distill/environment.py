"""Which environment: its id, arguments, wrappers and stacked frames, and what a student must know of it."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import inspect
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .errors import DistillError
from .simulator_messages import say_once
from .time_limit import time_limit

if TYPE_CHECKING:
    import gymnasium

Array = NDArray[np.float32]


@dataclass(frozen=True)
class EnvironmentSpec:
    """Which environment, with which keyword arguments, behind which wrappers, and how many frames are stacked."""

    environment: str
    arguments: dict[str, Any]
    wrappers: tuple[str, ...] = ()  # "module:callable", each takes the environment; applied in order
    frame_stack: int = 1

    def make(self) -> gymnasium.Env[Array, Array]:
        """Build one environment.

        Raises:
            DistillError: for an unknown id, module or wrapper, or spaces that are not flat boxes.
        """
        import gymnasium

        module = self.environment.partition(":")[0] if ":" in self.environment else ""
        try:
            if module:
                importlib.import_module(module)
            say_once(self.environment)
            environment: gymnasium.Env[Any, Any] = gymnasium.make(self.environment, **self.arguments)
        except (
            Exception,
            SystemExit,
        ) as error:  # Gymnasium's errors, and whatever a user's own module or constructor raises
            raise DistillError(
                f"environment: got {self.environment!r} with {self.arguments}, which Gymnasium cannot make "
                f"({' '.join(str(error).split())}); expected a registered id such as 'hardware:CartRail-v0'; "
                "check the spelling and install the package that registers it"
            ) from error
        for wrapper in self.wrappers:
            environment = _wrapped(environment, wrapper)
        for name, space in (("observation", environment.observation_space), ("action", environment.action_space)):
            if not isinstance(space, gymnasium.spaces.Box) or len(space.shape) != 1:
                raise DistillError(
                    f"environment {self.environment!r}: got {name} space {space}, expected a one-dimensional Box; "
                    f"{_way_out(name, space)}"
                )
        if self.frame_stack == 1:
            return environment
        from .frame_stack import FrameStack

        if _own_history(environment) > 1:
            raise DistillError(
                f"--frame-stack: got {self.frame_stack}, but {self.environment!r} stacks "
                f"{_own_history(environment)} frames "
                "itself, expected 1; set its own argument with --env-kwargs"
            )
        return FrameStack(environment, self.frame_stack)

    def facts(self) -> EnvironmentFacts:
        """Build it once and read its sizes, bounds, names and control period.

        Raises:
            DistillError: as `make`, action bounds that are not finite, no time limit, or metadata or a close() that
                cannot serve.
        """
        import gymnasium

        environment = self.make()
        observation, action = environment.observation_space, environment.action_space
        assert isinstance(observation, gymnasium.spaces.Box)
        assert isinstance(action, gymnasium.spaces.Box)
        history = self.frame_stack if self.frame_stack > 1 else _own_history(environment)
        base = observation.shape[0] // history
        metadata = environment.unwrapped.metadata
        limit = time_limit(environment)
        try:
            period = float(
                metadata.get("control_period_s")
                or getattr(environment.unwrapped, "dt", None)
                or 1.0 / metadata.get("render_fps", 50)
            )
            environment.close()
        except Exception as error:  # a user's own code fails in its own ways
            raise DistillError(
                f"environment {self.environment!r}: got {type(error).__name__} from its metadata or its close() "
                f"({' '.join(str(error).split())[:200]}), expected a control period and an end; check the environment"
            ) from error
        if limit is None:
            raise DistillError(
                f"environment {self.environment!r}: got no time limit, so an episode may never end, expected one; "
                "give --env-kwargs '{\"max_episode_steps\": 1000}'"
            )
        if not (np.all(np.isfinite(action.low)) and np.all(np.isfinite(action.high))):
            raise DistillError(
                f"environment {self.environment!r}: got action bounds {action.low}..{action.high}, expected finite "
                "bounds; bound the actions with a wrapper (--wrapper)"
            )
        return EnvironmentFacts(
            observation_size=observation.shape[0],
            history=history,
            action_low=action.low.astype(np.float32),
            action_high=action.high.astype(np.float32),
            control_period_s=period,
            observation_names=_names(metadata.get("observation_names"), base, "observation"),
            action_names=_names(metadata.get("action_names"), action.shape[0], "action"),
        )

    def record(self) -> dict[str, Any]:
        """What makes this environment again, as JSON."""
        return {
            "env": self.environment,
            "env_kwargs": self.arguments,
            "wrappers": list(self.wrappers),
            "frame_stack": self.frame_stack,
        }

    def argument_for(self, sizes: Sequence[int]) -> str | None:
        """The --env-kwargs with which the observation has one of `sizes`, the first that is possible; None if none is.

        Tried are the constructor's switches that begin with include_ or exclude_, one by one, then all include_ off.
        """
        environment = self.make()
        parameters = inspect.signature(type(environment.unwrapped)).parameters.values()
        environment.close()
        switches = {
            entry.name: bool(self.arguments.get(entry.name, entry.default))
            for entry in parameters
            if entry.name.startswith(("include_", "exclude_")) and isinstance(entry.default, bool)
        }
        tries = [{name: not value} for name, value in switches.items()]
        tries.append({name: False for name in switches if name.startswith("include_")})
        found: dict[int, str] = {}
        for changes in tries:
            arguments = {**self.arguments, **changes}
            try:
                other = dataclasses.replace(self, arguments=arguments).make()
            except DistillError:  # switches that exclude each other
                continue
            size = (other.observation_space.shape or (0,))[0]
            other.close()
            found.setdefault(size, json.dumps(arguments))
        return next((found[size] for size in sizes if size in found), None)


@dataclass(frozen=True)
class EnvironmentFacts:
    """What a student must know of its environment; `observation_size` counts all stacked frames."""

    observation_size: int
    history: int
    action_low: Array
    action_high: Array
    control_period_s: float
    observation_names: tuple[str, ...]
    action_names: tuple[str, ...]


def _wrapped(environment: gymnasium.Env[Any, Any], wrapper: str) -> gymnasium.Env[Any, Any]:
    import gymnasium

    module, _, name = wrapper.partition(":")
    try:
        found: Any = importlib.import_module(module)
        result = functools.reduce(getattr, name.split("."), found)(environment)
    except (Exception, SystemExit) as error:  # a user's own code fails in its own ways
        raise DistillError(
            f"--wrapper: got {wrapper!r}, which cannot wrap {environment} ({type(error).__name__}: "
            f"{' '.join(str(error).split())[:200]}), expected module:callable that takes the environment; "
            "check that the "
            "module can be imported from here"
        ) from error
    if not isinstance(result, gymnasium.Env):
        raise DistillError(
            f"--wrapper: {wrapper!r} gave {type(result).__name__}, expected a Gymnasium environment; return the wrapper"
        )
    return result


def _way_out(name: str, space: gymnasium.Space[Any]) -> str:
    import gymnasium

    if name == "observation":
        return "flatten it (--wrapper gymnasium.wrappers:FlattenObservation) or write a wrapper"
    if isinstance(space, gymnasium.spaces.Box):
        return "write a wrapper (--wrapper) that takes flat actions"
    return "a student's actions are continuous, so choose an environment with a continuous control"


def _own_history(environment: gymnasium.Env[Any, Any]) -> int:
    """Frames that the environment stacks itself; 1 where a wrapper changed the observation's size."""
    plain = environment.unwrapped
    same = environment.observation_space.shape == plain.observation_space.shape
    return int(getattr(plain, "history", 1)) if same else 1


def _names(names: Any, count: int, word: str) -> tuple[str, ...]:
    """The environment's own names, or numbered ones where it has none for this size."""
    if names is not None and len(names) == count:
        return tuple(str(name) for name in names)
    return tuple(f"{word} {index}" for index in range(count))
