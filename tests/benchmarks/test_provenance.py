"""Where figures come from: commits of rows, and what counts as uncommitted."""

import subprocess
from pathlib import Path
from typing import Any

import pytest

from benchmarks import (
    provenance,
)
from distill.identity import sources
from tests.benchmarks.rows import BEGUN, row


def test_rows_belong_to_the_commits_that_made_them() -> None:
    def silent(**changes: Any) -> dict[str, Any]:
        return {key: value for key, value in row(**changes).items() if key != "commit"}

    stored = {"machine": "there", "commit": "b" * 40, "sources": ["0.1 abc"]}
    kept, new = silent(seed=0), row(seed=1, sources="0.1 def")
    both = provenance.origin({**BEGUN, "commit": "e" * 40}, [kept, new], stored, [kept])
    assert both == {"machine": "here", "commits": ["b" * 40, "c" * 40], "sources": ["0.1 abc", "0.1 def"]}
    assert provenance.told(both) == "Commits `bbbbbbbbbbbb`, `cccccccccccc`, here, code 0.1 abc, 0.1 def."
    assert provenance.told(stored) == "Commit `bbbbbbbbbbbb`, there, code 0.1 abc."
    found = {
        seed: provenance.origin(BEGUN, [each], stored, [kept])["commits"]
        for seed, each in enumerate([silent(seed=2), silent(seed=3, sources=sources()), row(commit=None)])
    }
    assert found == {0: ["unknown"], 1: ["c" * 40], 2: ["unknown"]}, "not in the file, but perhaps of today's code"


def test_uncommitted_documents_are_no_uncommitted_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def git(*arguments: str) -> None:
        person = ("-c", "user.name=n", "-c", "user.email=e@example.org")
        subprocess.run(["git", *person, *arguments], cwd=tmp_path, check=True, capture_output=True)

    (tmp_path / "docs").mkdir()
    for name in ("code.py", "docs/results.json"):
        (tmp_path / name).write_text("old", encoding="utf-8")
    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "first")
    monkeypatch.setattr(provenance, "FILE", tmp_path / "code.py")
    (tmp_path / "docs" / "results.json").write_text("new", encoding="utf-8")
    assert len(provenance.commit()) == 40
    provenance.refuse_dirty(allowed=False)
    (tmp_path / "code.py").write_text("new", encoding="utf-8")
    assert provenance.commit().endswith("-dirty")
    with pytest.raises(SystemExit, match="--allow-dirty"):
        provenance.refuse_dirty(allowed=False)
    provenance.refuse_dirty(allowed=True)
