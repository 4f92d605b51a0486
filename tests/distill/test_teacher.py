"""Fitting a teacher to its environment, whatever file it comes from."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from distill.config import SourceConfig
from distill.environment import EnvironmentFacts, EnvironmentSpec
from distill.errors import DistillError
from distill.network import Chain, InputNormaliser, chain_policy
from distill.source import read_source
from distill.teachers import read_teacher
from distill.teachers.responds import ActionRange, refuse_constant
from export.student_file import Layer, Student, write_student

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared" / "teachers"
PENDULUM = EnvironmentSpec("Pendulum-v1", {})
needs_teachers = pytest.mark.skipif(
    not SHARED.is_dir(), reason="the folder of foreign teachers (../shared/teachers) is missing"
)


def facts_of(inputs: int, bounds: float = 1.0, actions: int = 1) -> EnvironmentFacts:
    low = np.full(actions, -bounds, np.float32)
    names = tuple(f"observation {index}" for index in range(inputs))
    return EnvironmentFacts(inputs, 1, low, -low, 0.05, names, tuple("abcdefgh"[:actions]))


def matrices(path: Path, **changes: object) -> Path:
    """A valid .npz of 4 inputs and 1 action, with changes; None removes an array."""
    generator = np.random.default_rng(0)
    arrays: dict = {
        "W0": generator.normal(size=(8, 4)).astype(np.float32),
        "b0": generator.normal(size=8).astype(np.float32),
        "W1": generator.normal(size=(1, 8)).astype(np.float32),
        "b1": generator.normal(size=1).astype(np.float32),
        "n_layers": np.array(2),
        "hidden_act": np.array("tanh"),
        "out_act": np.array("clip"),
        "obs_mean": np.array([0.5, -1.0, 7.0, 0.0]),
        "obs_var": np.array([1.0, 4.0, 1e-10, 0.25]),
        "obs_eps": np.array(1e-8),
        "obs_clip": np.array(10.0),
    }
    np.savez(path, **{name: value for name, value in (arrays | changes).items() if value is not None})
    return path


def test_inputs_that_were_constant_are_folded_and_it_is_said(tmp_path: Path) -> None:
    path = matrices(tmp_path / "four.npz")
    whole, folded = read_teacher(path, facts_of(4)), read_teacher(path, facts_of(3))
    assert whole.notes == ()
    assert len(folded.notes) == 1
    assert "1 of 4 inputs were constant" in folded.notes[0]
    assert "49 parameters as stored, 41 in use" in folded.notes[0]
    assert (folded.parameters, folded.chain.parameters, folded.sizes) == (49, 41, (3, 8, 1))
    observations = np.random.default_rng(1).normal(size=(50, 3)).astype(np.float32)
    full = np.insert(observations, 2, 7.0, axis=1)  # what the third input always was
    assert np.allclose(folded.policy(observations), whole.policy(full), atol=1e-6)


def test_other_input_counts_are_refused_with_both(tmp_path: Path) -> None:
    path = matrices(tmp_path / "four.npz")
    with pytest.raises(DistillError, match=r"got 4 inputs and 1 actions \(1 of the inputs.*environment has 2 and 1"):
        read_teacher(path, facts_of(2))
    with pytest.raises(DistillError, match=r"got 4 inputs and 1 actions.*environment has 3 and 2"):
        read_teacher(path, facts_of(3, actions=2))
    moving = matrices(tmp_path / "moving.npz", obs_var=np.ones(4))
    with pytest.raises(DistillError, match=r"got 4 inputs and 1 actions, the environment has 3 and 1"):
        read_teacher(moving, facts_of(3))


def test_action_bounds_of_another_environment_are_refused(tmp_path: Path) -> None:
    path = matrices(tmp_path / "b.npz", action_low=np.array([-2.0]), action_high=np.array([2.0]))
    assert read_teacher(path, facts_of(4, 2.0)).sizes == (4, 8, 1)
    with pytest.raises(DistillError, match=r"action bounds low \[-2\.\], the environment has \[-1\.\]"):
        read_teacher(path, facts_of(4, 1.0))


def test_missing_unknown_and_truncated_files(tmp_path: Path) -> None:
    facts = PENDULUM.facts()
    with pytest.raises(DistillError, match="no such file"):
        read_teacher(tmp_path / "none.zip", facts)
    with pytest.raises(DistillError, match=f"teacher {tmp_path}: is a folder, expected a file, .zip"):
        read_teacher(tmp_path, facts)
    with pytest.raises(DistillError, match="/dev/null: is a device"):
        read_teacher(Path("/dev/null"), facts)
    (tmp_path / "empty.onnx").write_bytes(b"")
    with pytest.raises(DistillError, match=r"empty\.onnx: is empty \(0 bytes\), expected ONNX"):
        read_teacher(tmp_path / "empty.onnx", facts)
    (tmp_path / "model.pkl").write_bytes(b"x")
    with pytest.raises(DistillError, match=r"suffix '\.pkl', expected \.zip.*\.onnx.*\.npz"):
        read_teacher(tmp_path / "model.pkl", facts)
    (tmp_path / "cut.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{")
    with pytest.raises(DistillError, match=r"cut\.safetensors"):
        read_teacher(tmp_path / "cut.safetensors", facts)


@pytest.mark.parametrize("suffix", [".zip", ".onnx", ".pt", ".npz"])
@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x00" * 64, b"\x80\x02}."])
def test_rubbish_is_refused_in_one_line(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"rubbish{suffix}"
    path.write_bytes(content)
    with pytest.raises(DistillError, match=rf"teacher .*rubbish\{suffix}: ") as caught:
        read_teacher(path, PENDULUM.facts())
    assert "\n" not in str(caught.value)


def test_activation_is_for_zips_and_statistics_only_where_there_are_none(tmp_path: Path) -> None:
    path = matrices(tmp_path / "four.npz")
    with pytest.raises(DistillError, match=r"--activation.*states its own"):
        read_teacher(path, facts_of(4), "relu")
    with pytest.raises(DistillError, match=r"--vecnormalize.*carries its own"):
        read_teacher(path, facts_of(4), vecnormalize=tmp_path / "any.pkl")


@pytest.mark.parametrize("last", ["tanh", "identity"])
def test_the_chain_of_a_network_file_is_its_policy(tmp_path: Path, last: str) -> None:
    generator = np.random.default_rng(2)
    sizes = (6, 9, 7, 2)
    layers = tuple(
        Layer(
            generator.normal(size=(outputs, inputs)).astype(np.float32),
            generator.normal(size=outputs).astype(np.float32),
            activation,
        )
        for inputs, outputs, activation in zip(sizes, sizes[1:], ("relu", "tanh", last), strict=False)
    )
    student = Student(
        action_low=np.array([-2.0, -1.0], np.float32),
        action_high=np.array([2.0, 3.0], np.float32),
        history=2,
        environment="x",
        control_period_s=0.02,
        observation_names=("a", "b", "c"),
        action_names=("u", "v"),
        layers=layers,
        observation_mean=np.array([1.0, 2.0, 3.0], np.float32),
        observation_scale=np.array([0.5, 2.0, 1.0], np.float32),
    )
    path = tmp_path / "own.safetensors"
    write_student(path, student)
    facts = EnvironmentFacts(6, 2, student.action_low, student.action_high, 0.02, ("a", "b", "c"), ("u", "v"))
    teacher = read_teacher(path, facts)
    observations = generator.normal(size=(64, 6)).astype(np.float32)
    expected = student.evaluate(observations.astype(np.float64))
    assert np.allclose(teacher.policy(observations), expected, atol=1e-5)
    assert np.allclose(
        chain_policy(teacher.chain, facts.action_low, facts.action_high)(observations), expected, atol=1e-5
    )
    assert teacher.parameters == teacher.chain.parameters == 6 * 9 + 9 + 9 * 7 + 7 + 7 * 2 + 2


def test_chain_policy_is_the_formula_in_float64() -> None:
    generator = np.random.default_rng(3)
    weights = [generator.normal(size=shape) for shape in ((5, 3), (4, 5), (2, 4))]
    biases = [generator.normal(size=len(weight)) for weight in weights]
    mean, variance = np.array([100.0, 0.0, -3.0]), np.array([0.01, 1.0, 9.0])
    chain = Chain(
        tuple((w.astype(np.float32), b.astype(np.float32)) for w, b in zip(weights, biases, strict=True)),
        ("relu", "tanh"),
        0.5,
        True,
        InputNormaliser(mean, variance, 1e-3, 1.5),
    )
    low, high = np.array([-1.0, 0.0], np.float32), np.array([1.0, 4.0], np.float32)
    observations = (mean + np.sqrt(variance) * generator.normal(size=(200, 3))).astype(np.float32)
    z = np.clip((observations - mean) / np.sqrt(variance + 1e-3), -1.5, 1.5)
    hidden = np.tanh(np.maximum(z @ weights[0].T + biases[0], 0) @ weights[1].T + biases[1])
    share = np.tanh(np.clip(hidden @ weights[2].T + biases[2], -0.5, 0.5))
    actions = chain_policy(chain, low, high)(observations)
    assert actions.dtype == np.float32
    assert np.allclose(actions, (low + high) / 2 + (high - low) / 2 * share, atol=1e-5)
    assert np.allclose(actions[:1], chain_policy(chain, low, high)(observations[:1]), atol=1e-6)


def test_a_policy_that_does_nothing_is_refused() -> None:
    still = ActionRange(lambda observations: np.full((len(observations), 2), 0.25, np.float32))
    still(np.zeros((1, 3), np.float32))
    still.refuse_constant()  # one state says nothing yet
    still(np.ones((4, 3), np.float32))
    with pytest.raises(
        DistillError, match=r"same action at every state \(\[0\.25 0\.25\] at 5 states\), expected.*--env"
    ):
        still.refuse_constant()
    refuse_constant(np.array([0.0, 1.0], np.float32), np.array([0.0, 1.5], np.float32), 5)


def test_every_verb_starts_with_the_teacher_fitted_and_its_notes_on_stderr(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = matrices(tmp_path / "four.npz")
    config = SourceConfig(teacher=path, env="Pendulum-v1", wrapper=("gymnasium.wrappers:FlattenObservation",))
    spec, facts, teacher = read_source(config)
    assert (facts.observation_size, teacher.sizes[0], spec.wrappers) == (3, 3, config.wrapper)
    written = capsys.readouterr()
    assert written.out == ""
    assert written.err == f"teacher four.npz: {teacher.notes[0]}\n"
    read_source(config, say_notes=False)
    assert capsys.readouterr().err == ""
    with pytest.raises(DistillError, match="environment has 6 and 1"):
        read_source(SourceConfig(teacher=path, env="Pendulum-v1", frame_stack=2))


def run(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "distill", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@needs_teachers
def test_the_verb_says_what_is_in_a_file_and_what_it_scores() -> None:
    done = run("teacher", str(SHARED / "Pendulum-TQC.npz"), "--env", "Pendulum-v1", "--episodes", "4", "--json")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert (answer["observation_size"], answer["action_size"], answer["sizes"]) == (3, 1, [3, 64, 64, 1])
    assert (answer["parameters"], answer["episodes"], answer["kind"]) == (4481, 4, "plain matrices")
    assert -500 < answer["return_mean"] < -50
    assert answer["environment"] == {"env": "Pendulum-v1", "env_kwargs": {}, "wrappers": [], "frame_stack": 1}


def test_the_verb_refuses_a_teacher_that_does_nothing(tmp_path: Path) -> None:
    path = matrices(
        tmp_path / "still.npz",
        W0=np.zeros((8, 3), np.float32),
        **dict.fromkeys(("obs_mean", "obs_var", "obs_eps", "obs_clip")),
    )
    done = run("teacher", str(path), "--env", "Pendulum-v1", "--episodes", "1")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("error: teacher: gave the same action at every state")


@needs_teachers
def test_counts_that_differ_name_the_argument_that_fits() -> None:
    zoo = SHARED / "zoo"
    done = run(
        "teacher", str(zoo / "trpo-Ant-v3.zip"), "--env", "Ant-v5", "--episodes", "1",
        "--vecnormalize", str(zoo / "trpo-Ant-v3-vecnormalize.pkl"),
    )  # fmt: skip
    assert done.returncode == 1
    line = done.stderr.splitlines()[-1]
    assert "got 111 inputs and 8 actions (84 of the inputs were constant in training), the environment has 105" in line
    assert "--env-kwargs '{\"include_cfrc_ext_in_observation\": false}'" in line
