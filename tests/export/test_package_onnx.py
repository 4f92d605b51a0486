"""The ONNX models of `export package`: sparse ones have the dense one's bits, quantised ones follow the integers."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from export.compile import Compiled
from export.package import package
from export.packages.onnx_qdq import qdq_onnx
from export.packages.trial import run_model
from export.student_file import Student

MakeStudent = Callable[..., Student]
CompileTo = Callable[..., tuple[Path, Compiled]]


@pytest.mark.parametrize("weights", ["float32", "int8"])
def test_sparse_onnx_gives_the_bits_of_the_dense_one(
    make_student: MakeStudent, compile_to: CompileTo, tmp_path: Path, weights: str
) -> None:
    folder, result = compile_to(make_student((25, 20, 12, 2), 0.3), weights=weights)
    policy = result.policy
    dense = onnx.load(folder / "policy.onnx")
    for kind in ("onnx-sparse", "onnx-sparse-constant"):
        done = package(folder, kind, tmp_path / f"{kind}.onnx")
        assert done.max_difference == 0
        assert done.trial is not None
        assert done.trial.version is not None
        model = onnx.load(tmp_path / f"{kind}.onnx")
        stored = [node.attribute[0].sparse_tensor for node in model.graph.node if node.op_type == "Constant"]
        sparse = {tensor.values.name: tensor for tensor in (*model.graph.sparse_initializer, *stored)}
        assert set(sparse) == {f"layer{index}.weight" for index in range(len(policy.layers))}
        for index, layer in enumerate(policy.layers):
            tensor = sparse[f"layer{index}.weight"]
            matrix = np.zeros(tuple(tensor.dims), np.float32)
            matrix.ravel()[numpy_helper.to_array(tensor.indices)] = numpy_helper.to_array(tensor.values)
            np.testing.assert_array_equal(matrix, layer.matrix.toarray())
        assert list(model.metadata_props) == list(dense.metadata_props)
    onnx.checker.check_model(onnx.load(tmp_path / "onnx-sparse-constant.onnx"), full_check=True)
    model = onnx.load(tmp_path / "onnx-sparse.onnx")
    onnx.checker.check_model(model)
    # No operator of ONNX takes the type that its inference gives a sparse_initializer: once one does, the second kind
    # may go.
    with pytest.raises(onnx.shape_inference.InferenceError, match="sparse_tensor"):
        onnx.checker.check_model(model, full_check=True)


def test_sparse_onnx_of_a_policy_without_weights_runs(
    make_student: MakeStudent, compile_to: CompileTo, tmp_path: Path
) -> None:
    folder, _ = compile_to(make_student((25, 8, 1), 0.0))
    for kind in ("onnx-sparse", "onnx-sparse-constant"):
        assert package(folder, kind, tmp_path / f"{kind}.onnx").max_difference == 0


# The last layer's integers are multiplied by a number of 15 bits; a product that float32 rounds may be one step off:
# 2^-14 of half the range before a clip, 2^-12 before tanh, which itself is 1.6e-4 from its table.
CLIP = 2.0**-14 / 2
TANH = (2.0**-12 + 1.6e-4) / 2
QDQ: dict[str, tuple[dict[str, object], str, float]] = {
    # Largest difference from the integer reference, as a fraction of the action range.
    "relu, clipped": (
        {"widths": (25, 20, 12, 2), "density": 0.3, "activations": ("relu", "relu", "identity")},
        "int8",
        CLIP,
    ),
    "identity, clipped": ({"widths": (10, 9, 8, 3), "activations": ("identity", "relu", "identity")}, "int8", CLIP),
    "relu, tanh": ({"widths": (25, 64, 64, 1), "density": 0.2}, "int8", TANH),
    "one layer, one frame": ({"widths": (5, 2), "density": 0.5, "history": 1}, "int8", TANH),
    "tanh everywhere": ({"widths": (25, 20, 20, 1), "activations": ("tanh",) * 3, "density": 0.5}, "int8", 1e-3),
    "uneven limits": ({"widths": (25, 8, 1), "density": 0.5, "low": -1.0, "high": 0.3}, "int8", TANH),
    "int16": ({"widths": (25, 64, 64, 1), "density": 0.2}, "int16", 1e-3),
    "mixed": ({"widths": (25, 20, 12, 2), "density": 0.3}, "int8,int16,int8", 1e-3),
    "no weights": ({"widths": (25, 8, 1), "density": 0.0}, "int8", TANH),
}


@pytest.mark.parametrize("name", QDQ)
def test_qdq_onnx_follows_the_integers(
    make_student: MakeStudent, compile_to: CompileTo, tmp_path: Path, name: str
) -> None:
    shape, weights, bound = QDQ[name]
    folder, result = compile_to(make_student(**shape, seed=6), weights=weights)
    policy = result.policy
    done = package(folder, "onnx-qdq", tmp_path / "qdq.onnx")
    assert done.max_difference is not None
    assert done.max_difference <= bound
    observations = np.random.default_rng(8).normal(0, 1.5, (3000, policy.observation_size)).astype(np.float32)
    # Far out, and broken in three ways; what no weight reads may be broken.
    observations[0], observations[1, -1], observations[2, 0], observations[3, 1] = 1e3, np.nan, -np.inf, 3e38
    model = (tmp_path / "qdq.onnx").read_bytes()
    actions = run_model(model, observations).actions
    expected = policy.evaluate_exact(observations)
    np.testing.assert_array_equal(np.isnan(actions), np.isnan(expected))
    action_range = float((policy.action_high - policy.action_low)[0])
    np.testing.assert_allclose(actions, expected, rtol=0, atol=bound * action_range)
    if bound == CLIP:
        assert np.mean(actions[4:] == expected[4:]) > 0.999
    loaded = onnx.load_from_string(model)
    onnx.checker.check_model(loaded, full_check=True)
    kinds = {entry.name: entry.data_type for entry in loaded.graph.initializer}
    for index, layer in enumerate(policy.fixed.layers if policy.fixed else ()):
        wanted = onnx.TensorProto.INT8 if layer.value_bits == 8 else onnx.TensorProto.INT16
        assert kinds[f"layer{index}.weight.integers"] == wanted
    entries = {entry.key: entry.value for entry in loaded.metadata_props}
    assert entries["policy_digest"] == result.digest
    assert json.loads(entries["observation_names"]) == list(policy.observation_names)
    assert model == qdq_onnx(policy, result.digest)


def test_qdq_onnx_agrees_with_the_reference_evaluator(make_student: MakeStudent, compile_to: CompileTo) -> None:
    """onnx's own evaluator computes what the operators' definitions say; a runtime may rewrite them."""
    from onnx.reference import ReferenceEvaluator

    _, result = compile_to(make_student((25, 20, 12, 2), 0.3, seed=6), weights="int8")
    model = qdq_onnx(result.policy, result.digest)
    observations = result.policy.known_observations
    (actions,) = ReferenceEvaluator(onnx.load_from_string(model)).run(None, {"observation": observations})
    np.testing.assert_allclose(actions, result.policy.known_actions, rtol=0, atol=2e-4)
