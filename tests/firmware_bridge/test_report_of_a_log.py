"""The report over logs that were made by hand, so that every number is known."""

import math
import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest

from firmware_bridge.config import Export, Merge, Report
from firmware_bridge.errors import LogError
from firmware_bridge.latency.histogram_files import read_histograms
from firmware_bridge.latency.merge import merge
from firmware_bridge.logs import topics as log_topics
from firmware_bridge.logs.export_log import export_log
from firmware_bridge.logs.log_file import LogFile
from firmware_bridge.reports.figures import draw_range, new_figure
from firmware_bridge.reports.report import make_report
from hardware.protocol import ObservationFlag, State

PERIOD_NS = 20_000_000
START_NS = 1_700_000_000_000_000_000


class _Log:
    """A log of `count` ARMED ticks from 100 on; topics may be changed or left out tick by tick."""

    def __init__(self, path, **session):
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._file = LogFile(path)
        self._number = 0
        first = {"format_version": log_topics.FORMAT_VERSION, "period_us": 20000, "config": {"mode": "host"}, **session}
        self.add("/session", 0, first)

    def add(self, topic, time_ns, value):
        self._file.add(topic, START_NS + time_ns, log_topics.to_json(value), self._number)
        self._number += 1

    def tick(self, tick, total_ns=200_000, flags=0, age_us=20_000, answered=True, angle=0.0, since=None):
        time_ns = (tick - 100 if since is None else since) * PERIOD_NS
        frame = [0.1, 0.0, math.sin(angle), math.cos(angle), 0.0]
        self.add(
            "/observation",
            time_ns,
            {
                **{"sequence": tick & 0xFFFF, "tick": tick, "time_us": tick * 20000, "current": frame},
                **{"previous": frame, "applied_action": 1.5, "state": int(State.ARMED), "fault": 0, "flags": flags},
            },
        )
        timing = {"action_age_us": age_us, "response_us": 0xFFFFFFFF, "inference_us": 0}
        self.add("/timing", time_ns, {"sequence": tick & 0xFFFF, "tick": tick, **timing})
        if answered:
            names = ("receive", "decode", "infer", "encode", "write")
            stages = {f"{name}_ns": total_ns // 5 for name in names}
            told = {"apply_ns": 7_000_000 if tick % 2 else None, "apply_uncertainty_ns": 90_000 if tick % 2 else None}
            record = {"observation_tick": tick, **stages, "total_ns": total_ns, **told}
            self.add("/latency", time_ns + total_ns, record)

    def disarm(self, tick):
        """The DISARM that was sent right behind the observation of `tick`."""
        self.add("/disarm", (tick - 100) * PERIOD_NS + 1, {"sequence": 1, "session": 0})

    def finish(self):
        self._file.finish()
        return self.path


HELD = int(ObservationFlag.HELD)


def test_deadline_misses_are_counted_tick_by_tick_with_their_longest_run(tmp_path):
    log = _Log(tmp_path / "run.mcap")
    unanswered, lost = {110, 130, 131}, {150, 151, 152, 153}
    held_next = {120, 132, 160}  # answered, but the device did not get it in time
    for tick in range(100, 201):
        if tick not in lost:
            held = tick - 1 in held_next or tick - 1 in unanswered or tick - 1 in lost
            log.tick(tick, flags=HELD if held else 0, answered=tick not in unanswered)
    deadlines = make_report(Report(log=log.finish()))["deadlines"]
    assert deadlines == {
        **{"missed": 6, "unanswered": 3, "late_or_lost": 3, "lost": 4},
        **{"longest_run": 3, "longest_run_tick": 130},
    }


def test_a_stall_that_ends_a_run_is_missed_up_to_the_end_of_the_run(tmp_path):
    """60 periods answered, then one read with the rest of the 100, the one that ends the run and some behind it."""
    log = _Log(tmp_path / "run.mcap", periods=100)
    for tick in range(100, 208):
        log.tick(tick, answered=tick < 160, angle=0.0 if tick < 165 else 3.0)
    log.disarm(207)
    log.tick(208, answered=False, angle=3.0)
    log.add("/result", 109 * PERIOD_NS, {"ended_by": "duration"})
    result = make_report(Report(log=log.finish()))
    assert result["steps"] == 100
    assert result["deadlines"] == {
        **{"missed": 40, "unanswered": 40, "late_or_lost": 0, "lost": 0},
        **{"longest_run": 40, "longest_run_tick": 160},
    }
    assert result["upright_fraction_last_3s"] == pytest.approx(0.65)


def test_the_observation_that_ended_a_run_is_no_step_of_it(tmp_path):
    """150 steps are 3 s; the rod is down in the first two of them and in the one that was not answered any more."""
    log = _Log(tmp_path / "run.mcap", periods=1000)
    for tick in range(100, 252):
        log.tick(tick, answered=tick < 251, angle=3.0 if tick in (101, 102, 251) else 0.0)
    log.disarm(251)
    log.tick(252, answered=False)
    log.add("/result", 153 * PERIOD_NS, {"ended_by": "SIGTERM"})
    result = make_report(Report(log=log.finish()))
    assert (result["steps"], result["deadlines"]["missed"]) == (151, 0)
    assert result["upright_fraction_last_3s"] == pytest.approx(148 / 150)


def test_a_tick_counter_that_starts_again_at_zero_loses_nothing(tmp_path):
    log = _Log(tmp_path / "run.mcap", periods=1000)
    unanswered, first = {2**32 - 1, 0, 1}, 2**32 - 50
    for since in range(100):
        tick = (first + since) % 2**32
        log.tick(tick, since=since, answered=tick not in unanswered, flags=HELD if tick == 11 else 0)
    result = make_report(Report(log=log.finish(), html=tmp_path / "page.html"))
    assert result["steps"] == 100
    assert result["deadlines"] == {
        **{"missed": 4, "unanswered": 3, "late_or_lost": 1, "lost": 0},
        **{"longest_run": 3, "longest_run_tick": 2**32 - 1},
    }
    assert result["device_us"]["action_age"]["n"] == 99


def test_run_without_misses_has_none(tmp_path):
    log = _Log(tmp_path / "run.mcap")
    for tick in range(100, 150):
        log.tick(tick)
    deadlines = make_report(Report(log=log.finish()))["deadlines"]
    assert (deadlines["missed"], deadlines["longest_run"], deadlines["longest_run_tick"]) == (0, 0, None)


def test_percentiles_have_n_max_and_duration_and_the_corrected_know_of_the_hang(tmp_path):
    log = _Log(tmp_path / "run.mcap")
    for tick in range(100, 1100):
        log.tick(tick, total_ns=500_000_000 if tick == 600 else 200_000)
    result = make_report(Report(log=log.finish(), histograms=tmp_path / "histograms"))
    total, corrected = result["stages_us"]["total"], result["stages_corrected_us"]["total"]
    assert (total["n"], total["max"], total["duration_s"]) == (1000, 500_000.0, pytest.approx(19.98, abs=0.01))
    assert total["p99"] == pytest.approx(200, rel=2e-3)
    assert corrected["n"] == 1000 + 24 - 1  # 480, 460, ... 20 ms; the bucket's lower edge loses the last
    assert corrected["p99"] == pytest.approx(300_000, rel=2e-3)  # the 14th of 40, 60, ... 500 ms
    assert result["device_us"]["action_age"]["n"] == 999
    files = result["histograms"]["files"]
    assert {"total.hgrm", "total.hlog", "total.corrected.hlog", "action_age.hlog"} <= set(files)
    assert not any(name.startswith("action_age.corrected") for name in files)
    assert read_histograms(tmp_path / "histograms")["total.corrected"].n == corrected["n"]


def test_merge_of_logs_and_of_their_histogram_files_is_the_same(tmp_path):
    for name, total_ns in (("a", 100_000), ("b", 300_000)):
        log = _Log(tmp_path / name / "run.mcap")
        for tick in range(100, 200):
            log.tick(tick, total_ns=total_ns)
        make_report(Report(log=log.finish(), histograms=tmp_path / f"{name}_histograms"))
    logs = merge(Merge(inputs=(tmp_path / "a", tmp_path / "b" / "run.mcap"), histograms=tmp_path / "merged"))
    files = merge(Merge(inputs=(tmp_path / "a_histograms", tmp_path / "b_histograms")))
    mixed = merge(Merge(inputs=(tmp_path / "a", tmp_path / "b_histograms")))
    total = logs["us"]["total"]
    assert (total["n"], total["max"], total["inputs"]) == (200, 300.0, 2)
    assert total["duration_s"] == pytest.approx(2 * 99 * 0.02, abs=1e-6)
    assert total["p50"] == pytest.approx(100, rel=2e-3)
    assert total["p99"] == pytest.approx(300, rel=2e-3)
    for other in (files, mixed):
        for name, values in logs["us"].items():
            assert other["us"][name] == pytest.approx(values), name
    assert read_histograms(tmp_path / "merged")["total"].n == 200
    command = [sys.executable, "-m", "firmware_bridge", "merge", str(tmp_path / "a"), str(tmp_path / "merged")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "total.corrected" in done.stdout
    with pytest.raises(LogError, match=r"no \.hlog file|no such file"):
        merge(Merge(inputs=(tmp_path,)))
    with pytest.raises(LogError, match="no logs given"):
        merge(Merge(inputs=()))


def test_the_same_log_is_merged_once(tmp_path):
    log = _Log(tmp_path / "log" / "run.mcap", log_id="ab12")
    for tick in range(100, 120):
        log.tick(tick)
    path = log.finish()
    shutil.copytree(tmp_path / "log", tmp_path / "copy")
    (tmp_path / "link.mcap").symlink_to(path)
    make_report(Report(log=path, histograms=tmp_path / "histograms"))
    for first, second in (
        *((path, path), (path.parent, path), (path, tmp_path / "link.mcap"), (path, tmp_path / "copy")),
        (tmp_path / "histograms", tmp_path / "copy" / ".." / "histograms"),
    ):
        with pytest.raises(LogError, match="hold the same records"):
            merge(Merge(inputs=(first, second)))


def test_what_was_read_is_not_replaced(tmp_path):
    log = _Log(tmp_path / "log" / "run.mcap")
    for tick in range(100, 120):
        log.tick(tick)
    path = log.finish()
    other = shutil.copy(path, tmp_path / "log" / "run.0002.mcap")  # behind a hole: of this log, although not read
    for link in ("page.html", "total.hlog", "observation.csv"):
        (tmp_path / link).symlink_to(path)
    before = path.read_bytes()
    histograms = tmp_path / "histograms"
    make_report(Report(log=path, histograms=histograms))
    for attempt in (
        lambda: make_report(Report(log=path.parent, html=path)),
        lambda: make_report(Report(log=path, html=other)),
        lambda: make_report(Report(log=path, html=tmp_path / "page.html")),
        lambda: make_report(Report(log=path, histograms=tmp_path)),
        lambda: merge(Merge(inputs=(path.parent,), histograms=tmp_path)),
        lambda: merge(Merge(inputs=(histograms,), histograms=histograms)),
        lambda: export_log(Export(log=path, csv=tmp_path)),
    ):
        with pytest.raises(LogError, match="which is read, expected another file"):
            attempt()
    assert path.read_bytes() == before
    assert not list(tmp_path.glob(".*.part"))


def _rich_log(path):
    knobs = {"SCHED_FIFO": {"taken": False, "detail": "<not permitted>"}, "gc": {"taken": True}, "odd": 7}
    log = _Log(path, realtime=knobs, machine={"processor": "x<y"}, device={"board": "fake"})
    for tick in range(100, 3100):
        held = HELD if tick == 500 else 0
        log.tick(tick, total_ns=150_000 + 1000 * (tick % 97), flags=held, age_us=20_000 + tick % 50, angle=tick / 50)
        time_ns = (tick - 100) * PERIOD_NS
        if tick % 50 == 0:
            wire = {"crc_errors": tick // 1000, "lost": 0, "stale_commands": tick // 400, "refused": 3}
            log.add("/link_statistics", time_ns, {"sequence": 1, **wire})
            clock = {"offset_ns": 100 * tick, "drift_ppm": None if tick < 500 else 0.01 * tick}
            counted = {"samples": tick, "restarts": 0, "rejected": 0}
            moving = {"uncertainty_ns": 5000 + tick % 300, "round_trip_ns": 90_000}
            log.add("/clock", time_ns, {**clock, **moving, **counted})
        if tick in (1000, 2000):
            log.add("/link_errors", time_ns, {"rejected": tick // 1000, "undecodable": 0, "lost": tick // 500})
    log.add("/fault_report", 60_000_000_000, {"sequence": 1, "reason": 1, "tick": 3099, "detail": 2})
    log.add("/event", 60_000_000_000, {"kind": "stopped", "text": "<b>because</b>"})
    log.add("/dropped", 60_000_000_000, {"topic": "/raw/sent", "count": 7, "total": 7})
    return log.finish()


def test_report_shows_knobs_clock_link_faults_events_and_drops(tmp_path):
    path = _rich_log(tmp_path / "run.mcap")
    result = make_report(Report(log=path, html=tmp_path / "page.html"))
    assert result["realtime"][0] == {"knob": "SCHED_FIFO", "taken": False, "detail": "<not permitted>"}
    assert result["link"]["device"] == {"crc_errors": 3, "lost": 0, "stale_commands": 7, "refused": 0}
    assert result["link"]["host"] == {"rejected": 1, "undecodable": 0, "lost": 2}
    assert result["dropped"] == {"/raw/sent": 7}
    assert [event["kind"] for event in result["events"]] == ["fault", "stopped", "dropped"]
    assert result["events"][0]["text"] == "WATCHDOG at tick 3099, detail 2"
    page = (tmp_path / "page.html").read_text()
    for text in ("Clock of the device", "drift [ppm]", "uncertainty [us]", "Link health", "device: stale_commands"):
        assert text in page
    assert "&lt;not permitted&gt;" in page
    assert "&lt;b&gt;because" in page
    assert "<b>because" not in page
    assert "The disk was too slow" in page
    assert "Never counted anything: host: undecodable, device: lost, device: refused" in page
    assert not re.search(r'(?:src|href)="(?!#|data:)', page.replace("xlink:href", "href"))
    assert "<script" not in page
    assert page == _page_again(path, tmp_path)


def _page_again(path, tmp_path):
    make_report(Report(log=path, html=tmp_path / "again.html"))
    return (tmp_path / "again.html").read_text()


def test_terminal_report_has_the_same(tmp_path):
    path = _rich_log(tmp_path / "run.mcap")
    command = [sys.executable, "-m", "firmware_bridge", "report", str(path)]
    wide = {**os.environ, "COLUMNS": "120"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=wide)
    for text in ("longest run of them", "SCHED_FIFO", "WATCHDOG at tick 3099", "p99.9 corr.", "7 of /raw/sent"):
        assert text in " ".join(done.stdout.split()) or text in done.stdout


@pytest.mark.skipif(shutil.which("chromium") is None, reason="no Chromium")
def test_page_in_a_real_browser_fits_its_width_and_asks_for_nothing(tmp_path):
    path = _rich_log(tmp_path / "run.mcap")
    page = tmp_path / "page.html"
    make_report(Report(log=path, html=page))
    probe = (
        "<script>document.title = [document.documentElement.scrollWidth <= window.innerWidth, "
        "performance.getEntriesByType('resource').length, document.querySelectorAll('svg').length, "
        "[...document.querySelectorAll('svg')].every(s => s.getBoundingClientRect().width > 300)].join()</script>"
    )
    page.write_text(page.read_text().replace("</body>", probe + "</body>"))
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--window-size=900,800", "--dump-dom"]
    command += [f"--user-data-dir={tmp_path / 'profile'}", page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert re.search("<title>(.*?)</title>", done.stdout)[1] == "true,0,8,true"


def test_long_runs_are_drawn_as_ranges_and_lose_no_extreme():
    _, axes = new_figure(1, 2.0)
    values = np.zeros(500_000)
    values[123_456], values[400_000] = 7.0, np.nan
    draw_range(axes[0], np.arange(500_000.0), values, largest=True)
    drawn = [line.get_ydata() for line in axes[0].lines]
    assert max(len(line) for line in drawn) <= 1000
    assert max(np.nanmax(line) for line in drawn) == 7.0


def test_log_without_a_period_has_no_corrected_percentiles(tmp_path):
    log = _Log(tmp_path / "run.mcap", period_us=1)
    log.tick(100)
    result = make_report(Report(log=log.finish(), html=tmp_path / "page.html"))
    assert result["stages_corrected_us"] == {}
    assert result["stages_us"]["total"]["n"] == 1
