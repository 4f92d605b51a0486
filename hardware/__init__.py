"""The device: plants, firmware, the wire's definition, and simulators of both.

Importing this package makes `gymnasium.make("hardware:CartRail-v0")` (and Edukit-v0, Qube-v0) work where Gymnasium is
installed; the bridge's base install does not have it and only imports the wire.
"""

import contextlib
import sys
from pathlib import PurePath


def _register() -> None:
    from gymnasium.envs.registration import register, registry

    # Every episode lasts 10 s: periods of 20, 20 and 10 ms.
    for plant, periods in (("CartRail", 500), ("Edukit", 500), ("Qube", 1000)):
        if f"{plant}-v0" not in registry:
            entry = f"hardware.environment:{plant}Environment"
            register(id=f"{plant}-v0", entry_point=entry, max_episode_steps=periods)


# Where this package itself is the program (`python -m hardware`: argv[0] is "-m" until __main__ is found) it needs no
# environment, and a Ctrl-C during the import of Gymnasium would come before anything could catch it. The bridge never
# needs one, and would take half a second longer to its first command.
_PROGRAM = PurePath(sys.argv[0] if sys.argv else "")
if _PROGRAM.name not in ("-m", "bpd-hardware", "bpd-bridge") and _PROGRAM.parent.name != "firmware_bridge":
    with contextlib.suppress(ModuleNotFoundError):  # base install: only the wire is needed
        _register()
