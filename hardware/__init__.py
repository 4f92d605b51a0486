"""The device: plants, firmware, the wire's definition, and simulators of both.

Importing this package makes `gymnasium.make("hardware:CartRail-v0")` work where Gymnasium is installed; the bridge's
base install does not have it and only imports the wire.
"""

import contextlib
import sys
from pathlib import PurePath


def _register() -> None:
    from gymnasium.envs.registration import register, registry

    if "CartRail-v0" not in registry:
        # 500 control periods of 20 ms: the episode of 10 s.
        register(id="CartRail-v0", entry_point="hardware.environment:CartRailEnvironment", max_episode_steps=500)


# Where this package itself is the program (`python -m hardware`: argv[0] is "-m" until __main__ is found) it needs no
# environment, and a Ctrl-C during the import of Gymnasium would come before anything could catch it.
if PurePath(sys.argv[0] if sys.argv else "").name not in ("-m", "bpd-hardware"):
    with contextlib.suppress(ModuleNotFoundError):  # base install: only the wire is needed
        _register()
