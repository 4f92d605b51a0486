"""Many long pieces of work, a process each, some at a time; the first failure or an interrupt ends them all."""

from __future__ import annotations

import contextlib
import multiprocessing
import multiprocessing.connection
import multiprocessing.resource_tracker
import os
import signal
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any, Protocol, TypeVar

from .errors import DistillError

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_GRACE_S = 5.0  # for a worker that is told to end

Item = TypeVar("Item")
Result = TypeVar("Result")


def run_all(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    jobs: int,
    on_done: Callable[[Item, Result], None] | None = None,
) -> list[Result]:
    """`function` of every item, at most `jobs` at a time; the results in the order of `items`.

    Every item has a fresh process with one thread, so what it computes and the time it takes do not depend on the
    others. Only this process answers an interrupt: like a failure it ends the workers at once and starts no more of
    them, so `function` must leave its files in a state that a later call can go on from.

    Args:
        function: of a module, since workers import it; its item and its result are sent between processes.
        items: what it is called with.
        jobs: processes at a time.
        on_done: called here with an item and its result as each ends.

    Raises:
        DistillError: a worker was killed; otherwise what `function` raised first.
    """
    results: dict[int, Result] = {}
    running: dict[Connection, tuple[int, BaseProcess]] = {}
    waiting = list(enumerate(items))[::-1]
    try:
        while waiting or running:
            while waiting and len(running) < max(1, jobs):
                index, item = waiting.pop()
                receiver, process = _start(function, item)
                running[receiver] = index, process
            for ready in multiprocessing.connection.wait(list(running)):
                assert isinstance(ready, Connection)
                index, process = running[ready]
                results[index] = _received(ready, process)
                del running[ready]
                if on_done is not None:
                    on_done(items[index], results[index])
    finally:
        _end(running)
    return [results[index] for index in range(len(items))]


def _start(function: Callable[[Any], Any], item: Any) -> tuple[Connection, BaseProcess]:
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(function, item, sender))
    with _workers_own_surroundings():
        process.start()
    sender.close()  # the worker holds the other end: when it dies, reading here ends
    return receiver, process


def _received(connection: Connection, process: BaseProcess) -> Any:
    failed, value = _answer(connection, process)
    connection.close()
    process.join()
    if failed:
        raise value
    return value


def _answer(connection: Connection, process: BaseProcess) -> tuple[bool, Any]:
    """Whether a worker failed, and what it gave or raised."""
    try:
        answer: tuple[bool, Any] = connection.recv()
    except (EOFError, OSError) as error:
        raise _lost(process) from error
    return answer


def _lost(process: BaseProcess) -> DistillError:
    process.join()
    return DistillError(
        f"a worker ended with exit code {process.exitcode} and no result (killed, out of memory?), expected one; "
        "what was finished is kept, run the same command again with fewer --jobs"
    )


def _end(running: dict[Connection, tuple[int, BaseProcess]]) -> None:
    """End what still runs; nothing where all is done."""
    for _, process in running.values():
        process.terminate()
    for receiver, (_, process) in running.items():
        process.join(_GRACE_S)
        if process.is_alive():
            process.kill()
            process.join()
        receiver.close()


def _work(function: Callable[[Any], Any], item: Any, sender: Connection) -> None:
    """A worker's whole life."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        answer = False, function(item)
    except Exception as error:  # sent to the main process, which raises it
        error.add_note("in a worker:\n" + traceback.format_exc())
        sender.send((True, error))
        return
    sender.send(answer)


def _end_with_parent() -> None:
    """A main process that was killed cannot end its workers; they would go on alone."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


@contextlib.contextmanager
def _workers_own_surroundings() -> Iterator[None]:
    """What processes started inside inherit: one thread each, and SIGINT blocked."""
    multiprocessing.resource_tracker.ensure_running()  # started later it would unblock SIGINT
    kept = {name: os.environ.get(name) for name in _THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(_THREAD_VARIABLES, "1"))
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        for name, value in kept.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class StandingFunction(Protocol):
    """What a crew calls; it keeps something open between calls."""

    def __call__(self, item: Any, /) -> Any:
        """The answer to one item."""

    def close(self) -> None:
        """Let go of what it keeps; a worker's goes with its process."""


class Crew:
    """Workers that stay: for many short calls of a function that is dear to make (it keeps environments open, say).

    With one job this process works itself. Use it as a context; leaving it ends the workers.
    """

    def __init__(self, make: Callable[[], StandingFunction], jobs: int) -> None:
        """`make`, of a module or a partial of one, is called once in every worker."""
        self._make, self._jobs = make, jobs
        self._function: StandingFunction | None = None
        self._workers: dict[Connection, BaseProcess] = {}

    def __enter__(self) -> Crew:
        if self._jobs == 1:
            self._function = self._make()
            return self
        context = multiprocessing.get_context("spawn")
        for _ in range(self._jobs):
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(self._make, theirs))
            with _workers_own_surroundings():
                process.start()
            theirs.close()
            self._workers[ours] = process
        return self

    def __exit__(self, *_: object) -> None:
        _end({connection: (0, process) for connection, process in self._workers.items()})
        if self._function is not None:
            self._function.close()

    def share(self, items: Sequence[Item]) -> list[Any]:
        """The function of every item, in their order; item i is worker i's, modulo the number of workers.

        Raises:
            DistillError: a worker was killed; otherwise what the function raised first.
        """
        if self._function is not None:
            return [self._function(item) for item in items]
        workers = list(self._workers.items())
        results = []
        for first in range(0, len(items), len(workers)):
            asked = list(zip(items[first : first + len(workers)], workers, strict=False))
            for item, (connection, process) in asked:
                try:
                    connection.send(item)
                except OSError as error:
                    raise _lost(process) from error
            answers = [_answer(connection, process) for _, (connection, process) in asked]
            for failed, value in answers:  # all have been taken: none may answer a later question
                if failed:
                    raise value
                results.append(value)
        return results


def _serve(make: Callable[[], StandingFunction], connection: Connection) -> None:
    """The whole life of a worker that stays."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    function: StandingFunction | None = None
    while True:
        try:
            item = connection.recv()
        except EOFError:
            return
        try:
            function = function or make()
            answer = False, function(item)
        except Exception as error:  # sent to the main process, which raises it
            error.add_note("in a worker:\n" + traceback.format_exc())
            answer = True, error
        connection.send(answer)
