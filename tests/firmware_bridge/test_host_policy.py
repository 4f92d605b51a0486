"""The policy on the PC is built by export's own builder, kept by digest, and fails in one line."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from firmware_bridge.errors import HostPolicyError
from firmware_bridge.loop.host_policy import CBackend, CsrBackend, OnnxBackend, open_backend
from firmware_bridge.loop.policy_folder import open_policy_folder


@pytest.fixture
def folder(policy_folder, tmp_path):
    copy = tmp_path / "policy"
    shutil.copytree(policy_folder, copy, ignore=shutil.ignore_patterns("*.so"))
    return open_policy_folder(copy)


def _libraries(folder):
    return sorted(folder.directory.glob("host_policy-*.so"))


def test_library_is_built_once_and_again_for_another_header_or_compiler(folder, monkeypatch):
    CBackend(folder)
    first = _libraries(folder)
    built = first[0].stat().st_mtime_ns
    CBackend(folder)
    assert _libraries(folder) == first
    assert first[0].stat().st_mtime_ns == built
    folder.header.write_text(folder.header.read_text() + "/* changed */\n")
    CBackend(folder)
    assert len(_libraries(folder)) == 2
    monkeypatch.setenv("CC", "cc -g0")
    CBackend(folder)
    assert len(_libraries(folder)) == 3
    assert not list(folder.directory.glob(".host_policy-*"))


def test_library_of_the_current_folder_is_found(folder, monkeypatch):
    monkeypatch.chdir(folder.directory)
    assert CBackend(open_policy_folder(Path())).name == "c"
    assert len(_libraries(folder)) == 1


@pytest.mark.parametrize("compiler", ["no-such-compiler", "false", "/"])
def test_without_a_compiler_auto_falls_back_and_c_says_so_in_one_line(folder, monkeypatch, compiler):
    monkeypatch.setenv("CC", compiler)
    backend, why = open_backend(folder, "auto")
    assert isinstance(backend, OnnxBackend)
    assert "--backend csr" in why
    (folder.directory / "policy.onnx").unlink()
    backend, why = open_backend(folder, "auto")
    assert isinstance(backend, CsrBackend)
    assert "policy.onnx" in why
    assert "\n" not in why
    with pytest.raises(HostPolicyError, match=str(folder.directory)) as caught:
        open_backend(folder, "c")
    assert "\n" not in str(caught.value)


def test_narrowing_in_the_header_is_refused(folder):
    """Export's flags hold here too: -Wconversion is an error."""
    text = folder.header.read_text()
    folder.header.write_text(text.replace("#endif\n", "static inline uint8_t cut(int x) { return x; }\n#endif\n"))
    with pytest.raises(HostPolicyError, match="conversion"):
        open_backend(folder, "c")


def test_wrong_known_answer_is_found(folder):
    text = folder.header.read_text()
    start = text.index("policy_known_actions[")
    value = text[text.index("{", start) + 1 :].split(",")[0].strip()
    changed = text[:start] + text[start:].replace(value, "0.5f" if value != "0.5f" else "0.25f", 1)
    folder.header.write_text(changed)
    with pytest.raises(HostPolicyError, match="known answer 0 fails"):
        open_backend(folder, "c")


_COMPILE = """
import sys
from pathlib import Path
from firmware_bridge.loop.host_policy import CBackend
from firmware_bridge.loop.policy_folder import open_policy_folder
CBackend(open_policy_folder(Path(sys.argv[1])))
"""


def test_what_a_killed_process_left_is_swept_by_the_next(folder, tmp_path):
    compiler = tmp_path / "cc"
    compiler.write_text('#!/bin/sh\nkill -KILL "$BRIDGE"\n')
    compiler.chmod(0o755)
    command = ["sh", "-c", 'BRIDGE=$$ exec "$@"', "sh", sys.executable, "-c", _COMPILE, str(folder.directory)]
    done = subprocess.run(command, timeout=60, check=False, env={**os.environ, "CC": str(compiler)})
    assert done.returncode == -signal.SIGKILL
    left = list(folder.directory.glob(".host_policy-*"))
    assert len(left) == 1
    CBackend(folder)
    assert len(_libraries(folder)) == 1
    assert not list(folder.directory.glob(".host_policy-*"))


def test_every_backend_gives_the_same_actions(folder):
    generator = np.random.default_rng(3)
    frames = [tuple(map(float, generator.normal(0, [0.2, 1.0, 0.7, 0.7, 4.0]))) for _ in range(50)]
    backends = [CBackend(folder), OnnxBackend(folder), CsrBackend(folder)]
    for step, frame in enumerate(frames):
        if step % 20 == 7:
            for backend in backends:
                backend.reset()
                backend.observe(frames[0])
        expected, *others = [backend.step(frame) for backend in backends]
        assert others == pytest.approx([expected] * 2, abs=1e-4)


def test_onnx_of_another_policy_or_none_is_refused_in_one_line(folder, make_policy):
    other = make_policy(seed=9) / "policy.onnx"
    shutil.copyfile(other, folder.directory / "policy.onnx")
    with pytest.raises(HostPolicyError, match=rf"was made from policy .*expected {folder.digest[:12]}"):
        open_backend(folder, "onnx")
    (folder.directory / "policy.onnx").write_bytes(b"not a model")
    with pytest.raises(HostPolicyError, match="onnxruntime refuses it") as caught:
        open_backend(folder, "onnx")
    assert "\n" not in str(caught.value)


def test_without_onnxruntime_the_remedy_is_named(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(HostPolicyError, match=r"pip install .*--backend csr"):
        open_backend(folder, "onnx")
