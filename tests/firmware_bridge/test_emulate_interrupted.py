"""`emulate` cut short at every stage: OUT stays as it was, and what is said of it is true."""

import os
import signal
import subprocess
import sys
from types import SimpleNamespace

import pytest

from firmware_bridge import emulate as module
from firmware_bridge.command_line import command_line
from firmware_bridge.config import Emulate
from firmware_bridge.emulate import emulate
from firmware_bridge.errors import BridgeError, LinkLostError, StopRequested
from firmware_bridge.ports.simulated_port import BuiltImage
from firmware_bridge.run import Outcome

BOARD = "netduinoplus2"
RESULT = {
    "mode": "device",
    "steps": 1,
    "upright_fraction_last_3s": 1.0,
    "trajectory_sha256": "0",
    "faults": [],
    "policy_digest": "0",
    "simulator": {},
}


@pytest.fixture
def stages(monkeypatch):
    """The stages of `emulate`, each of which writes what it writes and then does what a test puts here."""
    stages = SimpleNamespace(text="first", build=None, run=None, measure=None)

    def act(what):
        if what is not None:
            raise what

    def build_image(policy, out, board):
        (out / "firmware_hil.elf").write_text(stages.text)
        act(stages.build)
        return BuiltImage(out / "firmware_hil.elf", 1, 1)

    def run(config, told):
        config.log.mkdir()
        (config.log / "run.mcap").write_text(stages.text)
        stages.told = told
        return Outcome({**RESULT, "log": str(told.log / "run.mcap")}, stages.run)

    def measure(*arguments, **options):
        act(stages.measure)
        return SimpleNamespace(instructions=1.0)

    for name, fake in (("build_image", build_image), ("run", run), ("measure", measure)):
        monkeypatch.setattr(module, name, fake)
    return stages


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def config(policy_folder, tmp_path):
    return Emulate(policy=policy_folder, out=tmp_path / "out")


@pytest.mark.parametrize("stage", ["build", "run", "measure"])
def test_an_interrupt_changes_nothing_and_says_so(stage, stages, config, capsys, monkeypatch):
    emulate(config)
    before = contents(config.out)
    stages.text = "second"
    setattr(stages, stage, StopRequested.by_signal(signal.SIGINT) if stage == "run" else KeyboardInterrupt())
    if stage == "run":
        command = ["firmware_bridge", "emulate", "--policy", str(config.policy), "--out", str(config.out)]
        monkeypatch.setattr(sys, "argv", command)
        assert command_line() == 130
        said = capsys.readouterr().err
        assert said.startswith("error: stopped by SIGINT; the emulated device is gone, ")
        assert "nothing was armed" not in said
    else:
        with pytest.raises(KeyboardInterrupt) as caught:
            emulate(config)
        said = str(caught.value)
    assert f"what {config.out} held is unchanged" in said
    assert contents(config.out) == before
    assert sorted(path.name for path in config.out.iterdir()) == [BOARD, f"{BOARD}.json"]


def test_a_run_that_failed_is_kept_apart(stages, config):
    emulate(config)
    before = contents(config.out)
    stages.text, stages.run = "second", LinkLostError("gone")
    with pytest.raises(LinkLostError):
        emulate(config)
    failed = config.out / f"{BOARD}.failed"
    assert contents(failed) == {"firmware_hil.elf": b"second", "log/run.mcap": b"second"}
    now = contents(config.out)
    assert {name: now[name] for name in before} == before


def test_the_previous_result_is_kept_whole(stages, config):
    for text in ("first", "second", "third"):
        stages.text = text
        result = emulate(config)
    assert result["image"] == str(config.out / BOARD / "firmware_hil.elf")
    assert result["log"] == str(config.out / BOARD / "log" / "run.mcap")
    assert contents(config.out / BOARD) == {"firmware_hil.elf": b"third", "log/run.mcap": b"third"}
    assert contents(config.out / f"{BOARD}.previous") == {"firmware_hil.elf": b"second", "log/run.mcap": b"second"}


def test_the_log_names_files_by_the_names_they_get(stages, config):
    result = emulate(config)
    assert stages.told.log == config.out / BOARD / "log"
    assert str(stages.told.image) == result["image"]
    assert stages.told.image.is_file()


def test_a_trajectory_that_could_not_be_written_is_an_error(stages, config, monkeypatch):
    monkeypatch.setitem(RESULT, "simulator", {"error": "No space left on device"})
    with pytest.raises(BridgeError, match="No space left on device"):
        emulate(config)
    assert not (config.out / f"{BOARD}.json").exists()


_BUILD = """
import sys
from pathlib import Path
from firmware_bridge.ports.simulated_port import build_image
build_image(Path(sys.argv[1]), Path(sys.argv[2]), "host")
"""


def test_an_interrupted_build_leaves_no_folder_behind(policy_folder, tmp_path):
    """The bridge alone is interrupted, in the middle of the compiler's work."""
    compiler = tmp_path / "cc"
    compiler.write_text('#!/bin/sh\nkill -INT "$BRIDGE"\nexec sleep 60\n')
    compiler.chmod(0o755)
    command = ["sh", "-c", 'BRIDGE=$$ exec "$@"', "sh", sys.executable, "-c", _BUILD, policy_folder, tmp_path / "out"]
    environment = {**os.environ, "CC": str(compiler)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment)
    assert done.stderr.rstrip().endswith("KeyboardInterrupt")
    assert list((tmp_path / "out").iterdir()) == []
