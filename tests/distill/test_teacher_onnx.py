"""ONNX teachers: the chain read from the graph answers as ONNX Runtime does; everything else is refused by name."""

import os
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from distill.environment import EnvironmentFacts
from distill.errors import DistillError
from distill.teachers import read_teacher

GENERATOR = np.random.default_rng(0)
W0, B0 = GENERATOR.normal(size=(3, 6)).astype(np.float32), GENERATOR.normal(size=6).astype(np.float32)
W1, B1 = GENERATOR.normal(size=(6, 2)).astype(np.float32), GENERATOR.normal(size=2).astype(np.float32)
LOW, HIGH = np.array([-1.0, -2.0], np.float32), np.array([1.0, 4.0], np.float32)
FACTS = EnvironmentFacts(3, 1, LOW, HIGH, 0.02, ("a", "b", "c"), ("u", "v"))
OBSERVATIONS = GENERATOR.normal(size=(100, 3)).astype(np.float32)
CONSTANTS = {
    "W0": W0,
    "W0t": np.ascontiguousarray(W0.T),
    "b0": B0,
    "W1": W1,
    "W1t": np.ascontiguousarray(W1.T),
    "b1": B1,
    "mean": np.array([0.5, -0.5, 2.0], np.float32),
    "std": np.array([[0.5, 2.0, 1.0]], np.float32),
    "half": (HIGH - LOW) / 2,
    "middle": (HIGH + LOW) / 2,
    "low": np.array(-2.0, np.float32),
    "high": np.array(2.0, np.float32),
    "one": np.array(1.0, np.float32),
    "minus": np.array(-1.0, np.float32),
    "bad": np.full((3, 6), np.nan, np.float32),
    "odd": np.zeros((5, 2), np.float32),
    "five": np.ones(5, np.float32),
    "whole": np.ones((3, 6), np.int64),
}


def model(path: Path, *steps: tuple, outputs: tuple[str, ...] = (), extra_inputs: tuple[str, ...] = ()) -> Path:
    """A graph; a step is (operation, inputs after the running value or around '*', {attributes})."""
    nodes, name = [], "observation"
    for index, (operation, *rest) in enumerate(steps):
        attributes = rest.pop() if rest and isinstance(rest[-1], dict) else {}
        inputs = [name if entry == "*" else entry for entry in rest] if "*" in rest else [name, *rest]
        name = f"value{index}"
        nodes.append(helper.make_node(operation, inputs, [name], **attributes))
    entries = [helper.make_tensor_value_info(out, TensorProto.FLOAT, None) for out in outputs or (name,)]
    inputs = [
        helper.make_tensor_value_info(entry, TensorProto.FLOAT, ["batch", 3])
        for entry in ("observation", *extra_inputs)
    ]
    used = {entry for node in nodes for entry in node.input}
    tensors = [numpy_helper.from_array(value, key) for key, value in CONSTANTS.items() if key in used]
    graph = helper.make_graph(nodes, "actor", inputs, entries, tensors)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(made.SerializeToString())
    return path


def answer(path: Path) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {"observation": OBSERVATIONS})[0]


GEMM = ("Gemm", "W0t", "b0", {"transB": 1}), ("Relu",), ("Gemm", "W1", "b1")
MATMUL = ("MatMul", "W0"), ("Add", "b0", "*"), ("Tanh",), ("MatMul", "W1"), ("Add", "*", "b1")


@pytest.mark.parametrize(
    ("steps", "squashed", "sizes"),
    [
        (GEMM, False, (3, 6, 2)),
        (MATMUL, False, (3, 6, 2)),
        ((("Flatten",), ("Identity",), *GEMM, ("Tanh",)), True, (3, 6, 2)),
        ((*MATMUL, ("Clip", "low", "high"), ("Tanh",)), True, (3, 6, 2)),
        ((("Sub", "mean"), ("Div", "std"), *GEMM), False, (3, 6, 2)),
        ((("Sub", "mean"), ("Div", "std"), ("Clip", "minus", "one"), *GEMM, ("Tanh",)), True, (3, 6, 2)),
        ((("Gemm", "W0", {"alpha": 0.5}), ("Gemm", "W1", "b1", {"beta": 2.0})), False, (3, 6, 2)),
        ((("Cast", {"to": TensorProto.FLOAT}), *GEMM, ("Tanh",), ("Clip", "minus", "one")), True, (3, 6, 2)),
    ],
)
def test_the_chain_answers_as_the_runtime(tmp_path: Path, steps: tuple, squashed: bool, sizes: tuple) -> None:
    path = model(tmp_path / "actor.onnx", *steps)
    teacher = read_teacher(path, FACTS)
    raw = answer(path)
    expected = (LOW + HIGH) / 2 + (HIGH - LOW) / 2 * raw if squashed else np.clip(raw, LOW, HIGH)
    assert np.allclose(teacher.policy(OBSERVATIONS), expected, atol=1e-5)
    assert (teacher.kind, teacher.sizes) == ("ONNX", sizes)
    assert len(teacher.notes) == 1
    assert ("tanh" in teacher.notes[0]) == squashed


def test_a_tanh_scaled_to_the_bounds_needs_no_assumption(tmp_path: Path) -> None:
    path = model(tmp_path / "scaled.onnx", *GEMM, ("Tanh",), ("Mul", "half"), ("Add", "middle"))
    teacher = read_teacher(path, FACTS)
    assert np.allclose(teacher.policy(OBSERVATIONS), answer(path), atol=1e-5)
    assert teacher.notes == ()
    wrong = model(tmp_path / "wrong.onnx", *GEMM, ("Tanh",), ("Mul", "half"))
    with pytest.raises(DistillError, match=r"its tanh is scaled to \[-1\. -3\.\]\.\.\[1\. 3\.\]"):
        read_teacher(wrong, FACTS)


def test_parameters_are_weights_and_biases(tmp_path: Path) -> None:
    for name, steps in (("gemm", GEMM), ("matmul", MATMUL)):
        assert read_teacher(model(tmp_path / f"{name}.onnx", *steps), FACTS).parameters == 3 * 6 + 6 + 6 * 2 + 2


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_what_torch_exports_is_read(tmp_path: Path) -> None:
    import torch

    torch.manual_seed(0)
    actor = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2), torch.nn.Tanh())
    path = tmp_path / "torch.onnx"
    arguments = {"input_names": ["observation"], "output_names": ["action"], "dynamo": False}
    torch.onnx.export(actor, (torch.zeros(1, 3),), str(path), **arguments)
    with torch.no_grad():
        expected = (LOW + HIGH) / 2 + (HIGH - LOW) / 2 * actor(torch.from_numpy(OBSERVATIONS)).numpy()
    assert np.allclose(read_teacher(path, FACTS).policy(OBSERVATIONS), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("steps", "options", "message"),
    [
        ((("Sin",), *GEMM), {}, "got operation Sin, expected Gemm"),
        ((*GEMM, ("Softmax",)), {}, "got operation Softmax"),
        ((*GEMM, ("Relu",)), {}, "got activation in a row"),
        ((("Gemm", "W0", "b0"), ("Tanh",), ("Relu",), ("Gemm", "W1", "b1")), {}, "got activation, activation in a row"),
        ((*GEMM, ("Clip", "minus", "one")), {}, r"clipped to -1\.\.1, the environment's actions reach"),
        ((("Tanh",),), {}, "no linear layer"),
        ((("Gemm", "bad", "b0"), ("Gemm", "W1", "b1")), {}, "NaN or infinity"),
        ((("Gemm", "W0", "b0"), ("Gemm", "odd", "b1")), {}, "do not chain"),
        ((("Gemm", "W0", "b0"), ("Mul", "five"), ("Gemm", "W1")), {}, "do not fit"),
        ((("MatMul", "whole"),), {}, "no floating-point numbers"),
        ((("Gemm", "W0", "b1"), ("Gemm", "W1", "b1")), {}, "do not fit together"),
        ((("Cast",), *GEMM), {}, "do not fit together"),
        ((*GEMM, ("Add", "*", "*")), {}, "Add has 2 computed inputs"),
        ((("Gemm", "W0", "*", "b0"), ("Gemm", "W1", "b1")), {}, "got operation Gemm"),
        ((("Gemm", "W0", "b0", {"transA": 1}),), {}, "transposes the observation"),
        ((("Flatten", {"axis": 0}), *GEMM), {}, "got operation Flatten"),
        (GEMM, {"outputs": ("value2", "value0")}, "has outputs value2, value0"),
        (GEMM, {"outputs": ("nowhere",)}, "nothing computes 'nowhere'"),
        (GEMM, {"extra_inputs": ("state",)}, "has inputs observation, state"),
        ((("Gemm", "W0", "b0"),), {}, "got 3 inputs and 6 actions, the environment has 3 and 2"),
    ],
)
def test_other_graphs_are_refused_in_one_line(tmp_path: Path, steps: tuple, options: dict, message: str) -> None:
    path = model(tmp_path / "other.onnx", *steps, **options)
    with pytest.raises(DistillError, match=message) as caught:
        read_teacher(path, FACTS)
    assert "\n" not in str(caught.value)


def test_names_out_of_a_file_stay_on_one_plain_line(tmp_path: Path) -> None:
    path = model(tmp_path / "odd.onnx", *GEMM, ("Two\nlines\x1b[31m",))
    with pytest.raises(DistillError, match=r"got operation Two lines\?\[31m, expected Gemm"):
        read_teacher(path, FACTS)


def test_weights_outside_the_file_are_refused_unread(tmp_path: Path) -> None:
    path = model(tmp_path / "actor.onnx", *GEMM)
    secret = tmp_path / "secret"
    os.mkfifo(secret)  # opening it would hang
    made = onnx.load(str(path))
    tensor = made.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "secret"
    path.write_bytes(made.SerializeToString())
    with pytest.raises(DistillError, match="lies outside the file"):
        read_teacher(path, FACTS)


def test_a_function_of_the_file_cannot_replace_an_operation(tmp_path: Path) -> None:
    path = model(tmp_path / "actor.onnx", *GEMM)
    made = onnx.load(str(path))
    node = helper.make_node("Neg", ["x"], ["y"])
    made.functions.append(helper.make_function("", "Relu", ["x"], ["y"], [node], [helper.make_opsetid("", 17)]))
    path.write_bytes(made.SerializeToString())
    with pytest.raises(DistillError, match="its own functions"):
        read_teacher(path, FACTS)
