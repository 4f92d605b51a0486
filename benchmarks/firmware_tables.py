"""The tables of whole firmware images in docs/results.md."""

from __future__ import annotations

from typing import Any


def section(stored: dict[str, Any]) -> str:
    """Sizes by module, and where the same trajectory came from."""
    return "\n\n".join([_origin(stored), _sizes(stored["images"]), _runs(stored["runs"])])


def _origin(stored: dict[str, Any]) -> str:
    return (
        f"`make bench-firmware`, commit `{stored['commit'][:12]}`: the int8 policy `{stored['policy_digest'][:12]}` of "
        f"the committed student ({stored['kept_weights']} weights) in every image. hil: encoders and motor on a serial "
        "port, for the emulator; real: on pins and timers, for flashing. Flash is everything that is flashed, RAM all "
        "variables and the reserved stack."
    )


def _sizes(images: list[dict[str, Any]]) -> str:
    """One column an image, one row a module, the largest of the first image first."""
    names: list[str] = []
    for image in images:
        names += [name for name in image["modules"] if name not in names]
    head = " | ".join(f"{image['board']} {image['variant']}" for image in images)
    lines = [f"| flash / RAM, bytes | {head} |", "|---|" + "---|" * len(images)]
    for name in names:
        lines.append(f"| {name} | " + " | ".join(_pair(image["modules"].get(name)) for image in images) + " |")
    total = " | ".join(f"**{image['flash_bytes']:,} / {image['ram_bytes']:,}**" for image in images)
    return "\n".join([*lines, f"| **image** | {total} |"])


def _pair(size: dict[str, int] | None) -> str:
    return "" if size is None else f"{size['flash_bytes']:,} / {size['ram_bytes']:,}"


def _runs(runs: list[dict[str, Any]]) -> str:
    lines = [
        "| closed loop in lock-step | mode | periods | upright, last 3 s | faults | trajectory |",
        "|---|---|---|---|---|---|",
    ]
    for row in runs:
        lines.append(
            f"| {row['where']} | {row['mode']} | {row['steps']} | {row['upright_fraction_last_3s']:.0%} | "
            f"{len(row['faults'])} | `{row['trajectory_sha256'][:12]}` |"
        )
    same = len({row["trajectory_sha256"] for row in runs}) == 1
    verdict = "the same bits in every row" if same else "THE ROWS DIFFER"
    return "\n".join([*lines, "", f"The trajectory is every count, drive order, enable flag and fault: {verdict}."])
