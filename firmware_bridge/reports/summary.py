"""The verb `summary`: the numbers of all stages of `make demo` in one JSON file, one table and one page."""

import base64
import json
import subprocess
from pathlib import Path
from typing import Any

from rich.table import Table

from firmware_bridge.config import Summary
from firmware_bridge.errors import SummaryError
from firmware_bridge.reports import figures, page
from firmware_bridge.reports.log_series import LATENCY, read_series
from firmware_bridge.reports.report import trajectory_of
from firmware_bridge.reports.stages import Stage, read_stages
from firmware_bridge.reports.tables import console, latency_text

_RUNS = ("run_host.json", "run_device.json", "lockstep_host.json", "lockstep_device.json")
_ABOUT_THE_POLICY = ("verify.json", "measure.json", *_RUNS)
_LOOP_KEYS = ("steps", "crc_errors", "lost", "deadline_misses", "upright_fraction_last_3s")
_LATENCY_KEYS = ("n", "p50", "p99", "p999", "max", "duration_s")


def make_summary(config: Summary) -> dict[str, Any]:
    """Write OUT/summary.json and OUT/report.html; the summary. Raises SummaryError, LogError, OSError."""
    stages = read_stages(config.build)
    summary = collect(stages)
    html = _page(config.build, stages, summary)
    page.replace_text(config.out / "report.html", html)
    page.replace_text(config.out / "summary.json", json.dumps(summary, indent=2) + "\n")
    return summary


def collect(stages: dict[str, Stage]) -> dict[str, Any]:
    """The content of summary.json. Raises SummaryError, also when two stages speak of different policies."""
    distill, export, robustness = stages["distill.json"], stages["export.json"], stages["robustness.json"]
    digest = export.text("policy_digest")
    for name in _ABOUT_THE_POLICY:
        found = stages[name].text("policy_digest")
        if found != digest:
            raise SummaryError(
                f"{stages[name].path}: is about policy {found[:12]}, export.json about {digest[:12]}; "
                "make all of them from one policy with `make demo`"
            )
    host, device = stages["lockstep_host.json"], stages["lockstep_device.json"]
    trajectories = [host.text("trajectory_sha256"), device.text("trajectory_sha256")]
    return {
        "teacher_parameters": distill.number("teacher_parameters"),
        "kept_parameters": export.number("kept_parameters"),
        "kept_weights": export.number("kept_weights"),
        "teacher_return": {key: distill.number("teacher_return", key) for key in ("mean", "iqm", "n")},
        "student_return": {key: distill.number("student_return", key) for key in ("mean", "iqm", "n")},
        "environment": distill.text("environment"),
        "environment_arguments": distill.text("options", "env_kwargs"),
        "held_last_3s": {
            **{name: robustness.number("summary", "all", name, "success") for name in ("teacher", "students")},
            "plants": len(robustness.get("plants")),
            "episodes": robustness.number("summary", "all", "students", "episodes"),
        },
        "flash_bytes_m4f": stages["measure.json"].number("flash_bytes"),
        "teacher_flash_bytes_m4f": stages["measure_teacher.json"].number("flash_bytes"),
        "instructions_m4f": stages["measure.json"].number("instructions"),
        "teacher_instructions_m4f": stages["measure_teacher.json"].number("instructions"),
        "verify_max_error": stages["verify.json"].number("verify_max_error"),
        "verify_count": stages["verify.json"].number("count"),
        "loop": _loop(stages["run_host.json"]),
        "loop_device": _loop(stages["run_device.json"]),
        "lockstep": {
            "identical": trajectories[0] == trajectories[1],
            "trajectory_sha256": trajectories[0],
            **({} if trajectories[0] == trajectories[1] else {"trajectory_sha256_device": trajectories[1]}),
        },
        "latency_us": {key: stages["run_host.json"].number("latency_us", key) for key in _LATENCY_KEYS},
        "seconds": {name.removesuffix(".json"): _seconds(stage) for name, stage in stages.items()},
        "policy_digest": digest,
        "commit": commit(),
    }


def commit() -> str:
    """The commit of this checkout, with `-dirty` when files differ from it; `unknown` for an installed package."""
    root = Path(__file__).resolve().parent.parent.parent
    try:
        done = subprocess.run(
            ["git", "-C", str(root), "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return done.stdout.strip() or "unknown"


def print_summary(summary: dict[str, Any]) -> None:
    """The table at the end of `make demo`."""
    table = Table("", "teacher", "student", title="one policy, all the way round", title_justify="left")
    for row in _rows(summary):
        table.add_row(*row)
    console().print(table)


def _loop(stage: Stage) -> dict[str, Any]:
    return {"mode": stage.text("mode"), **{key: stage.number(key) for key in _LOOP_KEYS}}


def _seconds(stage: Stage) -> float:
    value = stage.get("seconds")
    if isinstance(value, dict):
        return float(sum(value.values()))
    return stage.number("seconds")


def _rows(summary: dict[str, Any]) -> list[tuple[str, str, str]]:
    teacher, student, held = summary["teacher_return"], summary["student_return"], summary["held_last_3s"]
    ratio = summary["instructions_m4f"] / summary["teacher_instructions_m4f"]
    rows = [
        ("parameters", f"{summary['teacher_parameters']:,}", f"{summary['kept_parameters']:,}"),
        (f"return, interquartile mean (n {teacher['n']})", f"{teacher['iqm']:.1f}", f"{student['iqm']:.1f}"),
        (f"return, mean (n {student['n']})", f"{teacher['mean']:.1f}", f"{student['mean']:.1f}"),
        (
            f"held upright for the last 3 s on {held['plants']} plants (n {held['episodes']})",
            f"{held['teacher']:.1%}",
            f"{held['students']:.1%}",
        ),
        ("flash on a Cortex-M4F [bytes]", f"{summary['teacher_flash_bytes_m4f']:,}", f"{summary['flash_bytes_m4f']:,}"),
        (
            "instructions per control step",
            f"{summary['teacher_instructions_m4f']:,.0f}",
            f"{summary['instructions_m4f']:,.0f} (1/{1 / ratio:.0f})",
        ),
        (
            f"largest error against float64 [of the range] (n {summary['verify_count']:,})",
            "",
            f"{summary['verify_max_error']:.2g}",
        ),
    ]
    for key in ("loop", "loop_device"):
        loop = summary[key]
        rows.append(
            (f"closed loop, mode {loop['mode']}: upright, last 3 s", "", f"{loop['upright_fraction_last_3s']:.1%}")
        )
        text = f"{loop['crc_errors']} / {loop['lost']} / {loop['deadline_misses']} in {loop['steps']} steps"
        rows.append(("  checksum errors / lost / deadlines missed", "", text))
    rows.append(("latency, mode host", "", latency_text(summary["latency_us"])))
    identical = "identical" if summary["lockstep"]["identical"] else "DIFFERENT"
    rows.append(("trajectories of host and device in lock-step", "", identical))
    rows.append(("seconds, all stages", "", f"{sum(summary['seconds'].values()):.0f}"))
    rows.append(("policy", "", summary["policy_digest"][:12]))
    return rows


def _page(build: Path, stages: dict[str, Stage], summary: dict[str, Any]) -> str:
    sections = [("Result", page.table_html(("", "teacher", "student"), _rows(summary)))]
    picture = build / "render.png"
    if picture.is_file():
        data = base64.b64encode(picture.read_bytes()).decode("ascii")
        image = f'<img alt="the cart on its rail" src="data:image/png;base64,{data}">'
        sections.append(("The plant", image))
    for name in ("run_host", "run_device"):
        stage = stages[f"{name}.json"]
        log = read_series(_log_path(build, stage))
        run = trajectory_of(log)
        svg = figures.trajectory_svg(run.time_s, run.angle_rad, run.position_m, run.action, f"trajectory {name}")
        sections.append((f"Closed loop, mode {stage.text('mode')}: rod, cart, action", svg))
        latency = {key: stage.number("latency_us", key) for key in _LATENCY_KEYS}
        svg = figures.latency_svg(log[LATENCY]["total_ns"] / 1e3, f"latency {name}")
        sections.append((f"Latency, mode {stage.text('mode')}", f"{svg}<p>{latency_text(latency)}</p>"))
    curve = [row for row in stages["distill.json"].get("curve") if row.get("return_mean") is not None]
    if curve:
        kept = [float(row["kept_weights"]) for row in curve]
        returns = [float(row["return_mean"]) for row in curve]
        teacher = float(summary["teacher_return"]["mean"])
        sections.append(("Return against kept weights", figures.return_svg(kept, returns, teacher)))
    sizes = figures.sizes_svg(
        ("teacher parameters", "kept parameters"),
        (summary["teacher_parameters"], summary["kept_parameters"]),
        "numbers",
        "parameters",
    )
    parts = stages["measure.json"].value.get("flash_parts")
    rows = [[str(key), f"{value:,}"] for key, value in parts.items()] if isinstance(parts, dict) else []
    rows.append(["total", f"{summary['flash_bytes_m4f']:,}"])
    sections.append(("Sizes", sizes + page.table_html(("flash on a Cortex-M4F", "bytes"), rows)))
    seconds = [[name, f"{value:.1f}"] for name, value in summary["seconds"].items()]
    sections.append(("Time per stage", page.table_html(("stage", "seconds"), seconds)))
    origin = [["policy", summary["policy_digest"]], ["commit", summary["commit"]]]
    sections.append(("Origin", page.table_html(("", ""), origin)))
    return page.page_html("One policy, all the way round", sections)


def _log_path(build: Path, stage: Stage) -> Path:
    """The log a run names; when the folder has been moved, the one of the same name under `build`."""
    path = Path(stage.text("log"))
    if path.is_file():
        return path
    beside = build / path.parent.name / path.name
    return beside if beside.is_file() else path
