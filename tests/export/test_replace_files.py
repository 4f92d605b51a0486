"""Files that are replaced: never a device node or a pipe, and through a symlink the file behind it."""

import os
import stat

import pytest

from distill.datasets.mapped_tensors import TensorWriter
from distill.errors import DistillError
from export.errors import ExportError
from export.replace_files import replace_files
from firmware_bridge.logs.export_tables import CsvFile


def test_a_pipe_is_refused_before_anything_is_written(tmp_path):
    (tmp_path / "first").write_bytes(b"old")
    os.mkfifo(tmp_path / "second")
    with pytest.raises(ExportError, match=r"second is a device, pipe.*earlier files there are unchanged"):
        replace_files(tmp_path, {"first": b"new", "second": b"new"})
    assert (tmp_path / "first").read_bytes() == b"old"
    assert stat.S_ISFIFO((tmp_path / "second").lstat().st_mode)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["first", "second"]


def test_a_symlink_stays_one_and_its_file_is_replaced(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "name").symlink_to(tmp_path / "there" / "file")
    assert replace_files(tmp_path, {"name": b"new"}) == [tmp_path / "name"]
    assert (tmp_path / "name").is_symlink()
    assert (tmp_path / "there" / "file").read_bytes() == b"new"


def test_datasets_and_tables_refuse_pipes_too(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with (
        pytest.raises(DistillError, match="pipe is a device, pipe"),
        TensorWriter(tmp_path / "pipe", {"rows": ((1,), "float32")}, {}),
    ):
        raise AssertionError("the writer is open")
    with pytest.raises(OSError, match="pipe is a device, pipe"):
        CsvFile(tmp_path / "pipe", (("number", "number"),))
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]
    assert stat.S_ISFIFO((tmp_path / "pipe").lstat().st_mode)
