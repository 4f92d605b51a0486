"""Exporters side by side: the networks, what counts as a result, and the table."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import (
    export_benchmark,
    export_images,
    export_networks,
    export_ours,
    export_peers,
    export_tables,
)
from export.errors import ExportError, ToolError
from export.student_file import Student, read_student, write_student
from export.targets.target import TARGETS
from tests.benchmarks.rows import BEGUN


@pytest.fixture(scope="module")
def student() -> Student:
    return export_networks.network("student")


def test_networks_have_the_stated_shape_and_spread(student: Student) -> None:
    teacher = export_networks.network("teacher")
    assert sum(layer.weight.size + layer.bias.size for layer in teacher.layers) == 72_705
    assert [np.count_nonzero(layer.weight) for layer in student.layers] == [300, 680, 128]
    inputs = export_networks.observations(10_000, 7)
    for each in (teacher, student):
        before = np.arctanh(each.evaluate(inputs))
        assert abs(before.mean()) < 0.1
        assert 0.9 < before.std() < 1.1


def test_every_unit_of_the_student_changes_some_output(student: Student) -> None:
    first, second, last = (layer.weight.astype(np.float64) for layer in student.layers)
    inputs = export_networks.observations(2_000, 7)
    hidden = np.maximum(inputs @ first.T + student.layers[0].bias, 0.0)
    before = np.maximum(hidden @ second.T + student.layers[1].bias, 0.0)
    output = before @ last.T
    for unit in range(len(first)):
        without = hidden.copy()
        without[:, unit] = 0.0
        assert (np.maximum(without @ second.T + student.layers[1].bias, 0.0) @ last.T != output).any(), unit
    assert (before > 0).any(axis=0).all()
    assert last.all()
    assert first.any(axis=0).all()


def test_networks_are_the_same_every_time_and_files_hold_them(tmp_path: Path, student: Student) -> None:
    write_student(tmp_path / "a", student)
    write_student(tmp_path / "b", export_networks.network("student"))
    write_student(tmp_path / "c", export_networks.network("student", seed=1))
    same, again, other = ((tmp_path / name).read_bytes() for name in "abc")
    assert same == again != other
    assert read_student(tmp_path / "a").widths == (25, 128, 128, 1)


def test_cells_that_cannot_reach_every_row_and_column_are_refused() -> None:
    random = np.random.default_rng(0)
    for count in (5, 21):
        with pytest.raises(ValueError, match="expected 6 to 18"):
            export_networks.place(3, 6, count, random)
    chosen = export_networks.place(3, 6, 7, random)
    assert chosen.sum() == 7
    assert chosen.any(axis=0).all()
    assert chosen.any(axis=1).all()


_LOOP = """\
#include <math.h>

static float kept[10];
static void peer_evaluate(const float *observation, float *action) {
    float sum = 0.0f;
    for (int i = 0; i < LENGTH; ++i) {
        sum += observation[i];
    }
    kept[0] = sum;
    action[0] = TANH(*(volatile float *)kept);
}
"""


class Sum:
    """What the C above computes with tanh, for 25 inputs."""

    widths = (25, 1)

    def evaluate(self, observations: np.ndarray) -> np.ndarray:
        return np.tanh(observations.sum(axis=1, keepdims=True))


@pytest.mark.cross
@pytest.mark.parametrize("target", ["cortex-m4f", "cortex-m0plus"])
def test_a_peer_is_weighed_and_counted_from_the_first_call(tmp_path: Path, target: str) -> None:
    figures = []
    for length, tanh in ((25, "tanhf"), (24, "tanhf"), (25, "")):
        (tmp_path / "peer.h").write_text(_LOOP.replace("LENGTH", str(length)).replace("TANH", tanh), encoding="utf-8")
        inputs = export_networks.observations(20, 7)
        code = export_peers.PeerCode(tmp_path)
        options: dict[str, Any] = {"optimisation": "-Os", "scratch": tmp_path}
        figures.append(export_images.cost(TARGETS[target], code, Sum(), inputs, **options))  # type: ignore[arg-type]
    whole, shorter, bare = figures
    assert whole.max_error < 1e-5 < shorter.max_error
    assert bare.max_error > 0.1
    assert 3 <= whole.instructions - shorter.instructions < 200
    assert bare.instructions > 25 * 3
    assert whole.flash_bytes > bare.flash_bytes + 300  # tanhf
    assert bare.ram_bytes == 4 * (25 + 1 + 10)


@pytest.mark.cross
def test_code_that_leaves_its_output_alone_is_no_result(tmp_path: Path) -> None:
    text = "static void peer_evaluate(const float *observation, float *action) {\n}\n"
    (tmp_path / "peer.h").write_text(text, encoding="utf-8")
    code, inputs = export_peers.PeerCode(tmp_path), export_networks.observations(5, 7)
    with pytest.raises(ToolError, match="not finite"):
        export_images.cost(
            TARGETS["cortex-m4f"],
            code,
            Sum(),
            inputs,
            optimisation="-O2",
            scratch=tmp_path,  # type: ignore[arg-type]
        )


@pytest.mark.cross
def test_our_rows_are_the_step_and_the_bare_network(tmp_path: Path, student: Student) -> None:
    inputs = export_networks.observations(50, 7)
    made = export_ours.our_rows(export_ours.OURS[0], "student", student, inputs, target="cortex-m4f", scratch=tmp_path)
    step, bare = made
    assert (step["entry"], bare["entry"]) == (export_ours.STEP, export_ours.STACKED)
    # Ten frames and two counters are kept, padded to words; one frame comes in instead of five.
    assert step["ram_bytes"] == bare["ram_bytes"] + 4 * 50 + 4 - 4 * 20
    assert 0 < step["max_error"] == bare["max_error"] < 2e-6
    assert min(bare["instructions"], step["instructions"]) > 4_000
    assert max(bare["instructions"], step["instructions"]) < 10_000


def test_options_that_export_lacks_are_named(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="`export compile` refuses --nonsense"):
        export_ours.export_command("compile", "student", "--out", str(tmp_path), "--nonsense", "1")


def test_the_same_reason_is_one_line_without_scratch_folders(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    left_out = export_benchmark.LeftOut()
    for where, folder in (("teacher", "aaa"), ("student", "bbb")):
        left_out.add("peer (float32)", where, ToolError(f"first\n{tempfile.gettempdir()}/{folder}/net.c: no such file"))
    assert left_out.lines() == ["peer (float32): net.c: no such file (teacher, student)"]
    assert "left out: teacher" in capsys.readouterr().err


def test_a_peer_that_is_missing_costs_its_own_rows_only(tmp_path: Path, student: Student) -> None:
    def write(*_arguments: object) -> export_peers.PeerCode:
        raise ImportError("No module named 'peer'")

    left_out = export_benchmark.LeftOut()
    peer = export_peers.Peer("peer", "float32", write)
    assert not list(export_benchmark.peer_rows(peer, "student", student, tmp_path, left_out))
    assert left_out.lines() == ["peer (float32): No module named 'peer' (student)"]


def test_the_table_of_exporters_shows_every_row() -> None:
    figures = {"flash_bytes": 8_136, "ram_bytes": 128, "stack_bytes": 44, "instructions": 11_446.0}
    common = {"network": "student", "entry": export_ours.STACKED, "max_error": 1e-7, "error_inputs": 1_000}
    ours = {**common, "tool": "ours", "variant": "a", "target": "cortex-m4f", **figures, "instructions_max": 11_446}
    peer = ours | {"tool": "peer", "target": "avr", "instructions_max": 12_000}
    large = peer | {"ram_bytes": 2_005, "counted_inputs": 10_008}
    here = {**common, "tool": "peer", "variant": "b", **export_ours.host_figures(1.5, 1e-7, 1_000)}
    stored = {
        **BEGUN,
        **{"compilers": {"avr": "gcc 1"}, "packages": {"peer": "1.0", "gone": None}, "counted_inputs": 8},
        **{"left_out": ["gone: no"], "not_measured": {"other": "not on PyPI"}, "rows": [ours, peer, large, here]},
    }
    text = export_tables.section(stored)
    assert "| **8,136** | 128 (+ 44) | **11,446** | 1.0e-07 |" in text
    assert "| 8,136 | 128 (+ 44) | 11,446, up to 12,000 |" in text
    assert "| 8,136 | 2,005 (+ 44); too large | 11,446, up to 12,000 (10,008 inputs) |" in text
    assert "| student | peer | b | 1.50 |" in text
    assert "- gone: no" in text
    assert "gone None" not in text
    assert "over 1,000 observations" in text
