"""policy.safetensors and policy.onnx: deterministic, checked, and the same function in every precision."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from safetensors import safe_open

from export.compile import Compiled, build_policy
from export.errors import ExportError, FileFormatError
from export.policy_file import encode_policy, policy_digest, read_policy
from export.student_file import Student
from export.tensor_file import encode_tensors
from export.verify import run_onnx

MakeStudent = Callable[..., Student]
CompileTo = Callable[..., tuple[Path, Compiled]]


def test_round_trip_and_digest(tmp_path: Path, make_live_student: MakeStudent) -> None:
    policy = build_policy(make_live_student(), {"student": "cd" * 32})
    path = tmp_path / "policy.safetensors"
    path.write_bytes(encode_policy(policy))
    again = read_policy(tmp_path)
    observations = np.random.default_rng(0).normal(size=(20, 25))
    np.testing.assert_array_equal(policy.evaluate(observations), again.evaluate(observations))
    np.testing.assert_array_equal(policy.known_actions, again.known_actions)
    assert again.parents == {"teacher": "ab" * 32, "student": "cd" * 32}
    assert (again.kept_weights, again.density, again.byte_count) == (
        policy.kept_weights,
        policy.density,
        policy.byte_count,
    )
    assert encode_policy(again) == path.read_bytes()
    assert policy_digest(path) == policy_digest(tmp_path)


def test_narrowest_types(tmp_path: Path, make_student: MakeStudent) -> None:
    for inputs, expected in ((250, "U8"), (300, "U16")):
        policy = build_policy(make_student((inputs, 4, 1), 0.1))
        (tmp_path / "policy.safetensors").write_bytes(encode_policy(policy))
        with safe_open(tmp_path / "policy.safetensors", framework="numpy") as opened:
            assert opened.get_slice("layer0.columns").get_dtype() == expected
            assert opened.get_slice("layer0.row_pointers").get_dtype() == "U16"


def test_float32_is_close_to_the_reference(make_live_student: MakeStudent) -> None:
    policy = build_policy(make_live_student())
    observations = np.random.default_rng(0).normal(size=(500, 25)).astype(np.float32)
    single = policy.evaluate_float32(observations)
    assert single.dtype == np.float32
    assert np.abs(single - policy.evaluate(observations)).max() < 1e-6


def test_wrong_observation_size_is_named(make_student: MakeStudent) -> None:
    with pytest.raises(ExportError, match=r"shape \(3, 24\), expected \(n, 25\)"):
        build_policy(make_student()).evaluate(np.zeros((3, 24)))


@pytest.mark.parametrize(
    ("name", "change", "expected"),
    [
        ("layer0.columns", lambda a: np.full_like(a, 200), "expected below 25"),
        ("layer0.columns", np.zeros_like, "column twice in one row"),
        ("layer0.columns", lambda a: a[:-1], "expected"),
        ("layer0.row_pointers", lambda a: a[::-1].copy(), "start at 0"),
        ("layer0.values", lambda a: a * np.float32(np.nan), "nan at index"),
        ("layer1.bias", lambda a: a[:-1], "shape"),
        ("known_answers.actions", lambda a: a[:-1], "shape"),
    ],
)
def test_damage_is_named(
    tmp_path: Path,
    make_live_student: MakeStudent,
    name: str,
    change: Callable[[np.ndarray], np.ndarray],
    expected: str,
) -> None:
    path = tmp_path / "policy.safetensors"
    path.write_bytes(encode_policy(build_policy(make_live_student())))
    rewrite(path, name, change)
    with pytest.raises(FileFormatError, match=expected):
        read_policy(path)


@pytest.mark.parametrize("shapes", ["[[30, 25]]", "[[30, 25], [30, 31], [1, 30]]", "[[1e9, 25]]", '["x", 1, 2]', "{}"])
def test_bad_layer_shapes(tmp_path: Path, make_live_student: MakeStudent, shapes: str) -> None:
    path = tmp_path / "policy.safetensors"
    path.write_bytes(encode_policy(build_policy(make_live_student())))
    rewrite(path, "", lambda a: a, {"layer_shapes": shapes})
    with pytest.raises(FileFormatError):
        read_policy(path)


def rewrite(
    path: Path, name: str, change: Callable[[np.ndarray], np.ndarray], metadata: dict[str, str] | None = None
) -> None:
    with safe_open(path, framework="numpy") as opened:
        tensors = {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118
        old = opened.metadata()
    if name:
        tensors[name] = change(tensors[name])
    path.write_bytes(encode_tensors(tensors, {**old, **(metadata or {})}))


def test_onnx_is_clean_and_says_what_it_takes(make_live_student: MakeStudent, compile_to: CompileTo) -> None:
    folder, compiled = compile_to(make_live_student())
    model = onnx.load(folder / "policy.onnx", load_external_data=False)
    onnx.checker.check_model(model, full_check=True)
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    assert not any(tensor.external_data for tensor in model.graph.initializer)
    properties = {item.key: item.value for item in model.metadata_props}
    assert properties["policy_digest"] == compiled.digest
    order = json.loads(properties["observation_order"])
    assert len(order) == 25
    assert order[0] == "signal 0 [m], frame -4"
    assert order[-1] == "signal 4 [m], frame 0"
    assert json.loads(properties["action_high"]) == [1.0]
    assert float(properties["control_period_s"]) == 0.02


@pytest.mark.parametrize("final", ["tanh", "identity"])
@pytest.mark.parametrize("batch", [1, 7])
def test_onnx_matches_the_reference(make_student: MakeStudent, compile_to: CompileTo, final: str, batch: int) -> None:
    student = make_student((25, 12, 9, 3), 0.4, activations=("relu", "tanh", final), low=-2.5, high=0.5)
    folder, compiled = compile_to(student)
    observations = np.random.default_rng(1).normal(size=(batch, 25)).astype(np.float32)
    expected = compiled.policy.evaluate(observations)
    np.testing.assert_allclose(run_onnx(folder, observations), expected, atol=3e-6, rtol=0)
