"""Write the measured tables of README.md and docs/results.md from the summary of the last `make demo`.

    python -m benchmarks.results --summary build/demo/summary.json

keeps a copy of the summary in docs/results/demo.json, so that `--check` (run by the tests) can show that what the
documents say is what was measured: nothing in them is typed by hand.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from benchmarks import (
    ablation_tables,
    bridge_tables,
    distillation_tables,
    export_tables,
    firmware_tables,
    policy_distillation_tables,
    refinement_tables,
)
from benchmarks.provenance import machine

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "docs" / "results"
INTERVAL = (
    "The 95 % interval is a bootstrap in two stages: seeds are drawn with replacement, then episodes within each; the "
    "teacher's episodes are drawn independently, although both start from the same seeds. A seed is a cluster, and "
    "five of them are few: read the intervals as rough."
)
FALLS = (
    "Mean share and the episodes below 90 % of the teacher's median show the falls that an interquartile mean hides, "
    "the worst seed what its mean over seeds hides."
)
BEGIN, END = "<!-- begin measured -->", "<!-- end measured -->"


def headline(summary: dict[str, Any]) -> str:
    """The table of README.md: teacher against student."""
    teacher, student, held = summary["teacher_return"], summary["student_return"], summary["held_last_3s"]
    flash, teacher_instructions = summary["flash_bytes_m4f"], summary["teacher_instructions_m4f"]
    instructions, parameters, kept = (
        summary["instructions_m4f"],
        summary["teacher_parameters"],
        summary["kept_parameters"],
    )
    rows = [
        ("parameters (weights + biases)", f"{parameters:,}", f"**{kept:,}** ({parameters / kept:,.0f}x fewer)"),
        (
            f"return in `{summary['environment']}` with `{summary['environment_arguments']}`, interquartile mean of "
            f"{student['n']} held-out episodes",
            f"{teacher['iqm']:.1f}",
            f"**{student['iqm']:.1f}** ({student['iqm'] / teacher['iqm']:.1%})",
        ),
        ("return, mean", f"{teacher['mean']:.1f}", f"{student['mean']:.1f}"),
        (
            f"rod held upright for the last 3 s, {held['plants']} plants of 0.8 to 1.2 times the mass, length and "
            f"friction, {held['episodes']} episodes",
            f"{held['teacher']:.1%}",
            f"**{held['students']:.1%}**",
        ),
        (
            "flash on a Cortex-M4F, all in (values, indices, biases, normaliser, code, tanh)",
            f"{summary['teacher_flash_bytes_m4f']:,} B",
            f"**{flash:,} B**",
        ),
        (
            "instructions per inference, counted on the same emulated core",
            f"{teacher_instructions:,.0f}",
            f"**{instructions:,.0f}** ({teacher_instructions / instructions:,.0f}x fewer)",
        ),
        (
            f"largest error of any backend against float64 on {summary['verify_count']:,} observations, "
            "share of the action range",
            "",
            f"{summary['verify_max_error']:.1e}",
        ),
    ]
    for name in ("loop", "loop_device"):
        loop = summary[name]
        rows.append(
            (
                f"closed loop with the host-built firmware, mode {loop['mode']}, {loop['steps']} periods",
                "",
                f"upright {loop['upright_fraction_last_3s']:.0%} of the last 3 s, {loop['crc_errors']} CRC errors, "
                f"{loop['lost']} lost, {loop['deadline_misses']} deadlines missed",
            )
        )
    same = "identical" if summary["lockstep"]["identical"] else "DIFFERENT"
    rows.append(("lock-step: trajectories of modes host and device", "", same))
    lines = ["| | teacher | student |", "|---|---|---|", *("| " + " | ".join(row) + " |" for row in rows)]
    return "\n".join(lines)


def latency(summary: dict[str, Any]) -> str:
    """Percentiles with what makes them mean something: n, maximum, duration."""
    row = summary["latency_us"]
    keys = ("p50", "p99", "p999", "max")
    return (
        "| stage | n | seconds | p50 us | p99 us | p99.9 us | max us |\n|---|---|---|---|---|---|---|\n"
        f"| observation read to command written, mode host, real time | {row['n']} | {row['duration_s']:.1f} | "
        + " | ".join(f"{row[key]:,.0f}" for key in keys)
        + " |"
    )


def stages(summary: dict[str, Any]) -> str:
    """Wall time of each stage of the demo."""
    rows = [f"| {name} | {seconds:.1f} |" for name, seconds in summary["seconds"].items()]
    total = sum(summary["seconds"].values())
    return "\n".join(["| stage | seconds |", "|---|---|", *rows, f"| total | {total:.1f} |"])


def swing_ups() -> str:
    """What `make swing-ups` counted last, or that it has not run."""
    path = ROOT / "docs" / "results" / "swing_ups.json"
    if not path.is_file():
        return "Not measured yet: `make swing-ups`."
    row = json.loads(path.read_text(encoding="utf-8"))
    return (
        f"`make swing-ups`, policy `{row['policy_digest'][:12]}`, random plants, modes host and device in turn, "
        f"lock-step: {row['runs']} runs, {row['simulated_seconds']:,.0f} simulated seconds, "
        f"{len(row['safety_stops'])} safety stops, {row['held_last_3s']} held upright for the whole last 3 s, "
        f"{row['crc_errors']} CRC errors, {row['lost']} lost."
    )


def training_speed() -> list[str]:
    """What `make bench-speed` measured, or that it has not run."""
    stored = distillation_tables.load(RESULTS / "training_speed.json")
    if stored is None:
        return ["## Training speed", "Not measured yet: `make bench-speed`."]
    rows = [
        f"| {row['setting']} | {row['variant']} | {row['iterations_per_cpu_second']:,.0f} | {row['times_plain']:.2f}x |"
        if "iterations_per_cpu_second" in row
        else f"| {row['setting']} | {row['variant']} | {row.get('note', 'not measured')} | |"
        for row in stored["rows"]
    ]
    return [
        "## Training speed",
        f"`make bench-speed`, commit `{stored['commit'][:12]}`, {stored['machine']}, one core. Plain: modules, "
        "autograd, torch.optim.Adam, in the shape of the published code; medians of variants that take turns in one "
        "run.",
        "\n".join(["| setting | variant | iterations per CPU second | |", "|---|---|---|---|", *rows]),
    ]


def distillation() -> list[str]:
    """What `make bench-distill` found, with its figure, or that it has not run."""
    stored = distillation_tables.load(RESULTS / "distill.json")
    if stored is None:
        return ["## Distillation of foreign teachers", "Not measured yet: `make bench-distill`."]
    return [
        "## Distillation of foreign teachers",
        f"`make bench-distill`. Share: interquartile mean of 20 held-out episodes a seed, mean over the seeds, as a "
        f"share of the teacher's. {INTERVAL} {FALLS} Bytes: values, indices, row pointers, biases; dense students "
        "without indices where that is less. Steps: of training and fine-tuning; dense students may take about as many "
        "as sparse ones do over all sizes. Offline: 200 teacher episodes with exploration noise, no critic, no "
        "student-driven round.",
        distillation_tables.section(stored),
        "![Return against bytes](results/distill.svg)",
    ]


def refinement() -> list[str]:
    """What `make bench-refine` found, or that it has not run."""
    stored = distillation_tables.load(RESULTS / "refine.json")
    if stored is None:
        return ["## What each objective buys", "Not measured yet: `make bench-refine`."]
    return [
        "## What each objective buys",
        "`make bench-refine`. One mask a size and seed, found offline; every refinement keeps it. Kept weights, kept "
        "parameters and bytes are the largest over the seeds; the return is the mean over seeds of the interquartile "
        f"mean of 20 held-out episodes. {INTERVAL} {FALLS} Steps: the method's own, mean over the seeds, where the "
        "student that is shown was reached; those of a refinement come on top of the offline student's, a search takes "
        "episodes instead, and no method was held to the steps of another. Kept as it was: a refinement may keep the "
        "student that it begins with where none that it made did better on the selection episodes; so many seeds' "
        "students are unrefined.",
        refinement_tables.section(stored),
    ]


def policy_distillation() -> list[str]:
    """What `make bench-studies` found, or that it has not run."""
    stored = distillation_tables.load(RESULTS / "policy_distillation.json")
    if stored is None:
        return ["## Distilling Policy Distillation", "Not measured yet: `make bench-studies`."]
    return [
        "## Distilling Policy Distillation",
        "`make bench-studies`; what the figures show and what of them is ours: "
        "[policy_distillation.md](policy_distillation.md). Verdicts are computed from the numbers, not written.",
        policy_distillation_tables.section(stored),
    ]


def ablations() -> list[str]:
    """What `make ablations` found, with its figures, or that it has not run."""
    found = ablation_tables.found()
    if not found:
        return ["## Ablations", "Not measured yet: `make ablations`."]
    return ["## Ablations", f"`make ablations`. {INTERVAL} {FALLS}", ablation_tables.section(found)]


def exporters() -> list[str]:
    """What `make bench-export` measured, or that it has not run."""
    stored = distillation_tables.load(RESULTS / "export.json")
    if stored is None:
        return ["## Export beside other generators of C", "Not measured yet: `make bench-export`."]
    return ["## Export beside other generators of C", export_tables.section(stored)]


def firmware() -> list[str]:
    """What `make bench-firmware` built and ran, or that it has not run."""
    stored = distillation_tables.load(RESULTS / "firmware.json")
    if stored is None:
        return ["## Whole firmware images", "Not measured yet: `make bench-firmware`."]
    return ["## Whole firmware images", firmware_tables.section(stored)]


def bridge() -> list[str]:
    """What `make bench-bridge` and `make soak` measured, or that they have not run."""
    stored = distillation_tables.load(RESULTS / "bridge.json")
    if stored is None:
        return ["## The bridge at 1 kHz", "Not measured yet: `make bench-bridge`."]
    soaked = distillation_tables.load(RESULTS / "soak.json")
    return ["## The bridge at 1 kHz", bridge_tables.section(stored, soaked)]


def draw() -> None:
    """The figures of docs/results.md, from the stored JSON files."""
    stored = distillation_tables.load(RESULTS / "distill.json")
    if stored is not None:
        distillation_tables.curves(stored, RESULTS / "distill.svg")
    for name, result in ablation_tables.found().items():
        ablation_tables.curves(result, RESULTS / ablation_tables.figure_name(name))


def results_page(summary: dict[str, Any]) -> str:
    """docs/results.md."""
    teach = json.loads((ROOT / "teachers" / "cart_rail.json").read_text(encoding="utf-8"))
    rows = [
        f"| {name} | {row['held']} of {row['episodes']} | {row['return_mean']:.1f} | {row['return_worst']:.1f} |"
        for name, row in teach["evaluation"].items()
    ]
    return "\n\n".join(
        [
            "# Results",
            "Written by `make results` from the last `make demo`; no number here is typed by hand. "
            f"Commit `{summary['commit'][:12]}`, {summary['machine']}.",
            "## Teacher against student",
            headline(summary),
            "The teacher's C comes from the same exporter (dense loops). Instructions are exact; flash counts the "
            "linked function minus an empty program.",
            "## Latency",
            latency(summary),
            "Real time on a shared machine with the plant, the firmware and the bridge in three processes.",
            "## Swing-ups without a safety stop",
            swing_ups(),
            "## The shipped teacher",
            f"`{teach['command']}` selected its actor at {teach['selected_at_steps']:,} steps. "
            "Held: |theta| < 0.2 rad for the whole last 3 s.",
            "\n".join(["| plant | held | mean return | worst |", "|---|---|---|---|", *rows]),
            "## Stages of the demo",
            stages(summary),
            *bridge(),
            *firmware(),
            *exporters(),
            *training_speed(),
            *distillation(),
            *refinement(),
            *policy_distillation(),
            *ablations(),
        ]
    )


def render(summary: dict[str, Any], readme: str) -> tuple[str, str]:
    """(new README.md, new docs/results.md)."""
    before, _, rest = readme.partition(BEGIN)
    _, _, after = rest.partition(END)
    if not rest or not after:
        raise SystemExit(f"error: README.md lacks {BEGIN} ... {END}; restore the markers")
    block = f"{BEGIN}\n{headline(summary)}\n\nMeasured on {summary['machine']}; written by `make results`.\n{END}"
    return before + block + after, results_page(summary) + "\n"


def main() -> None:
    """Write the documents, or with --check compare them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--summary", type=Path, help="summary.json of `make demo`")
    parser.add_argument("--check", action="store_true", help="change nothing; fail when the documents differ")
    arguments = parser.parse_args()
    stored = ROOT / "docs" / "results" / "demo.json"
    source = arguments.summary or stored
    if not source.is_file():
        raise SystemExit(f"error: {source} does not exist; make it with: make demo")
    summary = json.loads(source.read_text(encoding="utf-8"))
    summary.setdefault("machine", machine())
    if summary["commit"].endswith("-dirty"):
        raise SystemExit(f"error: {source} was measured on uncommitted changes; commit, then: make demo results")
    readme_path, page_path = ROOT / "README.md", ROOT / "docs" / "results.md"
    readme, page = render(summary, readme_path.read_text(encoding="utf-8"))
    if arguments.check:
        same = readme == readme_path.read_text(encoding="utf-8") and page == page_path.read_text(encoding="utf-8")
        sys.exit(
            0 if same else "error: README.md or docs/results.md differ from docs/results/demo.json; run: make results"
        )
    stored.parent.mkdir(parents=True, exist_ok=True)
    stored.write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    readme_path.write_text(readme, encoding="utf-8")
    page_path.write_text(page, encoding="utf-8")
    draw()


if __name__ == "__main__":
    main()
