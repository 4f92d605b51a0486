"""One device, one seed: a bridge behind the fault proxy, started again whenever it ends, until time is over."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import threading
import time
from pathlib import Path
from typing import Any, Literal

from benchmarks.applied_actions import judge, logged_commands
from firmware_bridge.config import Replay, Run
from firmware_bridge.errors import BridgeError, PortNotFoundError
from firmware_bridge.faults.fault_proxy import FaultProxy
from firmware_bridge.faults.settings import Proxy
from firmware_bridge.logs.read_log import Log, read_log
from firmware_bridge.ports.link import open_link
from firmware_bridge.ports.simulated_port import SimulatedPort, SimulatorSettings
from firmware_bridge.replay.replay import replay
from firmware_bridge.run import run

_SIMULATOR_KEYS = ("missed_exchanges", "late_actuations", "late_periods", "trajectory_sha256")
_BEFORE_ARMING = "before arming: "
_RETRY_S = 0.005  # while the proxy keeps its port closed


@dataclasses.dataclass(frozen=True)
class FaultRun:
    """What is run: `seconds` of the device's time; `proxy` without its ports."""

    policy: Path
    image: Path
    out: Path
    seconds: float
    clock: Literal["real", "lockstep"]
    proxy: dict[str, Any]
    mode: Literal["host", "device", "shadow"] = "host"
    watchdog_periods: int = 2


@dataclasses.dataclass
class Shadow:
    """Mode shadow: actions that both ends computed, and where they differ, over all runs."""

    compared: int = 0
    differences: list[str] = dataclasses.field(default_factory=list)


def fault_run(config: FaultRun) -> dict[str, Any]:
    """Run until the device's time is over; figures, and `violations` in words."""
    config.out.mkdir(parents=True, exist_ok=True)
    seed = int(config.proxy.get("seed", 0))
    trajectory = config.out / "trajectory.safetensors"
    # It is stopped from here; its own bound is only for the case that this process dies.
    simulator = SimulatedPort(
        SimulatorSettings(config.image, config.clock, seed, True, 10.0 * config.seconds + 600.0, trajectory)
    )
    ends: collections.Counter[str] = collections.Counter()
    shadow = Shadow()
    logs: list[Path] = []
    with simulator:
        device = open_link(str(simulator.path))
        settings = Proxy(port=str(simulator.path), listen="socket://127.0.0.1:0", clock=config.clock, **config.proxy)
        proxy = FaultProxy(settings, device)
        carrier = threading.Thread(target=_carry, args=(proxy,), daemon=True)
        carrier.start()
        try:
            while (left_s := config.seconds - proxy.clock.seconds) > 0 and carrier.is_alive():
                folder = config.out / f"run{len(logs):04}"
                end = _one_run(config, proxy.name, folder, left_s, shadow)
                ends[end] += 1
                if not end.startswith(_BEFORE_ARMING) or folder.is_dir():
                    logs.append(folder)  # else it was cut off before anything was said; the next one takes its name
        finally:
            proxy.stop()
            carrier.join(10)
            proxy.close()
            device.close()
    violations: list[str] = list(shadow.differences)
    read = [log for folder in logs if (log := readable_log(folder, config.policy, violations)) is not None]
    told: dict[str, Any] = {}
    if config.mode == "host":
        late = int(simulator.result.get("late_actuations", 0)) if config.clock == "real" else 0
        told = dataclasses.asdict(judge(trajectory, *logged_commands(read), config.watchdog_periods, late))
    violations += told.pop("violations", [])
    carried = proxy.result()
    violations += _cut_short(config, carried, told.get("driven", shadow.compared if config.mode == "shadow" else None))
    return {
        "seed": seed,
        "clock": config.clock,
        "mode": config.mode,
        "simulated_s": carried["device_s"],
        "runs": dict(sorted(ends.items())),
        "logs": len(logs),
        "shadow_compared": shadow.compared,
        "commands": sum(len(log.values("/command")) for log in read),
        **told,
        "proxy": carried,
        "simulator": {key: simulator.result.get(key) for key in _SIMULATOR_KEYS},
        "violations": violations,
    }


def _one_run(config: FaultRun, port: str, folder: Path, left_s: float, shadow: Shadow) -> str:
    """How a bridge ended: `duration`, or the name of its error, with `before arming: ` where it did not arm."""
    arguments = Run(
        port=port,
        policy=config.policy,
        log=folder,
        mode=config.mode,
        duration_s=max(left_s, 0.02),
        watchdog_periods=config.watchdog_periods,
    )
    try:
        outcome = run(arguments)
    except PortNotFoundError:
        time.sleep(_RETRY_S)
        return f"{_BEFORE_ARMING}PortNotFoundError"
    except BridgeError as error:
        return f"{_BEFORE_ARMING}{type(error).__name__}"
    if outcome.result is not None and "shadow" in outcome.result:
        told = outcome.result["shadow"]
        shadow.compared += told["compared"]
        if told["max_difference"] != 0.0:  # also a NaN
            shadow.differences.append(f"{folder.name}: host and device differ by {told['max_difference']} m/s^2")
    return type(outcome.error).__name__ if outcome.error is not None else "duration"


def _carry(proxy: FaultProxy) -> None:
    with contextlib.suppress(BridgeError):  # it is told as what the proxy ended by
        proxy.run()


def _cut_short(config: FaultRun, carried: dict[str, Any], driven: int | None) -> list[str]:
    """What says that less was tried than was asked for; a run in which nothing happened violates nothing else."""
    violations = []
    if carried["ended_by"] != "stop":
        violations.append(f"the proxy ended before the run did: {carried['ended_by']}")
    if carried["device_s"] < config.seconds:
        violations.append(f"{carried['device_s']:.1f} s of the device's time went by, expected {config.seconds:.1f} s")
    if driven == 0:
        violations.append(f"mode {config.mode}: no period was driven or compared, expected some")
    return violations


def readable_log(folder: Path, policy: Path, violations: list[str]) -> Log | None:
    """The log: complete, nothing dropped, and a replay of its raw bytes and of the policy gives the same again."""
    try:
        log = read_log(folder)
        # numpy has the bits of C, and compiles nothing.
        again = replay(Replay(log=folder, policy=policy, backend="csr"))
    except BridgeError as error:
        violations.append(f"{folder.name}: {error}")
        return None
    if not log.complete:
        violations.append(f"{folder.name}: the log is cut off: {log.cut}")
    if log.values("/dropped"):
        violations.append(f"{folder.name}: records were dropped: {log.values('/dropped')[-1]}")
    if again["difference"] is not None:
        violations.append(f"{folder.name}: replayed, it differs: {again['difference']}")
    return log
