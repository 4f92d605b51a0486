"""Results files: what a run of some environments or letters leaves of the others, and what the tables say."""

import subprocess
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import (
    ablation_tables,
    ablations,
    distillation,
    distillation_tables,
    export_benchmark,
    export_images,
    export_networks,
    export_ours,
    export_peers,
    export_tables,
    policy_distillation_tables,
    provenance,
    refinement,
    refinement_tables,
)
from distill.ablate import DENSITIES
from distill.ablate_config import AblateConfig
from distill.config import TrainConfig
from distill.identity import Identities, as_json, sources
from export.errors import ExportError, ToolError
from export.student_file import Student, read_student, write_student
from export.targets.target import TARGETS

BEGUN = {"machine": "here", "commit": "c" * 40}
TEACHER = [100.0] * 10


def row(**changes: Any) -> dict[str, Any]:
    return {
        "environment": "One",
        "teacher": "teacher.npz",
        "method": "linear",
        "size": 100,
        "threshold": None,
        "seed": 0,
        "pruned_to": 100,
        "kept_weights": 90,
        "kept_parameters": 95,
        "density": 0.5,
        "bytes": 700,
        "dense_bytes": 400,
        "steps": 1_000,
        "return_iqm": 99.0,
        "teacher_return_iqm": 100.0,
        "teacher_parameters": 5_000,
        "cpu_seconds": 3.0,
        "commit": "c" * 40,
        "sources": "0.1 abc",
        "returns": [99.0] * 20,
    } | changes


def measured(rows: list[dict[str, Any]], *names: str) -> dict[str, Any]:
    cases = [case for case in distillation.CASES if case.name in names]
    return {case.name: distillation.measurement(BEGUN, rows, {case.name: TEACHER}, case, None) for case in cases}


def test_other_environments_keep_their_rows(capsys: pytest.CaptureFixture[str]) -> None:
    first = [row(environment="Hopper-TQC", seed=seed) for seed in range(2)] + [row(environment="CartRail")]
    stored = distillation.merged(None, BEGUN, first, measured(first, "Hopper-TQC", "CartRail"))
    assert stored["rows"] == first
    again = [row(environment="Hopper-TQC", return_iqm=50.0, commit="d" * 40, sources="0.1 def")]
    later = {**BEGUN, "commit": "e" * 40}  # when the rows were gathered, no code of theirs
    case = next(case for case in distillation.CASES if case.name == "Hopper-TQC")
    figures = {"Hopper-TQC": distillation.measurement(later, again, {"Hopper-TQC": TEACHER}, case, stored)}
    both = distillation.merged(stored, later, again, figures)
    assert both["rows"] == [first[2], *again]
    assert "1 rows take the place of 2" in capsys.readouterr().err
    assert both["provenance"]["CartRail"]["commits"] == ["c" * 40]
    assert both["provenance"]["Hopper-TQC"]["commits"] == ["d" * 40]
    assert both["sources"] == ["0.1 abc", "0.1 def"]
    text = distillation_tables.section(both)
    assert "`cccccccccccc`" in text
    assert "`dddddddddddd`" in text


def test_tables_show_the_smaller_form_of_dense_students_alone() -> None:
    assert distillation_tables.stored_bytes(row()) == 400
    assert distillation_tables.stored_bytes(row(method="student-driven")) == 700
    assert "| 400 |" in distillation_tables.environment_table([row()], TEACHER)


def test_methods_that_were_not_run_keep_their_rows() -> None:
    stored = [row(), row(method="dense, equal bytes"), row(environment="Two")]
    new = [row(seed=1), row(method="student-driven")]
    assert distillation.beside(stored, new, ["One"]) == [new[1], new[0], stored[1]]
    assert distillation.beside(stored, [], ["Two"]) == [stored[2]]
    assert distillation.beside([], new, ["One"]) == [new[1], new[0]]


def test_claims_of_the_second_paper_come_with_verdict_and_numbers() -> None:
    claims = [
        {"claim": "p(R|s0)", "reproduced": False, "figures": {"ratio": {"mean": 0.51234, "low": 0.4, "high": 0.6}}},
        {"claim": "two", "reproduced": None, "figures": {"few": {"mean": 1.0, "low": None, "high": None}}},
        {"claim": "three", "reproduced": True, "figures": {"many": {str(number): number for number in range(99)}}},
    ]
    text = policy_distillation_tables.section({"figures": {"fig2": {**BEGUN, "verdicts": claims}}})
    assert "| p(R\\|s0) | **no** | ratio 0.512 (0.4 to 0.6) |" in text
    assert "| two | cannot be said | few 1 |" in text
    assert "| three | yes | see the JSON file |" in text
    assert "![fig2](results/fig2.svg)" in text


def refined(method: str, **changes: Any) -> dict[str, Any]:
    return row(environment="CartRail", method=method, size=80) | changes


def test_refinements_stand_beside_earlier_methods_with_their_robustness(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refinement, "TARGET", tmp_path / "refine.json")
    rates = {"success": 0.75, "interval": [0.5, 0.9]}
    summary = {name: {"teacher": rates, "students": rates} for name in ("nominal", "extra delay 0", "extra delay 1")}
    wrong = [{"environment": "CartRail", "method": "offline", "size": 80, "summary": summary}]
    refinement._write(BEGUN, "CartRail", [refined("offline"), refined("linear", sources="0.1 old")], TEACHER, wrong)
    refinement._write(BEGUN, "Edukit", [row(environment="Edukit", method="offline")], TEACHER, [])
    again = [
        refined("student-driven", commit="d" * 40),
        refined("offline", kept_weights=7, returns=[50.0] * 20, return_iqm=50.0),
        refined("offline", seed=1, kept_weights=6, returns=[100.0] * 16 + [0.0] * 4, return_iqm=100.0),
    ]
    refinement._write(BEGUN, "CartRail", again, TEACHER, [])
    stored = distillation_tables.load(tmp_path / "refine.json")
    assert stored is not None
    found = [(each["environment"], each["method"], each["kept_weights"]) for each in stored["runs"]]
    assert found == [
        ("Edukit", "offline", 90),
        ("CartRail", "offline", 7),
        ("CartRail", "offline", 6),
        ("CartRail", "student-driven", 90),
        ("CartRail", "linear", 90),
    ]
    # also of the linear student, which was not run again
    assert stored["provenance"]["CartRail"]["commits"] == ["c" * 40, "d" * 40]
    assert stored["provenance"]["CartRail"]["sources"] == ["0.1 abc", "0.1 old"]
    text = refinement_tables.section(stored)
    line = next(
        each for each in text.splitlines() if each.startswith("| offline | 80 | 7 | 95 | 700 | 75.0 | **75.0%**")
    )
    # the mean over all episodes, the worst of the two seeds, and the share of episodes that fell: 20 + 4 of 40
    assert "| 65.0% | 50.0% | 60% | 2 | 1,000 | - |" in line
    assert "| offline | 80 | **75.0%** (50.0% to 90.0%) / 75.0% |" in text
    summary = next(each for each in stored["rows"] if (each["environment"], each["method"]) == ("CartRail", "offline"))
    assert summary["share"] == 0.75
    assert summary["interval"][0] <= 0.75 <= summary["interval"][1]
    largest = {"seeds": 2, "kept_weights": 7, "kept_parameters": 95, "bytes": 700, "return_iqm": 75.0, "size": 80}
    assert summary == summary | largest
    assert len(stored["rows"]) == 4


def refuse_refinement(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> str:
    """What `python -m benchmarks.refinement` says before it computes anything."""
    monkeypatch.setattr("sys.argv", ["refinement", "--only", "CartRail", "--allow-dirty", *arguments])
    monkeypatch.setattr(refinement, "run_study", None)
    with pytest.raises(SystemExit) as stopped:
        refinement.main()
    return str(stopped.value)


def test_a_refinement_that_cannot_be_or_would_mix_seeds_is_refused_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refinement, "TARGET", tmp_path / "refine.json")
    said = refuse_refinement(monkeypatch, "--methods", refinement.SEARCH, "linear")
    assert said.endswith('expected both; add "student-driven"')
    runs = [refined(method, seed=seed) for method in ("offline", "student-driven") for seed in range(5)]
    refinement._write(BEGUN, "CartRail", runs, TEACHER, [])
    said = refuse_refinement(monkeypatch, "--methods", "linear", "--seeds", "1")
    assert said == (
        "error: CartRail: refine.json has student-driven with seeds = 5, got 1 for --methods linear alone; run all "
        "of them, or take the same numbers"
    )
    stored = distillation_tables.load(refinement.TARGET)
    refinement.refuse_mixture("CartRail", stored, ["linear"], 5)
    refinement.refuse_mixture("CartRail", stored, ["offline", "student-driven"], 1)  # nothing of five seeds stays
    refinement.refuse_mixture("Edukit", stored, ["linear"], 1)


def test_students_that_a_refinement_kept_as_they_were_are_counted() -> None:
    def line(method: str, runs: list[dict[str, Any]]) -> str:
        return next(
            each for each in refinement_tables.table(runs, TEACHER).splitlines() if each.startswith(f"| {method} |")
        )

    better = {"returns": [99.5] * 20, "return_iqm": 99.5}
    driven = refinement_tables.STUDENT
    refined_ones = [
        refined(driven, seed=0, steps=0),
        refined(driven, seed=1, steps=8_000, **better),
        refined(driven, size=40, steps=4_000),
    ]
    runs = [*(refined("offline", seed=seed) for seed in range(2)), *refined_ones]
    searched = refined(refinement_tables.SEARCH, seed=1, steps=0, **better)
    assert line(driven, runs).endswith("| 2 | 4,000 | 1 of 2 |")
    assert line(refinement_tables.SEARCH, [*runs, searched]).endswith("| 1 | 0 | 1 of 1 |"), "of the refined student"
    assert line("offline", runs).endswith("| 1,000 | - |")
    assert line(driven, refined_ones).endswith("| 4,000 | - |"), "what it began with is not stored"
    assert set(refinement_tables.STARTS) == {*refinement.REFINED, *refinement.SEARCHES}


@pytest.mark.parametrize("case", distillation.CASES, ids=lambda case: case.name)
def test_controls_may_take_about_as_many_steps_as_sparse_students(case: distillation.Case) -> None:
    config = distillation.config_of(case, Path("teachers"), Path("out"))
    widths = (11, *config.hidden, 3)
    sparse = distillation.fine_tuning_steps(config, sum(a * b for a, b in pairwise(widths)))
    for hidden in ((), (20, 20)):
        control = distillation.control(config, 11, hidden, 3)
        (weights,) = control.kept_weights
        assert 0.6 < distillation.fine_tuning_steps(control, weights) / sparse < 1.7
        assert control.method == "dense"


def test_fine_tuning_steps_are_those_of_a_plan_that_never_holds() -> None:
    config = TrainConfig(kept_weights=(90, 80), shrink=0.95, fine_tune_iterations=10, fine_tune_doublings=1)
    # 100 -> 95 -> 90 (10 + 20) -> 85 -> 80 (10 + 20)
    assert distillation.fine_tuning_steps(config, 100) == 10 + 30 + 10 + 30


def ablation(*rows: dict[str, Any]) -> dict[str, Any]:
    return {"environment": "One", "teacher": "t", "dense_weights": 200, "teacher_returns": TEACHER, "rows": list(rows)}


def test_other_letters_keep_their_rows_and_their_commit() -> None:
    stored = ablations.merged(None, ablation(row(method="log-uniform", ablation="a"), row(ablation="d")), BEGUN, "ad")
    again = ablation(row(ablation="d", return_iqm=1.0, commit="d" * 40))
    both = ablations.merged(stored, again, {**BEGUN, "commit": "e" * 40}, "d")
    assert [(each["ablation"], each["return_iqm"]) for each in both["rows"]] == [("a", 99.0), ("d", 1.0)]
    assert [both["provenance"][letter]["commits"] for letter in "ad"] == [["c" * 40], ["d" * 40]]


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


def test_letters_measured_otherwise_are_not_mixed(capsys: pytest.CaptureFixture[str]) -> None:
    config = AblateConfig(letters="d")
    options = as_json({key: getattr(config, key) for key in ablations._SAME})
    rows = [row(ablation="a", size=round(1_000 * density)) for density in DENSITIES]
    stored = {"rows": rows, "options": options, "source": as_json(Identities().source(config)), "dense_weights": 1_000}
    ablations.refuse_mixture("CartRail", stored, config)
    ablations.refuse_mixture("CartRail", None, config)
    other = {**stored, "options": {**options, "iterations": 1}}
    with pytest.raises(SystemExit, match="iterations = 1, got 30000"):
        ablations.refuse_mixture("CartRail", other, config)
    ablations.refuse_mixture("CartRail", other, AblateConfig(letters="abcdefgh"))
    with pytest.raises(SystemExit, match="run all letters"):
        ablations.refuse_mixture("CartRail", {**stored, "source": {}}, config)
    with pytest.raises(SystemExit, match=r"sizes .*run all letters"):
        ablations.refuse_mixture("CartRail", {**stored, "rows": rows[1:]}, config)


def test_a_return_is_left_out_where_students_are_smaller_than_asked() -> None:
    result = ablation(
        row(method="Bayesian", ablation="d"),
        row(method="Bayesian", ablation="d", size=50, pruned_to=50, kept_weights=48),
        row(method="L1", ablation="d", pruned_to=96),
        row(method="L1", ablation="d", size=50, pruned_to=49, kept_weights=47),
    )
    lines = ablation_tables.table(result, "d").splitlines()[2:]
    assert [line.split(" | ")[1] for line in lines] == ["Bayesian", "L1", "Bayesian", "L1"], "arms of a size together"
    assert lines[0].startswith("| 100 | Bayesian | 90 | 45% | 99.0% (99.0% to 99.0%) | 99.0% | 99.0% | 0% |")
    assert lines[1] == "| 100 | L1 | 90 | - | - | - | - | - | - |"
    assert "| L1 | 47 |" in lines[3]
    assert "99.0%" in lines[3]


def test_letters_that_share_the_name_of_an_arm_share_no_rows_and_a_bar_ends_no_cell() -> None:
    same = "critic, |D| 5"
    result = ablation(
        row(method="log-uniform", ablation="a"), row(method=same, ablation="b"), row(method=same, ablation="c")
    )
    for letter in "bc":
        assert {name: len(rows) for name, rows in ablation_tables.arms(result, letter).items()} == {same: 1}
        assert "| critic, \\|D\\| 5 |" in ablation_tables.table(result, letter)


def test_an_arm_that_stands_in_several_letters_is_named_with_its_bad_seed() -> None:
    bad = {"seed": 1, "return_iqm": 60.0, "returns": [60.0] * 20}
    rows = [
        row(method=method, ablation=letter, **changes)
        for letter, method in (("b", "no critic"), ("f", "correct"), ("g", "linear"))
        for changes in ({}, bad, {"seed": 2, "return_iqm": 98.0})
    ]
    rows += [row(method="critic", ablation="b", returns=[1.0]), row(method="log-uniform", ablation="e", **bad)]
    result = ablation(*rows)
    assert ablation_tables.shared_arms(result) == [{"b": "no critic", "f": "correct", "g": "linear"}]
    result |= {"iterations": 1, "seeds": 3, "provenance": {letter: {**BEGUN, "sources": []} for letter in "befg"}}
    text = ablation_tables.section({"One": result})
    assert (
        '"no critic" (b), "correct" (f) and "linear" (g) are the same 3 runs. At 100 weights seed 1 of them returns '
        "60, the others 98 to 99: one seed weighs on every comparison with them."
    ) in text
    for letter in "befg":
        own = text.partition(f"#### ({letter})")[2].partition("####")[0]
        assert ('the arm "no critic" of (b)' in own) == (letter in "fg")


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
