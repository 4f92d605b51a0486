"""The file of an integer policy: every tensor and entry of the integers is checked when it is read."""

import json
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open

from export.compile import build_policy
from export.errors import FileFormatError
from export.fixed_point.bounds import bounds
from export.fixed_point.network import ACTIVATION_LIMIT
from export.policy_file import encode_policy, read_policy
from export.sparse_policy import SparsePolicy
from export.student_file import Student
from export.tensor_file import encode_tensors

MakeStudent = Callable[..., Student]


class PolicyFile:
    """The tensors and metadata of an integer policy with every kind of layer, to be changed and read again."""

    def __init__(self, folder: Path, policy: SparsePolicy) -> None:
        self.path = folder / "policy.safetensors"
        self.path.write_bytes(encode_policy(policy))
        with safe_open(self.path, framework="numpy") as opened:
            self.tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 (no mapping)
            self.metadata = dict(opened.metadata())

    def read(self, tensors: dict[str, np.ndarray | None], metadata: dict[str, str | None]) -> SparsePolicy:
        """Read with these entries changed; None takes one away."""
        kept = {name: value for name, value in {**self.tensors, **tensors}.items() if value is not None}
        texts = {name: value for name, value in {**self.metadata, **metadata}.items() if value is not None}
        self.path.write_bytes(encode_tensors(kept, texts))
        return read_policy(self.path)

    def refuses(
        self, tensors: dict[str, np.ndarray | None] | None = None, metadata: dict[str, str | None] | None = None
    ) -> None:
        """Check that the change is named in one line."""
        with pytest.raises(FileFormatError) as caught:
            self.read(tensors or {}, metadata or {})
        assert str(caught.value).startswith(f"{self.path}: ")
        assert "\n" not in str(caught.value)
        assert "python -m export compile" in str(caught.value)


@pytest.fixture
def file(make_student: MakeStudent, tmp_path: Path) -> PolicyFile:
    student = make_student(
        (10, 9, 8, 2), 0.6, seed=1, history=2, activations=("tanh", "relu", "identity"), low=-2.0, high=3.0
    )
    student = replace(student, observation_mean=np.float32([9, -30, 0.1, 4, 0]))
    return PolicyFile(tmp_path, build_policy(student, weights="int8,int16,int8"))


def test_an_integer_policy_reads_back_as_it_was(file: PolicyFile) -> None:
    policy = file.read({}, {})
    assert policy.fixed is not None
    assert encode_policy(policy) == file.path.read_bytes()
    assert [layer.multiplier is None for layer in policy.fixed.layers] == [False, True, False]
    assert policy.fixed.input_offset.any()


def test_every_tensor_of_the_integers_is_checked(file: PolicyFile) -> None:
    names = [name for name in file.tensors if name.startswith("fixed.")]
    assert len(names) == 6 + 3 * 2 + 2
    for name in names:
        array = file.tensors[name]
        file.refuses({name: None})
        file.refuses({name: array.astype(np.float32)})
        file.refuses({name: array[:-1]})
        file.refuses({name: np.append(array, array[:1])})
        file.refuses({name: array[None]})
        # Integer actions go up to 2**30, and then float32 rounds by 32.
        least = 128 if name == "fixed.action_middle" else 1
        for position, step in product(range(len(array)), (-least, least)):
            changed = array.copy()
            changed[position : position + 1] += step
            if name == "fixed.input_limit":
                # Where readings saturate is written nowhere else; the bounds are proven for what is read.
                policy = file.read({name: changed}, {})
                assert policy.fixed is not None
                bounds(policy.fixed)
            else:
                file.refuses({name: changed})
    for value in (0, -1, ACTIVATION_LIMIT + 1):
        limit = file.tensors["fixed.input_limit"].copy()
        limit[0] = value
        file.refuses({"fixed.input_limit": limit})


def test_every_entry_of_the_integers_is_checked(file: PolicyFile) -> None:
    for name in ("weights", "fixed_layers"):
        for text in (None, "", "{}", "[]", "null", "[1, 2, 3]", '["int8"]', '["int8", "int8", "int8"]', "\x00"):
            file.refuses(metadata={name: text})
    file.refuses(metadata={"weights": None, "fixed_layers": None})
    layers = json.loads(file.metadata["fixed_layers"])
    assert all(len(layer) == 5 for layer in layers)
    for index, layer in enumerate(layers):
        for key, value in layer.items():
            # Without a multiplier there is nothing that the shift after it could change.
            idle = key == "multiplier_shift" and index == 1
            near = () if idle else tuple(other for other in (value - 1, value + 1) if other >= 0)
            for other in (*near, -1, 31, 2**40, True, None, "7", 1.5, [value]):
                changed = [{**each, key: other} if place == index else each for place, each in enumerate(layers)]
                file.refuses(metadata={"fixed_layers": json.dumps(changed)})
            without = {name: each for name, each in layer.items() if name != key}
            changed = [without if place == index else each for place, each in enumerate(layers)]
            file.refuses(metadata={"fixed_layers": json.dumps(changed)})


def test_floats_beside_the_integers_are_checked(file: PolicyFile) -> None:
    for name in ("layer0.values", "layer1.bias", "observation_centre", "known_answers.actions"):
        changed = file.tensors[name].copy()
        changed.flat[0] = np.nextafter(changed.flat[0], np.float32(100))
        file.refuses({name: changed})
    file.refuses({"fixed.layer1.multiplier": np.ones(8, np.int16)})
