"""What the bridge can do with the packages that each way of installing it brings, and what it says without the others.

The packages of this environment that the install would not have brought are hidden from the program and its children.
"""

import importlib.metadata
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from fake_device import FakeDevice

from firmware_bridge.loop.policy_folder import open_policy_folder

ROOT = Path(__file__).resolve().parents[2]
_OURS = {"distill", "export", "firmware_bridge", "hardware"}
_HIDE = """
import os, sys

class _Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in names:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

names = set(os.environ["HIDDEN_PACKAGES"].split())
sys.meta_path.insert(0, _Hidden())
"""


def _normal(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def _closure(requirements):
    """Distributions that come with these requirements (without extras of theirs)."""
    found, waiting = set(), [_normal(re.match(r"[\w.-]+", requirement)[0]) for requirement in requirements]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        try:
            further = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue  # for another platform or Python
        found.add(name)
        waiting += [_normal(re.match(r"[\w.-]+", item)[0]) for item in further if "extra ==" not in item]
    return found


def _hidden(*extras):
    """Import names of every installed package that an install with these extras does not bring."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = list(project["dependencies"])
    for extra in extras:
        wanted += project["optional-dependencies"][extra]
    kept = _closure(wanted)
    names = importlib.metadata.packages_distributions()
    hidden = {name for name, owners in names.items() if not {_normal(owner) for owner in owners} & kept}
    return hidden - _OURS - {"__pycache__"}


@pytest.fixture
def installed(tmp_path):
    """Environment of an install with some extras; `path` replaces PATH."""

    def make(*extras, path=None, packages=ROOT):
        hidden = _hidden(*extras)
        assert "torch" in hidden
        assert ("mujoco" in hidden) is ("hardware" not in extras)
        folder = tmp_path / "-".join(("site", *extras))
        folder.mkdir()
        (folder / "sitecustomize.py").write_text(_HIDE)
        environment = {**os.environ, "PYTHONPATH": f"{folder}:{packages}", "HIDDEN_PACKAGES": " ".join(sorted(hidden))}
        return environment if path is None else {**environment, "PATH": path}

    return make


def _bridge(environment, *arguments, cwd=ROOT):
    command = [sys.executable, "-m", "firmware_bridge", *map(str, arguments)]
    return subprocess.run(command, env=environment, cwd=cwd, capture_output=True, text=True, timeout=120, check=False)


def _one_line(done):
    assert done.returncode == 1, done.stderr
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    return done.stderr


def test_hidden_packages_cannot_be_imported(installed):
    program = "import sys\ntry:\n    import mujoco\nexcept ModuleNotFoundError:\n    sys.exit(7)"
    done = subprocess.run([sys.executable, "-c", program], env=installed(), capture_output=True, check=False)
    assert done.returncode == 7, done.stderr
    done = subprocess.run([sys.executable, "-c", program], env=installed("hardware"), capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", [None, "/nowhere"])
def test_base_install_drives_a_device_with_and_without_a_compiler(path, installed, make_policy, tmp_path):
    policy = make_policy(seed=31 if path else 32)  # its own folder: nothing compiled lies there yet
    with FakeDevice(open_policy_folder(policy).digest, "socket") as device:
        arguments = ("run", "--port", device.path, "--policy", policy, "--log", tmp_path / "log", "--duration-s", "0.4")
        done = _bridge(installed(path=path), *arguments, "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert (result["steps"], result["backend"]) == (20, "csr" if path else "c")


def test_base_install_says_which_extra_a_simulated_device_needs(installed, policy_folder, tmp_path):
    arguments = ("--policy", policy_folder, "--log", tmp_path / "log")
    line = _one_line(_bridge(installed(), "run", "--port", "sim:", *arguments))
    assert "needs the extra `hardware`: mujoco and elftools cannot be imported" in line
    assert "pip install 'bayesian-policy-distillation[hardware]'" in line


def test_missing_compiler_is_one_line(installed, make_policy, tmp_path):
    environment = installed("hardware", path="/nowhere")
    arguments = ("--policy", make_policy(seed=33), "--log", tmp_path / "log")
    assert "no C compiler" in _one_line(_bridge(environment, "run", "--port", "sim:", *arguments))
    line = _one_line(_bridge(environment, "run", "--port", "sim:", "--backend", "c", *arguments))
    assert "C compiler 'cc' not found" in line
    assert "--backend csr" in line


@pytest.mark.parametrize("verb", ["list", "check --template", "install-daemon --dry-run --bridge /bin/true"])
def test_base_install_has_the_verbs_of_a_bench_computer(verb, installed):
    group = ("--group", "root") if verb.startswith("install") else ()
    done = _bridge(installed(), *verb.split(), *group)
    assert done.returncode == 0, done.stderr


def test_hardware_extra_runs_the_simulated_device_without_torch(installed, make_policy, tmp_path):
    arguments = ("--port", "sim:", "--clock", "lockstep", "--duration-s", "0.4", "--log", tmp_path / "log", "--json")
    done = _bridge(installed("hardware"), "run", "--policy", make_policy(seed=34), *arguments)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["steps"] == 20


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("hatchling") is None, reason="hatchling missing: pip install hatchling")
def test_wheel_runs_by_itself(installed, make_policy, tmp_path):
    """Built from a copy of what git tracks, unpacked as pip does it, run from a folder where no source lies."""
    source = tmp_path / "source"
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, tracked.split("\0")):
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, source / name)
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        str(tmp_path),
    ]
    subprocess.run([*command, str(source)], check=True, timeout=300)
    shutil.rmtree(source)
    (wheel,) = tmp_path.glob("*.whl")
    packages = tmp_path / "packages"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(packages)
    assert (
        "bpd-bridge = firmware_bridge.__main__:main" in next(packages.glob("*.dist-info/entry_points.txt")).read_text()
    )
    environment = installed("hardware", packages=packages)
    where = subprocess.run(
        [sys.executable, "-c", "import firmware_bridge, hardware; print(firmware_bridge.__file__, hardware.__file__)"],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert all(path.startswith(str(packages)) for path in where.stdout.split())
    arguments = ("--port", "sim:", "--clock", "lockstep", "--duration-s", "0.4", "--log", tmp_path / "log", "--json")
    done = _bridge(environment, "run", "--policy", make_policy(seed=35), *arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["steps"] == 20
    done = _bridge(
        environment,
        "install-daemon",
        "--destdir",
        tmp_path / "root",
        "--bridge",
        "/bin/true",
        "--group",
        "root",
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
