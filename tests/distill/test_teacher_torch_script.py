"""TorchScript teachers: plain chains are read from the archive's text and tensors; the program is never run."""

import io
import os
import pickle
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from distill.environment import EnvironmentFacts
from distill.errors import DistillError
from distill.teachers import read_teacher

LOW, HIGH = np.array([-1.0, -2.0], np.float32), np.array([1.0, 4.0], np.float32)
FACTS = EnvironmentFacts(3, 1, LOW, HIGH, 0.02, ("a", "b", "c"), ("u", "v"))
OBSERVATIONS = np.random.default_rng(0).normal(size=(100, 3)).astype(np.float32)
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")


class Actor(nn.Module):
    """A user's own module: nested, with a normaliser and functional activations."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(3, 8), nn.ReLU(inplace=True), nn.Linear(8, 5))
        self.head = nn.Linear(5, 2, bias=False)
        self.register_buffer("mean", torch.tensor([0.5, -1.0, 2.0]))
        self.register_buffer("std", torch.tensor([1.0, 0.5, 2.0]))

    def forward(self, observation: torch.Tensor) -> torch.Tensor:
        scaled = torch.clamp((observation - self.mean) / self.std, -1.5, 1.5)
        return torch.tanh(self.head(torch.tanh(self.body(scaled))))


class Branch(Actor):
    def forward(self, observation: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(observation)) + self.head(self.body(observation))


class Sine(Actor):
    def forward(self, observation: torch.Tensor) -> torch.Tensor:
        return self.head(torch.sin(self.body(observation)))


class Decides(Actor):
    def forward(self, observation: torch.Tensor) -> torch.Tensor:
        if bool(observation.sum() > 0):
            return self.head(self.body(observation))
        return -self.head(self.body(observation))


class Two(Actor):
    def forward(self, observation: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        hidden = self.body(observation)
        return self.head(hidden), hidden


def plain() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2), nn.Hardtanh(-2.0, 2.0), nn.Tanh())


def scripted(module: nn.Module) -> torch.jit.ScriptModule:
    return torch.jit.script(module.eval())


def traced(module: nn.Module) -> torch.jit.ScriptModule:
    return torch.jit.trace(module.eval(), torch.zeros(4, 3))


def frozen(module: nn.Module) -> torch.jit.ScriptModule:
    return torch.jit.freeze(scripted(module))


def saved(path: Path, module: nn.Module, how: Callable = scripted) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        how(module).save(str(path))
    return path


@pytest.mark.parametrize("how", [scripted, traced, frozen])
@pytest.mark.parametrize("make", [plain, Actor])
def test_plain_chains_answer_as_torch(tmp_path: Path, how: Callable, make: Callable) -> None:
    torch.manual_seed(1)
    module = make()
    teacher = read_teacher(saved(tmp_path / "actor.pt", module, how), FACTS)
    with torch.no_grad():
        expected = (LOW + HIGH) / 2 + (HIGH - LOW) / 2 * module(torch.from_numpy(OBSERVATIONS)).numpy()
    assert np.allclose(teacher.policy(OBSERVATIONS), expected, atol=1e-5)
    assert teacher.kind == "TorchScript"
    assert teacher.parameters == sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(
    ("make", "how", "message"),
    [
        (Branch, scripted, "uses an intermediate value twice"),
        (Sine, scripted, "torch.sin"),
        (Sine, traced, "torch.sin"),
        (Decides, scripted, "cannot be read"),
        (Two, scripted, "cannot be read"),
        (lambda: nn.Sequential(nn.Linear(3, 2), nn.ELU()), scripted, "elu"),
        (lambda: nn.Sequential(nn.Conv1d(3, 2, 1)), scripted, "cannot be read"),
        (lambda: nn.Sequential(nn.Tanh()), scripted, "no linear layer"),
        (lambda: nn.Linear(3, 5), scripted, "got 3 inputs and 5 actions"),
    ],
)
def test_other_programs_are_refused_in_one_line(tmp_path: Path, make: Callable, how: Callable, message: str) -> None:
    path = saved(tmp_path / "other.pt", make(), how)
    with pytest.raises(DistillError, match=message) as caught:
        read_teacher(path, FACTS)
    assert "\n" not in str(caught.value)


def test_a_file_of_weights_alone_is_refused(tmp_path: Path) -> None:
    torch.save(plain().state_dict(), tmp_path / "weights.pt")
    with pytest.raises(DistillError, match="it holds no program"):
        read_teacher(tmp_path / "weights.pt", FACTS)


def changed(path: Path, change: Callable[[str, bytes], bytes]) -> Path:
    """The archive with every file passed through `change`."""
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, change(name, content))
    return path


class Malicious:
    """Unpickling this would create a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("part", ["data.pkl", "constants.pkl"])
def test_a_malicious_pickle_executes_nothing(tmp_path: Path, part: str) -> None:
    trap = tmp_path / "sprung"
    bomb = pickle.dumps(Malicious(trap), protocol=2)
    path = changed(saved(tmp_path / "evil.pt", plain()), lambda name, old: bomb if name.endswith(f"/{part}") else old)
    with pytest.raises(DistillError, match=r"it names '(os|posix)\.mkdir'.*nothing in it was run"):
        read_teacher(path, FACTS)
    assert not trap.exists()


@pytest.mark.parametrize(
    "line",
    [
        "    __import__('os').mkdir('TRAP')",
        "    import os",
        "    x = open('TRAP', 'w')",
        "    input = ops.aten.from_file('TRAP', True, 1)",
        "    x = [].__class__",
        "    x = torch.load('TRAP')",
    ],
)
def test_malicious_text_executes_nothing(tmp_path: Path, line: str) -> None:
    trap = tmp_path / "sprung"
    mark = b"input: Tensor) -> Tensor:\n"

    def change(name: str, old: bytes) -> bytes:
        return old.replace(mark, mark + line.replace("TRAP", str(trap)).encode() + b"\n")

    path = changed(saved(tmp_path / "evil.pt", plain()), change)
    with pytest.raises(DistillError, match="nothing in it was run"):
        read_teacher(path, FACTS)
    assert not trap.exists()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("return torch.tanh(input)", "return (self).forward(input, )", "nest too deeply"),
        ("return torch.tanh(input)", "return torch.tanh(inputs)", "inputs"),
        ("return torch.linear(input, weight, bias)", "return torch.linear(input, bias, bias)", "do not fit"),
        ("result = torch.relu(input)", "result = torch.neg(input)", r"torch\.neg"),
    ],
)
def test_the_text_is_believed_not_the_names(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = changed(saved(tmp_path / "odd.pt", plain()), lambda _, text: text.replace(old.encode(), new.encode()))
    with pytest.raises(DistillError, match=message):
        read_teacher(path, FACTS)


def test_damaged_tensors_are_refused(tmp_path: Path) -> None:
    path = changed(saved(tmp_path / "cut.pt", plain()), lambda name, old: old[:-4] if name.endswith("/data/0") else old)
    with pytest.raises(DistillError, match="storage 0 holds 23 numbers, expected 24"):
        read_teacher(path, FACTS)
    nan = np.full(24, np.nan, "<f4").tobytes()
    path = changed(saved(tmp_path / "nan.pt", plain()), lambda name, old: nan if name.endswith("/data/0") else old)
    with pytest.raises(DistillError, match="NaN or infinity"):
        read_teacher(path, FACTS)


def test_a_bomb_is_refused_before_it_unpacks(tmp_path: Path) -> None:
    stream = io.BytesIO(saved(tmp_path / "big.pt", plain()).read_bytes())
    with zipfile.ZipFile(stream, "a", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("big/extra", b"\0" * (257 * 2**20))
    (tmp_path / "big.pt").write_bytes(stream.getvalue())
    with pytest.raises(DistillError, match="unpacks to more than"):
        read_teacher(tmp_path / "big.pt", FACTS)
