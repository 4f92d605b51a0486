"""A path that names a device, a pipe or a folder is refused, and what stands there stays; symlinks are followed."""

import os
import stat

import pytest

from hardware.errors import HardwareError
from hardware.replace import check_writable, replacing


def _write(path):
    with replacing(path) as temporary:
        temporary.write_bytes(b"new")


@pytest.fixture(params=["pipe", "device", "symlink to a pipe", "folder", "endless symlink"])
def taken(request, tmp_path):
    """Something that is no regular file, and the name under which it is asked for."""
    place = tmp_path / "place"
    if request.param == "folder":
        place.mkdir()
    elif request.param == "endless symlink":
        place.symlink_to(place)
    elif request.param == "device":
        try:
            os.mknod(place, stat.S_IFCHR | 0o600, os.makedev(1, 3))  # our own /dev/null
        except PermissionError:
            pytest.skip("only root makes device nodes")
    else:
        os.mkfifo(place)
    if request.param == "symlink to a pipe":
        (tmp_path / "link").symlink_to(place)
        return tmp_path / "link"
    return place


@pytest.mark.parametrize("act", [check_writable, _write])
def test_what_is_no_regular_file_is_refused_and_stays(taken, act, tmp_path):
    before = {path.name: path.lstat().st_ino for path in tmp_path.iterdir()}
    with pytest.raises(HardwareError, match=r"cannot write .*: got a .*, expected a regular file .*; choose another"):
        act(taken)
    assert {path.name: path.lstat().st_ino for path in tmp_path.iterdir()} == before


def test_what_becomes_a_pipe_in_the_meantime_stays(tmp_path):
    def act():
        with replacing(tmp_path / "out") as temporary:
            temporary.write_bytes(b"new")
            os.mkfifo(tmp_path / "out")

    with pytest.raises(HardwareError, match="expected a regular file"):
        act()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert stat.S_ISFIFO((tmp_path / "out").lstat().st_mode)


def test_a_symlink_stays_one_and_its_file_is_replaced(tmp_path):
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    for target in (folder / "there", folder / "not yet"):
        link = tmp_path / f"link to {target.name}"
        link.symlink_to(target)
        check_writable(link)
        _write(link)
        assert link.is_symlink()
        assert target.read_bytes() == b"new"
    assert sorted(path.name for path in folder.iterdir()) == ["not yet", "there"]
