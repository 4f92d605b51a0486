"""Signals as a terminal would give them, and the rule for tests that need tools which pip cannot bring.

A background job starts with SIGINT ignored, nohup with SIGHUP, and the programs under test would inherit that.
"""

import os
import shutil
import signal

import pytest

signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

# Marker: commands and the packages that bring them.
NEEDED = {
    "cross": (("arm-none-eabi-gcc",), "gcc-arm-none-eabi libnewlib-arm-none-eabi"),
    "avr": (("avr-gcc",), "gcc-avr avr-libc"),
    "analysis": (("cppcheck", "clang-tidy"), "cppcheck clang-tidy"),
    "fuzz": (("clang",), "clang libclang-rt-14-dev"),
    "qemu": (("qemu-system-arm", "arm-none-eabi-gcc"), "qemu-system-arm gcc-arm-none-eabi libnewlib-arm-none-eabi"),
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if os.environ.get("CI") == "true":
        return
    for marker, (commands, packages) in NEEDED.items():
        missing = [command for command in commands if shutil.which(command) is None]
        for item in items if missing else ():
            if item.get_closest_marker(marker):
                reason = f"{' and '.join(missing)} missing: apt-get install {packages}"
                item.add_marker(pytest.mark.skip(reason=reason))
