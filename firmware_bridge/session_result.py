"""What a run gave, as its JSON: what `run --json` prints and the log ends with."""

import dataclasses
from typing import Any

from firmware_bridge.device.conversation import LinkCounters
from firmware_bridge.errors import StopRequested
from firmware_bridge.latency.stage_histograms import APPLY, STAGES
from firmware_bridge.loop.clock_sync import ClockSync
from firmware_bridge.ports.simulated_port import SimulatedPort
from firmware_bridge.session import Session, start_of


def session_result(
    session: Session, error: BaseException | None, simulator: SimulatedPort | None, seconds: float
) -> dict[str, Any]:
    """The result of `session`, which `error` ended."""
    config, tally = session.config, session.tally
    zero = LinkCounters(0, 0, 0, 0, 0)
    counters = (session.counters or zero).since(session.baseline or zero)
    history = session.history
    result: dict[str, Any] = {
        "mode": config.mode,
        "dry_run": config.dry_run,
        "clock": config.clock,
        "steps": tally.steps,
        "crc_errors": counters.crc_errors,
        "lost": counters.lost,
        "deadline_misses": tally.unanswered + counters.stale_commands,
        "own_deadline_misses": tally.own_misses,
        "refused": counters.refused,
        "out_of_order": counters.out_of_order,
        "upright_fraction_last_3s": tally.upright_fraction,
        "latency_us": dataclasses.asdict(tally.histograms.percentiles("total", tally.duration_s)),
        "stages_us": {
            stage: dataclasses.asdict(tally.histograms.percentiles(stage, tally.duration_s))
            for stage in (*STAGES, APPLY)
        },
        "clock_sync": _clock_sync(tally.clock, tally.last_ns),
        "latency_overflows": tally.histograms.overflows,
        "device_us": {
            name: dataclasses.asdict(value) for name, value in tally.device_times.percentiles(tally.duration_s).items()
        },
        "faults": session.faults,
        "device": {"board": session.reply.board, **start_of(session.reply)} if session.reply else None,
        "stop": dataclasses.asdict(session.stop) if session.stop else None,
        "policy_digest": session.folder.digest,
        "backend": session.backend,
        "realtime": session.realtime.as_record(),
        "limits": {"clamped": session.limits.clamped, "slewed": session.limits.slewed},
        "log": session.log_path,
        "log_dropped": session.recorder.dropped,
        "ended_by": _ended_by(error),
    }
    if history is not None:
        names = ("repaired", "gaps", "withheld")
        result["history"] = {name: getattr(history, name) for name in names}
    if config.mode == "shadow":
        result["shadow"] = {"compared": tally.shadow_compared, "max_difference": tally.shadow_difference}
    if simulator is not None:
        result["trajectory_sha256"] = simulator.result.get("trajectory_sha256")
        result["simulator"] = simulator.result
    result["seconds"] = seconds
    return result


def _clock_sync(clock: ClockSync | None, last_ns: int) -> dict[str, Any] | None:
    # As of the last observation: what is known gets less certain while the cart brakes and the log is closed.
    estimate = clock.estimate(last_ns) if clock is not None else None
    return dataclasses.asdict(estimate) if estimate is not None else None


def _ended_by(error: BaseException | None) -> str:
    if error is None:
        return "duration"
    return str(error) if isinstance(error, StopRequested) else type(error).__name__
