"""Folders of processes that were killed are swept, those in use are not."""

import os
import signal
import subprocess
import sys

from hardware.scratch import ScratchFolder

_CHILD = """
import sys, time
from pathlib import Path
from hardware.scratch import ScratchFolder
folder = ScratchFolder("work-", Path(sys.argv[1]))
(folder.path / "file").touch()
print(folder.path, flush=True)
time.sleep(60)
"""


def test_the_folder_of_a_killed_process_is_swept_and_one_in_use_is_not(tmp_path):
    command = [sys.executable, "-c", _CHILD, str(tmp_path)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    left = child.stdout.readline().strip()
    with ScratchFolder("work-", tmp_path) as second:
        assert os.path.exists(left)
        child.send_signal(signal.SIGKILL)
        child.communicate()
        assert os.path.exists(left)
        with ScratchFolder("work-", tmp_path):
            assert not os.path.exists(left)
            assert second.exists()
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_folder_of_ours_is_left_alone(tmp_path):
    (tmp_path / "precious").mkdir()
    (tmp_path / "work-link").symlink_to(tmp_path / "precious")
    (tmp_path / "work-file").touch()
    (tmp_path / "work-young").mkdir()  # its owner may be about to lock it
    (tmp_path / "work-old").mkdir()
    os.utime(tmp_path / "work-old", (1, 1))
    with ScratchFolder("work-", tmp_path):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == ["precious", "work-file", "work-link", "work-young"]


def test_a_kept_folder_stays_without_its_lock(tmp_path):
    with ScratchFolder("work-", tmp_path) as folder:
        (folder / "file").touch()
    scratch = ScratchFolder("work-", tmp_path)
    (scratch.path / "file").touch()
    scratch.keep_as(tmp_path / "kept")
    scratch.cleanup()
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
    assert [path.name for path in (tmp_path / "kept").iterdir()] == ["file"]
    (tmp_path / "usual").mkdir()
    assert (tmp_path / "kept").stat().st_mode == (tmp_path / "usual").stat().st_mode
