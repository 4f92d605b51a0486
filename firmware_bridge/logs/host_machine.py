"""What this computer is, for the first record of a log: latencies of another machine say little."""

import os
import platform
from pathlib import Path
from typing import Any

_REALTIME = Path("/sys/kernel/realtime")
_GOVERNOR = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
_CLOCK_SOURCE = Path("/sys/devices/system/clocksource/clocksource0/current_clocksource")


def describe_machine() -> dict[str, Any]:
    """System, processor, memory and what of the kernel decides latency; "" where it does not tell."""
    return {
        "system": platform.platform(),
        "processor": _processor(),
        "architecture": platform.machine(),
        "cores": os.cpu_count() or 0,
        "memory_bytes": _memory_bytes(),
        "kernel": platform.version(),
        "preempt_rt": _text(_REALTIME) == "1",
        "frequency_governor": _text(_GOVERNOR),
        "clock_source": _text(_CLOCK_SOURCE),
    }


def _processor() -> str:
    for line in _text(Path("/proc/cpuinfo")).splitlines():
        name, _, value = line.partition(":")
        if name.strip() in ("model name", "Model"):
            return value.strip()
    return platform.processor() or platform.machine()


def _memory_bytes() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        return 0


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
