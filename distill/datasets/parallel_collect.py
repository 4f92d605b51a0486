"""Play the shards of a collection in several processes, each with one thread; an interrupt ends them all."""

from __future__ import annotations

import contextlib
import multiprocessing
import multiprocessing.resource_tracker
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_EXCEPTION, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import DistillError
from ..rollout import Policy
from .collect import Collection
from .shards import ShardFolder, write_shard

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_POLL_S = 0.2


def play_shards(
    folder: ShardFolder, load: Callable[[], Policy], jobs: int, on_step: Callable[[int], None] | None = None
) -> None:
    """Play whatever `folder` still lacks and leave it there, shard by shard.

    Args:
        folder: an open folder of shards.
        load: makes the teacher's policy; must be picklable where `jobs` is above 1.
        jobs: processes; with 1 this process plays by itself.
        on_step: called with numbers of environment steps, for progress bars.

    Raises:
        DistillError: what a worker raised, or a worker that was killed.
    """
    unfinished = folder.unfinished()
    if on_step is not None:
        on_step(sum(len(folder.read(shard)) for shard in set(range(folder.collection.shards)) - set(unfinished)))
    if not unfinished:
        return
    if jobs == 1:
        teacher = load()
        for shard in unfinished:
            write_shard(folder.folder, shard, folder.collection.play_shard(shard, teacher, on_step))
        return
    context = multiprocessing.get_context("spawn")
    steps, stop = context.Value("q", 0), context.Value("b", 0)
    work = _Work(folder.collection, load, folder.folder, steps, stop)
    executor = ProcessPoolExecutor(min(jobs, len(unfinished)), mp_context=context, initializer=_begin, initargs=(work,))
    try:
        with _workers_own_surroundings():
            pending: set[Future[None]] = {executor.submit(_play, shard) for shard in unfinished}
        seen = 0
        while pending:
            done, pending = wait(pending, _POLL_S, FIRST_EXCEPTION)
            for future in done:
                future.result()
            if on_step is not None:
                now = steps.value
                on_step(now - seen)
                seen = now
    except BrokenProcessPool as error:
        raise DistillError(
            "collect: a worker was killed or could not start (out of memory?); finished shards are kept, run the same "
            "command again with fewer --jobs"
        ) from error
    finally:
        stop.value = 1  # workers look at it between two steps: also when an interrupt or an error ends this early
        executor.shutdown(wait=True, cancel_futures=True)


@dataclass(frozen=True)
class _Work:
    """What every worker is handed when it starts."""

    collection: Collection
    load: Callable[[], Policy]
    folder: Path
    steps: Any  # shared counter of environment steps
    stop: Any  # shared flag


class _Stopped(Exception):  # noqa: N818 (no error: nobody waits for the answer any more)
    """The main process wants the workers to end."""


_work: _Work | None = None
_teacher: Policy | None = None


def _begin(work: _Work) -> None:
    global _work  # noqa: PLW0603 (a worker's only state, set once)
    _work = work
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A main process that was killed cannot stop its workers; they would wait for work for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _play(shard: int) -> None:
    global _teacher  # noqa: PLW0603
    work = _work
    assert work is not None
    if _teacher is None:
        _teacher = work.load()

    def on_step(count: int) -> None:
        if work.stop.value:
            raise _Stopped
        with work.steps.get_lock():
            work.steps.value += count

    write_shard(work.folder, shard, work.collection.play_shard(shard, _teacher, on_step))


@contextlib.contextmanager
def _workers_own_surroundings() -> Iterator[None]:
    """What processes started inside inherit: one thread each, and SIGINT blocked, so that only the main one answers."""
    # started here because starting it later would unblock SIGINT
    multiprocessing.resource_tracker.ensure_running()
    missing = [name for name in _THREAD_VARIABLES if name not in os.environ]
    os.environ.update(dict.fromkeys(missing, "1"))
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        for name in missing:
            del os.environ[name]
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
