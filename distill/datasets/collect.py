"""Roll the teacher out with exploration noise and keep what it saw, did and would have done."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..environment import EnvironmentSpec
from ..errors import DistillError
from ..rollout import Policy, play
from ..teachers.responds import refuse_constant
from .transitions import Transitions, fill, join, reserve

SHARD_EPISODES = 25  # played side by side; fixed, so that no byte depends on how many processes share the work


def episode_noise(count: int, generator: np.random.Generator, largest: float) -> list[float]:
    """Noise of each episode as a share of half the action range: a third clean, the rest uniform up to `largest`.

    Clean episodes show where the teacher goes; noisy ones show how it comes back.
    """
    return [0.0 if index % 3 == 0 else float(generator.uniform(0.0, largest)) for index in range(count)]


@dataclass(frozen=True)
class Collection:
    """What is to be played: episode i has seed `first_seed` + i and its own noise; shards of 25 episodes."""

    spec: EnvironmentSpec
    episodes: int
    first_seed: int
    exploration_noise: float  # the largest of an episode, as a share of half the action range

    def __post_init__(self) -> None:
        if self.episodes < 1:
            raise DistillError(f"collect: got {self.episodes} episodes, expected at least 1")

    @property
    def shards(self) -> int:
        """How many shards the episodes make."""
        return -(-self.episodes // SHARD_EPISODES)

    def noise(self) -> list[float]:
        """Noise of every episode."""
        return episode_noise(self.episodes, np.random.default_rng(self.first_seed), self.exploration_noise)

    def play_shard(self, shard: int, teacher: Policy, on_step: Callable[[int], None] | None = None) -> Transitions:
        """The episodes of one shard, driven by the teacher with noise and labelled by the teacher without."""
        chosen = range(self.episodes)[shard * SHARD_EPISODES : (shard + 1) * SHARD_EPISODES]
        noise = self.noise()
        played = play(
            self.spec,
            teacher,
            [self.first_seed + episode for episode in chosen],
            label=teacher,
            noise=[noise[episode] for episode in chosen],
            width=SHARD_EPISODES,
            on_step=on_step,
        )
        assert played.transitions is not None
        return played.transitions


def checked(parts: Iterable[Transitions]) -> Iterator[Transitions]:
    """Pass the parts on, and after the last one refuse a teacher that always gave the same action.

    Raises:
        DistillError: it did, over more than one row.
    """
    rows, low, high = 0, np.full(1, np.inf, np.float32), np.full(1, -np.inf, np.float32)
    for part in parts:
        rows += len(part)
        low = np.minimum(low, part.teacher_actions.min(axis=0))
        high = np.maximum(high, part.teacher_actions.max(axis=0))
        yield part
    refuse_constant(low, high, rows)


def collect(
    spec: EnvironmentSpec,
    teacher: Policy,
    *,
    episodes: int,
    first_seed: int,
    exploration_noise: float,
    on_step: Callable[[int], None] | None = None,
    jobs: int = 1,
    load: Callable[[], Policy] | None = None,
) -> Transitions:
    """Whole episodes driven by the teacher with noise, labelled by the teacher without; the same for any `jobs`.

    Args:
        spec: the environment.
        teacher: the policy, for this process.
        episodes: how many to play; episode i starts from seed `first_seed` + i.
        first_seed: seeds starts and noise.
        exploration_noise: the largest of an episode, as a share of half the action range.
        on_step: called with numbers of environment steps, for progress bars.
        jobs: processes that share the episodes.
        load: makes the same policy in another process (picklable); needed for more than one job.

    Raises:
        DistillError: no episodes asked for, or a teacher that always answers the same action.
    """
    collection = Collection(spec, episodes, first_seed, exploration_noise)
    if jobs == 1:
        shards = (collection.play_shard(shard, teacher, on_step) for shard in range(collection.shards))
        return join(list(checked(shards)))
    if load is None:
        raise ValueError(f"collect: got {jobs} jobs without load, expected a function that makes the policy")
    from .parallel_collect import play_shards
    from .shards import ShardFolder

    with (
        tempfile.TemporaryDirectory(prefix="collect-") as scratch,
        ShardFolder(Path(scratch), collection, {}) as folder,
    ):
        play_shards(folder, load, jobs, on_step)
        lengths = [folder.read(shard).lengths for shard in range(collection.shards)]
        first = folder.read(0)
        rows = sum(int(part.sum(dtype=np.int64)) for part in lengths)
        whole = reserve(rows, episodes, first.observations.shape[1], first.executed_actions.shape[1])
        row = 0
        for shard, part in enumerate(checked(folder.parts())):
            fill(whole, row, shard * SHARD_EPISODES, part)
            row += len(part)
    return whole
