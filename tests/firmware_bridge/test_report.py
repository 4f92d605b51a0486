import json
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from fake_device import FakeDevice

from firmware_bridge.config import Report, Run, Summary
from firmware_bridge.errors import SummaryError
from firmware_bridge.loop.policy_folder import open_policy_folder
from firmware_bridge.reports.figures import latency_svg, return_svg, sizes_svg, trajectory_svg
from firmware_bridge.reports.page import table_html
from firmware_bridge.reports.report import make_report
from firmware_bridge.reports.stages import COMMANDS
from firmware_bridge.reports.summary import collect, make_summary
from firmware_bridge.run import run

OF_NO_POLICY = {"distill.json", "robustness.json", "export.json", "measure_teacher.json"}
WITHOUT_DURATION = ("n", "p50", "p99", "p999", "max")
REQUIRED = {
    *("teacher_parameters", "kept_parameters", "teacher_return", "student_return", "flash_bytes_m4f"),
    *("instructions_m4f", "teacher_instructions_m4f", "verify_max_error", "verify_count"),
    *("environment", "environment_arguments", "held_last_3s"),
    *("loop", "loop_device", "lockstep", "latency_us", "seconds", "policy_digest", "commit"),
}


@pytest.fixture(scope="module")
def recorded(policy_folder, tmp_path_factory):
    log = tmp_path_factory.mktemp("recorded")
    with FakeDevice(open_policy_folder(policy_folder).digest) as device:
        return run(Run(port=device.path, policy=policy_folder, log=log, duration_s=4.0)).result


@pytest.mark.parametrize("mode", ["host", "device"])
def test_device_times_of_the_report_are_those_of_the_run(mode, policy_folder, tmp_path):
    with FakeDevice(open_policy_folder(policy_folder).digest) as device:
        result = run(Run(port=device.path, policy=policy_folder, log=tmp_path, mode=mode, duration_s=2.0)).result
    report = make_report(Report(log=tmp_path, html=tmp_path / "page.html"))
    assert result["device_us"]["action_age"]["n"] == 99
    for name, values in result["device_us"].items():
        assert [report["device_us"][name][key] for key in WITHOUT_DURATION] == [values[key] for key in WITHOUT_DURATION]
    page = (tmp_path / "page.html").read_text()
    assert "<td>sampled to its action applied</td>" in page
    assert ('<td>policy</td><td class="number">99' in page) == (mode == "device")


@pytest.fixture
def build(recorded, tmp_path):
    digest = recorded["policy_digest"]
    curve = [{"iteration": 1, "kept_weights": 900, "density": 0.5, "return_mean": 80.0}]
    curve += [{"iteration": 2, "kept_weights": 100, "density": 0.05, "return_mean": 99.0}, {"iteration": 3}]
    returned = {"mean": 100.0, "iqm": 101.0, "n": 100}
    lockstep = {**recorded, "trajectory_sha256": "ab" * 32}
    files = {
        "distill.json": {
            **{"teacher_parameters": 72705, "teacher_return": returned, "student_return": returned, "curve": curve},
            **{"kept_weights": 100, "seconds": {"collect": 1.0, "train": 2.5}},
            **{"environment": "hardware:CartRail-v0", "options": {"env_kwargs": "{}"}},
        },
        "robustness.json": {
            "summary": {"all": {"teacher": {"success": 1.0}, "students": {"success": 0.75, "episodes": 8}}},
            **{"plants": [{}, {}], "seconds": 1.0},
        },
        "export.json": {"policy_digest": digest, "kept_parameters": 120, "kept_weights": 100, "seconds": 1.0},
        "verify.json": {"policy_digest": digest, "verify_max_error": 1e-7, "count": 1000, "seconds": 1.0},
        "measure.json": {
            **{"policy_digest": digest, "flash_bytes": 2000, "instructions": 1500.5, "seconds": 1.0},
            "flash_parts": {"values": 400, "code": 900},
        },
        "measure_teacher.json": {
            **{"policy_digest": "99" * 32, "flash_bytes": 290000, "instructions": 900000, "seconds": 1.0},
        },
        "run_host.json": recorded,
        "run_device.json": {**recorded, "mode": "device"},
        "lockstep_host.json": lockstep,
        "lockstep_device.json": lockstep,
    }
    for name, value in files.items():
        (tmp_path / name).write_text(json.dumps(value))
    return tmp_path


def test_report_of_a_run_agrees_with_what_the_run_said(recorded, tmp_path):
    result = make_report(Report(log=tmp_path / ".." / recorded["log"], html=tmp_path / "report.html"))
    assert result["complete"]
    assert result["steps"] == recorded["steps"]
    assert result["latency_us"]["n"] == recorded["latency_us"]["n"]
    for key in ("p50", "p99", "max"):
        assert result["latency_us"][key] == pytest.approx(recorded["latency_us"][key])
    text = (tmp_path / "report.html").read_text()
    assert text.count("<svg") == 6
    # Self-contained: nothing is fetched from elsewhere.
    assert not re.search(r'(?:src|href)="(?!#|data:)', text.replace("xlink:href", "href"))
    assert "<script" not in text


def test_summary_has_the_agreed_keys(build):
    summary = make_summary(Summary(build=build, out=build / "out"))
    assert set(summary) >= REQUIRED
    assert json.loads((build / "out" / "summary.json").read_text()) == summary
    assert set(summary["loop"]) == {
        *("mode", "steps", "crc_errors", "lost", "deadline_misses", "upright_fraction_last_3s")
    }
    assert {"n", "p50", "p99", "p999", "max"} <= set(summary["latency_us"])
    assert summary["lockstep"] == {"identical": True, "trajectory_sha256": "ab" * 32}
    assert summary["seconds"]["distill"] == 3.5
    assert summary["held_last_3s"] == {"teacher": 1.0, "students": 0.75, "plants": 2, "episodes": 8}
    assert (summary["flash_bytes_m4f"], summary["teacher_flash_bytes_m4f"]) == (2000, 290000)
    text = (build / "out" / "report.html").read_text()
    assert text.count("<svg") == 6
    assert "72,705" in text


def test_different_trajectories_are_said_to_differ(build):
    value = json.loads((build / "lockstep_device.json").read_text())
    (build / "lockstep_device.json").write_text(json.dumps({**value, "trajectory_sha256": "cd" * 32}))
    summary = make_summary(Summary(build=build, out=build / "out"))
    assert summary["lockstep"]["identical"] is False


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_missing_stage_names_the_file_and_the_command(build, name):
    (build / name).unlink()
    with pytest.raises(SummaryError, match=rf"{re.escape(name)}: no such file; make it with `python -m"):
        make_summary(Summary(build=build, out=build / "out"))
    assert not (build / "out").exists()


@pytest.mark.parametrize("text", ["", "[]", '{"policy_digest": 3}', '{"policy_digest": "@", "verify_max_error": NaN}'])
def test_damaged_stage_is_one_line(build, recorded, text):
    (build / "verify.json").write_text(text.replace("@", recorded["policy_digest"]))
    with pytest.raises(SummaryError, match=r"verify\.json: ") as caught:
        make_summary(Summary(build=build, out=build / "out"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", sorted(set(COMMANDS) - OF_NO_POLICY))
def test_stages_of_different_policies_are_refused(build, name):
    value = json.loads((build / name).read_text())
    (build / name).write_text(json.dumps({**value, "policy_digest": "77" * 32}))
    with pytest.raises(SummaryError, match=rf"{re.escape(name)}: is about policy 777777"):
        make_summary(Summary(build=build, out=build / "out"))
    del value["policy_digest"]
    (build / name).write_text(json.dumps(value))
    with pytest.raises(SummaryError, match=rf"{re.escape(name)}: no key 'policy_digest'"):
        make_summary(Summary(build=build, out=build / "out"))


def test_command_line_prints_one_object(build):
    command = [sys.executable, "-m", "firmware_bridge", "summary", "--build", str(build), "--out", str(build / "o")]
    done = subprocess.run([*command, "--json"], capture_output=True, text=True, check=True)
    assert set(json.loads(done.stdout)) >= REQUIRED
    wide = {**os.environ, "COLUMNS": "200"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=wide)
    assert "flash on a Cortex-M4F [bytes]" in done.stdout
    (build / "export.json").unlink()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)


def test_every_figure_is_valid_xml_and_the_same_twice():
    time = np.linspace(0, 1, 10)
    makers = [
        lambda: trajectory_svg(time, time, time, np.full(10, np.nan)),
        lambda: latency_svg(np.array([5.0, 7.0, 900.0])),
        lambda: latency_svg(np.array([])),
        lambda: return_svg([100, 10], [1.0, 2.0], 3.0),
        lambda: sizes_svg(["a & b", "c"], [10, 10000], "bytes"),
    ]
    for make in makers:
        text = make()
        ElementTree.fromstring(text)
        assert text == make()


def test_text_in_pages_is_escaped():
    assert "<b>" not in table_html(("",), [["<b>", "1"]])


def test_collect_needs_no_files(build):
    from firmware_bridge.reports.stages import read_stages

    assert collect(read_stages(build))["kept_parameters"] == 120
