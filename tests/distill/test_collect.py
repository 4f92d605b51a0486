"""Collection: the same bytes for any number of processes, also after an interrupt or a kill in the middle."""

import os
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from distill.config import CollectConfig
from distill.datasets.collect import SHARD_EPISODES, Collection, checked, collect, episode_noise
from distill.datasets.dataset import read_dataset
from distill.datasets.parallel_collect import play_shards
from distill.datasets.shards import ShardFolder
from distill.datasets.transitions import FIELDS, Transitions, join
from distill.environment import EnvironmentSpec
from distill.errors import DistillError
from distill.source import load_policy
from distill.verbs import collect_verb
from export.student_file import Layer, Student, write_student

PENDULUM = EnvironmentSpec("Pendulum-v1", {})
ROOT = Path(__file__).resolve().parents[2]


def sway(observations: np.ndarray) -> np.ndarray:
    return (2.0 * np.sin(3.0 * observations[:, 2:])).astype(np.float32)


def teacher_file(folder: Path) -> Path:
    generator = np.random.default_rng(0)
    student = Student(
        layers=(
            Layer(generator.standard_normal((8, 3)).astype(np.float32), np.zeros(8, np.float32), "relu"),
            Layer(generator.standard_normal((1, 8)).astype(np.float32), np.zeros(1, np.float32), "tanh"),
        ),
        observation_mean=np.zeros(3, np.float32),
        observation_scale=np.float32([1, 1, 8]),
        action_low=np.float32([-2]),
        action_high=np.float32([2]),
        history=1,
        environment="Pendulum-v1",
        control_period_s=0.05,
        observation_names=("cos", "sin", "speed"),
        action_names=("torque",),
        role="teacher",
    )
    write_student(folder / "teacher.safetensors", student)
    return folder / "teacher.safetensors"


def config(folder: Path, **changes: object) -> CollectConfig:
    options = {
        "teacher": teacher_file(folder),
        "env": "Pendulum-v1",
        "out": folder / "out",
        "episodes": 30,
        "flat": True,
    }
    return CollectConfig(**(options | changes))


def command(chosen: CollectConfig) -> list[str]:
    return [
        *(sys.executable, "-m", "distill", "collect", "--teacher", str(chosen.teacher), "--env", chosen.env),
        *("--out", str(chosen.out), "--episodes", str(chosen.episodes), "--jobs", str(chosen.jobs), "--flat"),
    ]


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_a_third_of_the_episodes_is_clean_and_more_episodes_change_no_earlier_one() -> None:
    noise = episode_noise(30, np.random.default_rng(4), 0.5)
    assert sum(level == 0.0 for level in noise) == 10
    assert max(noise) <= 0.5
    assert episode_noise(50, np.random.default_rng(4), 0.5)[:30] == noise


def test_shards_are_fixed_and_joined_in_order() -> None:
    rows = collect(PENDULUM, sway, episodes=SHARD_EPISODES + 2, first_seed=7, exploration_noise=0.4)
    collection = Collection(PENDULUM, SHARD_EPISODES + 2, 7, 0.4)
    assert collection.shards == 2
    alone = collection.play_shard(1, sway)
    assert len(alone.lengths) == 2
    for name in FIELDS:
        assert np.array_equal(getattr(rows, name)[-len(getattr(alone, name)) :], getattr(alone, name))
    clean = rows.first(int(rows.ends[0]) + 1)
    assert np.array_equal(clean.executed_actions, clean.teacher_actions)
    noisy = list(rows.episodes())[1]
    assert not np.array_equal(noisy.executed_actions, noisy.teacher_actions)
    assert np.array_equal(rows.teacher_actions, np.clip(sway(rows.observations), -2, 2))


def test_no_byte_depends_on_the_number_of_processes(tmp_path: Path) -> None:
    alone = collect_verb(config(tmp_path, out=tmp_path / "alone", episodes=60))
    shared = collect_verb(config(tmp_path, out=tmp_path / "shared", episodes=60, jobs=2))
    assert alone["rows"] == shared["rows"] == 60 * 200
    files = bytes_of(tmp_path / "alone")
    assert set(files) == {"dataset.safetensors", "data/main_data.hdf5", "data/metadata.json"}
    assert bytes_of(tmp_path / "shared") == files
    folder, flat = read_dataset(tmp_path / "shared"), read_dataset(tmp_path / "shared/dataset.safetensors")
    for name in FIELDS:
        assert np.array_equal(getattr(folder.transitions, name), getattr(flat.transitions, name))
    other = collect_verb(config(tmp_path, out=tmp_path / "other", seed=1))
    assert read_dataset(Path(other["dataset"])).transitions.rewards[0] != folder.transitions.rewards[0]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Files of 150 episodes played in one go."""
    folder = tmp_path_factory.mktemp("whole")
    collect_verb(config(folder, episodes=150))
    return bytes_of(folder / "out")


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_run_that_was_cut_off_goes_on_to_the_same_bytes(
    tmp_path: Path, uninterrupted: dict[str, bytes], how: signal.Signals
) -> None:
    chosen = config(tmp_path, episodes=150, jobs=2)
    process = subprocess.Popen(command(chosen), cwd=ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True)
    begun = chosen.out / ".partial"
    try:
        deadline = time.monotonic() + 60
        while not list(begun.glob("shard_*.safetensors")) and time.monotonic() < deadline:
            time.sleep(0.01)
        if how == signal.SIGINT:
            os.killpg(process.pid, how)  # what a terminal does: to the workers, too
        else:
            os.kill(process.pid, how)
        _, complaint = process.communicate(timeout=60)
    finally:
        if process.poll() is None:
            process.kill()
    assert process.returncode == (130 if how == signal.SIGINT else -how)
    assert "Traceback" not in complaint
    workers = [path for path in Path("/proc").glob("[0-9]*/stat") if session_of(path) == process.pid]
    deadline = time.monotonic() + 20
    while workers and time.monotonic() < deadline:  # a killed parent's workers end by themselves
        time.sleep(0.05)
        workers = [path for path in workers if session_of(path) == process.pid]
    assert not workers
    finished = {path.name: path.stat().st_mtime_ns for path in begun.glob("shard_*.safetensors")}
    assert 1 <= len(finished) < 6
    assert not (chosen.out / "data").exists()

    copy = tmp_path / "copy" / ".partial"
    shutil.copytree(begun, copy)
    with pytest.raises(DistillError, match=r"begun with other options \(exploration_noise 0\.6, now 0\.5\)"):
        collect_verb(config(tmp_path, out=copy.parent, episodes=150, exploration_noise=0.5))
    collect_verb(chosen)
    assert bytes_of(chosen.out) == uninterrupted


def session_of(stat: Path) -> int | None:
    """Session id of a process that is no zombie."""
    try:
        state, _, _, session = stat.read_text().rpartition(")")[2].split()[:4]
    except OSError:
        return None
    return None if state == "Z" else int(session)


def collected(folder: Path, episodes: int = 30) -> Collection:
    collection = Collection(PENDULUM, episodes, 3, 0.2)
    with ShardFolder(folder, collection, {"teacher": "ab"}) as shards:
        play_shards(shards, lambda: sway, 1)
    return collection


def test_a_damaged_shard_is_played_again(tmp_path: Path) -> None:
    collection = collected(tmp_path / "p")
    path = tmp_path / "p" / "shard_000001.safetensors"
    data = path.read_bytes()
    path.write_bytes(data[:-9])
    (tmp_path / "p" / ".shard_000000.safetensors.77.part").write_bytes(b"half")
    with ShardFolder(tmp_path / "p", collection, {"teacher": "ab"}) as shards:
        assert shards.unfinished() == [1]
        steps: list[int] = []
        play_shards(shards, lambda: sway, 1, steps.append)
        assert sum(steps) == 30 * 200  # those of finished shards count as done
        assert path.read_bytes() == data
        assert len(join(list(shards.parts()))) == 30 * 200
    assert not list((tmp_path / "p").glob(".*.part"))


def test_another_teacher_does_not_go_on_and_one_process_at_a_time(tmp_path: Path) -> None:
    collection = collected(tmp_path / "p")
    with (
        pytest.raises(DistillError, match=r"\(teacher 'ab', now 'cd'\).*delete .*/p to start over"),
        ShardFolder(tmp_path / "p", collection, {"teacher": "cd"}),
    ):
        pass
    with (
        ShardFolder(tmp_path / "p", collection, {"teacher": "ab"}),
        pytest.raises(DistillError, match="another process is collecting"),
        ShardFolder(tmp_path / "p", collection, {"teacher": "ab"}),
    ):
        pass


def test_what_a_worker_refuses_is_said_here(tmp_path: Path) -> None:
    bad = config(tmp_path, jobs=2)
    collection = Collection(PENDULUM, 30, 0, 0.1)
    with (
        ShardFolder(tmp_path / "p", collection, {}) as shards,
        pytest.raises(DistillError, match=r"the file changed while episodes were played"),
    ):
        play_shards(shards, partial(load_policy, bad, "0" * 64), 2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"episodes": 0}, "--episodes: got 0"),
        ({"jobs": 0}, "--jobs: got 0"),
        ({"exploration_noise": float("nan")}, "--exploration-noise: got nan"),
        ({"seed": 10_001}, "--seed"),
    ],
)
def test_impossible_options_are_refused(tmp_path: Path, change: dict, message: str) -> None:
    with pytest.raises(DistillError, match=message):
        collect_verb(config(tmp_path, **change))
    assert not (tmp_path / "out").exists()


def test_a_teacher_that_does_nothing_leaves_nothing(tmp_path: Path) -> None:
    chosen = config(tmp_path, episodes=2)
    silent = Student(
        layers=(Layer(np.zeros((1, 3), np.float32), np.zeros(1, np.float32), "tanh"),),
        observation_mean=np.zeros(3, np.float32),
        observation_scale=np.ones(3, np.float32),
        action_low=np.float32([-2]),
        action_high=np.float32([2]),
        history=1,
        environment="Pendulum-v1",
        control_period_s=0.05,
        observation_names=("cos", "sin", "speed"),
        action_names=("torque",),
        role="teacher",
    )
    write_student(chosen.teacher, silent)
    with pytest.raises(DistillError, match="same action at every state"):
        collect_verb(chosen)
    assert list(chosen.out.iterdir()) == []


def test_a_teacher_that_moves_late_is_no_teacher_that_does_nothing() -> None:
    def part(action: float) -> Transitions:
        rows = np.zeros((2, 1), np.float32)
        flags = np.zeros(2, np.uint8)
        return Transitions(rows, rows, rows + np.float32(action), rows[:, 0], flags, flags, rows[:1], np.uint32([2]))

    assert len(list(checked([part(0), part(1)]))) == 2
    with pytest.raises(DistillError, match="same action"):
        list(checked([part(1), part(1)]))


def test_an_environment_that_fails_at_once_leaves_nothing_to_go_on_with(tmp_path: Path) -> None:
    broken = config(tmp_path, env_kwargs='{"g": "x"}')
    with pytest.raises(DistillError, match="at step 0 of seed"):
        collect_verb(broken)
    assert not (broken.out / ".partial").exists()
    assert collect_verb(config(tmp_path, episodes=2))["episodes"] == 2


def test_finished_shards_outlive_a_failure(tmp_path: Path) -> None:
    collection = collected(tmp_path / "p")
    with (
        pytest.raises(DistillError, match="later"),
        ShardFolder(tmp_path / "p", collection, {"teacher": "ab"}) as shards,
    ):
        raise DistillError("later")
    assert shards.unfinished() == []


def test_a_full_disk_ends_collect_in_one_line_and_keeps_the_shards(tmp_path: Path) -> None:
    chosen = config(tmp_path)
    limited = "import resource, runpy, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (140_000, 140_000)); "
    program = limited + "sys.argv = sys.argv[1:]; runpy.run_module('distill', run_name='__main__')"
    arguments = [sys.executable, "-c", program, *command(chosen)[2:]]
    done = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1, done.stderr
    assert done.stderr.splitlines()[-1].startswith(f"error: cannot write {chosen.out}/data: File too large")
    assert "Traceback" not in done.stderr
    assert len(list((chosen.out / ".partial").glob("shard_*.safetensors"))) == 2
