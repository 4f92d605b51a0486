"""What MuJoCo has to say, once: by itself it repeats each warning for every model and writes MUJOCO_LOG.TXT."""

from __future__ import annotations

import re
import sys

_said: set[str] = set()


def say_once(environment: str) -> None:
    """Let every kind of warning of the simulator appear once a process, on stderr, where `environment` is played by it.

    Does nothing for other environments: importing MuJoCo takes a quarter of a second.
    """
    import gymnasium

    spec = gymnasium.registry.get(environment.rpartition(":")[2])
    if "mujoco" in sys.modules or (spec is not None and "mujoco" in str(spec.entry_point)):
        import mujoco

        mujoco.set_mju_user_warning(_say)


def _say(message: str) -> None:
    kind = re.sub(r"[\d.]+", "#", message)  # times and indices differ each time
    if kind not in _said:
        _said.add(kind)
        print(f"note: MuJoCo: {' '.join(message.split())} (said once)", file=sys.stderr)
