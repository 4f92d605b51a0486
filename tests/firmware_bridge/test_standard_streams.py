"""The command line with streams that are closed, full or speak another encoding, and a result that nobody gets."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from firmware_bridge import notices
from firmware_bridge.logs import topics as log_topics
from firmware_bridge.logs.log_file import LogFile

BRIDGE = f"{sys.executable} -m firmware_bridge"
REPOSITORY = Path(__file__).resolve().parents[2]


def _shell(command, **environment):
    """What a shell makes of `command`, where $BRIDGE is the command line."""
    return subprocess.run(
        ["bash", "-c", command],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "BRIDGE": BRIDGE, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("$BRIDGE list >&-", "Bad file descriptor"),
        ("$BRIDGE list --json >&-", "Bad file descriptor"),
        ("$BRIDGE list <&- >&-", "Bad file descriptor"),
        ("$BRIDGE --help >&-", "Bad file descriptor"),
        ("$BRIDGE list > /dev/full", "No space left on device"),
        # The reader is gone before the first byte comes.
        ("{ sleep 0.2; $BRIDGE list; } | true; exit ${PIPESTATUS[0]}", "Broken pipe"),
    ],
)
def test_a_result_that_nobody_gets_is_an_error_of_one_line(command, reason):
    done = _shell(command)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith(f"error: cannot write the result: {reason}; ")
    assert done.stderr.count("\n") == 1


def test_what_an_encoding_lacks_is_written_out(tmp_path):
    log = LogFile(tmp_path / "run.mcap")
    session = {"format_version": log_topics.FORMAT_VERSION, "period_us": 20000, "device": {"board": "Prüfstand"}}
    log.add("/session", 0, log_topics.to_json(session), 0)
    log.finish()
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "COLUMNS": "200"}
    done = _shell(f"$BRIDGE report {tmp_path}", **ascii_only)
    assert (done.returncode, done.stderr) == (0, "")
    assert r"Pr\xfcfstand" in done.stdout
    assert _shell("$BRIDGE --help", **ascii_only).returncode == 0


@pytest.mark.parametrize("closed", ["2>&-", "<&- 2>&-"])
def test_no_descriptor_of_a_closed_stream_goes_to_another_file(closed):
    """Neither its own nor that of a process it starts, which still hears of its pipe and answers."""
    script = """
import os, socket
from firmware_bridge.standard_streams import open_standard_streams
open_standard_streams()
from firmware_bridge.child_process import start_child
from firmware_bridge.notices import say
assert socket.socket().fileno() > 2
say("nobody reads this")
with start_child("firmware_bridge.logs.writer_process") as child:
    child.stdin.close()
    print("child", child.wait(30))
"""
    done = _shell(f'{sys.executable} -c "$SCRIPT" {closed}', SCRIPT=script)
    assert done.stdout == "child 0\n"


def test_a_notice_without_standard_error_does_not_go_to_the_result(monkeypatch, capsys):
    monkeypatch.setattr(sys, "stderr", None)
    notices.say("nobody reads this")
    assert capsys.readouterr().out == ""
