"""Work in several processes: order, failures, killed workers, one thread each, and interrupts."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from distill.errors import DistillError
from distill.processes import Crew, run_all

ROOT = Path(__file__).resolve().parents[2]


def surroundings(item: int) -> tuple[int, str | None, bool]:
    blocked = signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, [])
    return item, os.environ.get("OMP_NUM_THREADS"), blocked


def fail_or_wait(item: tuple[str, Path]) -> None:
    """The first fails once the second has begun; the second would take very long, the third must not begin."""
    name, folder = item
    (folder / name).touch()
    if name == "failing":
        while not (folder / "long").exists():
            time.sleep(0.01)
        raise DistillError("no such arm")
    time.sleep(600)


def kill_itself(_: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def begin_and_wait(path: Path) -> None:
    path.touch()
    time.sleep(600)


def ends(group: int) -> bool:
    """Whether all processes of a group end; Python's own resource tracker takes a moment to follow."""
    for _ in range(600):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.1)
    return False


def test_results_come_in_order_from_workers_with_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    done = []
    found = run_all(surroundings, [3, 1, 2], 2, lambda item, result: done.append((item, result[0])))
    assert found == [(3, "1", True), (1, "1", True), (2, "1", True)]
    assert sorted(done) == [(1, 1), (2, 2), (3, 3)]
    assert os.environ["OMP_NUM_THREADS"] == "2"
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])
    assert run_all(surroundings, [], 2) == []


def test_a_failure_ends_the_others_and_starts_no_more(tmp_path: Path) -> None:
    items = [(name, tmp_path) for name in ("failing", "long", "never")]
    with pytest.raises(DistillError, match="no such arm"):
        run_all(fail_or_wait, items, 2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["failing", "long"]


def test_a_killed_worker_is_an_error() -> None:
    with pytest.raises(DistillError, match="exit code -9"):
        run_all(kill_itself, [0], 1)


def test_an_interrupt_ends_the_workers(tmp_path: Path) -> None:
    code = (
        "import pathlib, sys\n"
        "from distill.processes import run_all\n"
        "from tests.distill.test_processes import begin_and_wait\n"
        "if __name__ == '__main__':\n"
        "    run_all(begin_and_wait, [pathlib.Path(name) for name in sys.argv[1:]], 1)\n"
    )
    script = tmp_path / "main.py"
    script.write_text(code, encoding="utf-8")
    first, second = tmp_path / "first", tmp_path / "second"
    main = subprocess.Popen(
        [sys.executable, script, first, second],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        start_new_session=True,  # a terminal's Ctrl-C goes to the whole group: so does this one
    )
    while not first.exists():
        assert main.poll() is None
        time.sleep(0.02)
    os.killpg(main.pid, signal.SIGINT)
    _, message = main.communicate(timeout=60)
    assert b"KeyboardInterrupt" in message
    assert message.count(b"Traceback") == 1, "only the main process answers"
    assert not second.exists()
    assert ends(main.pid), "no worker is left"


class Counter:
    """Remembers how often it was called, so that workers which stay can be told from fresh ones."""

    def __init__(self) -> None:
        self.calls = 0
        self.closed = False

    def __call__(self, item: int) -> tuple[int, int, int]:
        if item < 0:
            raise DistillError("below zero")
        if item == 99:
            kill_itself(item)
        self.calls += 1
        return item, self.calls, os.getpid()

    def close(self) -> None:
        self.closed = True


def test_a_crew_stays_and_answers_in_order() -> None:
    with Crew(Counter, 2) as crew:
        first, second = crew.share([1, 2, 3]), crew.share([4, 5])
        assert [item for item, _, _ in first + second] == [1, 2, 3, 4, 5]
        assert [calls for _, calls, _ in first + second] == [1, 1, 2, 3, 2]
        assert {process for _, _, process in first} == {process for _, _, process in second}
        assert os.getpid() not in {process for _, _, process in first}
        with pytest.raises(DistillError, match="below zero"):
            crew.share([-1, 6])
        assert [item for item, _, _ in crew.share([7, 8])] == [7, 8], "answers stay with their questions"
    own = Counter()
    with Crew(lambda: own, 1) as crew:
        assert crew.share([1, 2]) == [(1, 1, os.getpid()), (2, 2, os.getpid())]
        assert not own.closed
    assert own.closed


def test_a_crew_whose_worker_was_killed_says_so() -> None:
    with Crew(Counter, 2) as crew, pytest.raises(DistillError, match="exit code -9"):
        crew.share([1, 99])
