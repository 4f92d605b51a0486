"""Reading and writing student.safetensors: what goes in comes out, and damage is named."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from export.errors import ExportError, FileFormatError
from export.student_file import Student, read_student, student_digest, write_student
from export.tensor_file import encode_tensors

MakeStudent = Callable[..., Student]


def test_round_trip_keeps_every_field(tmp_path: Path, make_student: MakeStudent) -> None:
    student = make_student(density=0.3, posterior=True)
    path = tmp_path / "student.safetensors"
    write_student(path, student)
    again = read_student(path)
    for name, value in student.__dict__.items():
        if name == "layers":
            for left, right in zip(student.layers, again.layers, strict=True):
                assert left.activation == right.activation
                for field in ("weight", "bias", "mean", "log_alpha"):
                    np.testing.assert_array_equal(getattr(left, field), getattr(right, field))
        elif isinstance(value, np.ndarray):
            np.testing.assert_array_equal(value, getattr(again, name))
        else:
            assert value == getattr(again, name), name


def test_same_student_same_bytes_and_the_official_reader_agrees(tmp_path: Path, make_student: MakeStudent) -> None:
    student = make_student(density=0.3)
    first, second = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    write_student(first, student)
    write_student(second, student)
    assert student_digest(first) == student_digest(second)
    np.testing.assert_array_equal(load_file(first)["layer1.weight"], student.layers[1].weight)


def corrupt(path: Path, tensors: dict[str, object] | None = None, metadata: dict[str, object] | None = None) -> None:
    """Rewrite a student file with some tensors or metadata replaced (None removes)."""
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as opened:
        old_metadata = dict(opened.metadata())
        old = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    old.update(tensors or {})
    old_metadata.update(metadata or {})
    path.write_bytes(
        encode_tensors(
            {name: tensor for name, tensor in old.items() if tensor is not None},
            {name: text for name, text in old_metadata.items() if text is not None},
        )
    )


def nan_at(shape: tuple[int, ...], index: tuple[int, ...], value: float = np.nan) -> np.ndarray:
    array = np.ones(shape, np.float32)
    array[index] = value
    return array


@pytest.mark.parametrize(
    ("tensors", "metadata", "expected"),
    [
        ({"layer1.weight": nan_at((64, 64), (3, 7))}, {}, r"layer1\.weight.*nan at index \(3, 7\)"),
        ({"layer0.bias": nan_at((64,), (5,), np.inf)}, {}, r"layer0\.bias.*inf at index \(5,\)"),
        ({"layer1.weight": np.ones((64, 63), np.float32)}, {}, r"layer1\.weight.*shape \(64, 63\), expected \(n, 64\)"),
        ({"layer1.weight": None}, {}, r"layer1\.weight.*missing"),
        ({"layer1.weight": np.ones((0, 64), np.float32)}, {}, r"shape \(0, 64\)"),
        ({"layer0.bias": np.ones(64, np.uint8)}, {}, r"uint8, expected float32"),
        ({"observation_scale": nan_at((5,), (2,), 0.0)}, {}, r"observation_scale\[2\] is 0\.0"),
        ({"observation_mean": np.zeros(4, np.float32), "observation_scale": np.ones(4, np.float32)}, {}, "expected"),
        ({"action_low": np.ones(1, np.float32)}, {}, r"action_low\[0\] = 1\.0 is not below"),
        ({"layer0.mean": np.ones((64, 25), np.float32)}, {}, "only one of 'mean' and 'log_alpha'"),
        ({}, {"format": "bpd-policy"}, "'bpd-policy', expected 'bpd-student'"),
        ({}, {"format_version": "2"}, "format_version"),
        ({}, {"activations": '["relu", "gelu", "tanh"]'}, "'gelu', expected relu or tanh or identity"),
        ({}, {"activations": '["relu", "relu", "relu"]'}, "expected tanh or identity"),
        ({}, {"activations": "[[]]"}, r"activation of layer 0 is '\[\]'"),
        ({}, {"activations": "not json"}, "expected a JSON list"),
        ({}, {"history": "4"}, "expected history 4 x 5"),
        ({}, {"history": "nan"}, "history"),
        ({}, {"history": None}, "'history' is missing"),
        ({}, {"control_period_s": "0"}, "control_period_s"),
        ({}, {"observation_names": json.dumps(["x"])}, "1 entries, expected 5"),
        ({}, {"config": "[" * 100000}, "config"),
    ],
)
def test_damage_is_named_in_one_line(
    tmp_path: Path,
    make_student: MakeStudent,
    tensors: dict[str, object],
    metadata: dict[str, object],
    expected: str,
) -> None:
    path = tmp_path / "student.safetensors"
    write_student(path, make_student())
    corrupt(path, tensors, metadata)
    with pytest.raises(FileFormatError, match=expected) as caught:
        read_student(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("keep", [0, 4, 8, 100, 5000])
def test_truncated_file(tmp_path: Path, make_student: MakeStudent, keep: int) -> None:
    path = tmp_path / "student.safetensors"
    write_student(path, make_student())
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(FileFormatError, match="not a readable safetensors file"):
        read_student(path)


def test_absurd_header_sizes(tmp_path: Path) -> None:
    path = tmp_path / "student.safetensors"
    header = json.dumps({"x": {"dtype": "F32", "shape": [2**40, 2**40], "data_offsets": [0, 2**62]}}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(FileFormatError):
        read_student(path)
    path.write_bytes((2**63).to_bytes(8, "little") + b"{}")
    with pytest.raises(FileFormatError):
        read_student(path)


def test_missing_file_and_huge_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_student: MakeStudent) -> None:
    with pytest.raises(FileFormatError, match="no such file"):
        read_student(tmp_path / "absent.safetensors")
    with pytest.raises(FileFormatError, match="not a file"):
        read_student(tmp_path)
    path = tmp_path / "student.safetensors"
    write_student(path, make_student())
    monkeypatch.setattr("export.tensor_file.SIZE_LIMIT_BYTES", 1000)
    with pytest.raises(FileFormatError, match="expected at most 1000"):
        read_student(path)


def test_nan_is_not_written_and_the_old_file_survives(tmp_path: Path, make_student: MakeStudent) -> None:
    path = tmp_path / "student.safetensors"
    student = make_student()
    write_student(path, student)
    before = path.read_bytes()
    with pytest.raises(ExportError, match="observation_mean"):
        write_student(path, replace(student, observation_mean=np.full(5, np.nan, np.float32)))
    assert path.read_bytes() == before


def test_evaluate_matches_the_formula(make_student: MakeStudent) -> None:
    student = make_student((10, 8, 2), history=2, low=-3.0, high=5.0)
    observation = np.arange(10.0)
    z = (observation - np.tile(student.observation_mean, 2)) / np.tile(student.observation_scale, 2)
    hidden = np.maximum(student.layers[0].weight @ z + student.layers[0].bias, 0)
    expected = 1.0 + 4.0 * np.tanh(student.layers[1].weight @ hidden + student.layers[1].bias)
    np.testing.assert_allclose(student.evaluate(observation[None])[0], expected, rtol=1e-6)
