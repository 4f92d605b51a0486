"""Result files: what is written is JSON, and a damaged one is refused in one line that names it."""

import json
from pathlib import Path

import pytest

from distill.errors import DistillError
from distill.result_file import as_text, read_json, writable, write_json

DAMAGED = {
    "empty": b"",
    "truncated": b'{"options": {"seed"',
    "a list": b"[]",
    "not UTF-8": b'{"options": "\xff\xfe"}',
    "no number": b'{"options": NaN}',
    "too large a number": b'{"options": 1e999}',
    "nested without end": b"[" * 100_000,
    "without the name": b"{}",
}


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_file_is_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "stored.json"
    path.write_bytes(content)
    with pytest.raises(DistillError, match=r"got a damaged file .*expected the JSON object .*; remove it") as caught:
        read_json(path, "options")
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    write_json(tmp_path / "stored.json", {"options": [1, 2.5, None, "ü"]})
    assert read_json(tmp_path / "stored.json", "options") == {"options": [1, 2.5, None, "ü"]}


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_number_that_json_has_no_word_for_is_not_written(tmp_path: Path, value: float) -> None:
    write_json(tmp_path / "stored.json", {"return": 1.0})
    with pytest.raises(DistillError, match=r"stored\.json: got a number that is not finite"):
        write_json(tmp_path / "stored.json", {"return": value})
    assert json.loads((tmp_path / "stored.json").read_text()) == {"return": 1.0}
    with pytest.raises(DistillError, match="the result: got a number that is not finite"):
        as_text({"return": value}, "the result")


def test_a_file_in_the_place_of_the_folder_is_called_one(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(DistillError, match=r"--out .*/out: got a file, expected a folder; name another"):
        writable(tmp_path / "out")
