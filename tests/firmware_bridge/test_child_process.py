"""Processes beside the loop: they run our code, wherever the bridge was started, and end with their pipe only."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from firmware_bridge.child_process import module_command, module_environment, settings_in, start_child, with_length

MODULES = ("firmware_bridge.logs.writer_process", "firmware_bridge.live.process")


@pytest.mark.parametrize("module", MODULES)
def test_files_in_the_current_folder_are_not_run(module, tmp_path, monkeypatch):
    for name in ("queue", "json", "mcap", "asyncio", "hardware", "firmware_bridge"):
        (tmp_path / f"{name}.py").write_text("import os; os._exit(77)")
    monkeypatch.chdir(tmp_path)
    with start_child(module) as child:
        assert child.stdin is not None
        child.stdin.close()
        assert child.wait(30) == 0


def test_a_simulated_device_is_ours_wherever_the_bridge_was_started(tmp_path):
    (tmp_path / "hardware.py").write_text("import os; os._exit(77)")
    command = [*module_command("hardware"), "--help"]
    done = subprocess.run(command, cwd=tmp_path, env=module_environment(), capture_output=True, check=False)
    assert done.returncode == 0
    assert b"simulate" in done.stdout


_CHILD = """
import os
from firmware_bridge.child_process import become_child
source, answers = become_child()
print("stray")
os.write(answers, b"ready")
os.write(answers, os.read(source, 100))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1])
def test_signals_for_the_bridge_do_not_end_a_child(number):
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    with subprocess.Popen([sys.executable, "-c", _CHILD], **pipes, env=environment, bufsize=0) as child:
        assert child.stdout.read(5) == b"ready"
        child.send_signal(number)
        child.stdin.write(b"still here")
        assert child.stdout.read(100) == b"still here"
        assert child.wait(30) == 0


def test_settings_arrive_whole_or_not_yet():
    data = with_length(b'{"a": [1, 2]}')
    for end in range(len(data)):
        assert settings_in(data[:end]) is None
    assert settings_in(data + b"more") == ({"a": [1, 2]}, len(data))
