"""`python -m firmware_bridge`, also installed as `bpd-bridge`: run, report, list, summary."""

import sys
import time
from collections.abc import Callable
from typing import Annotated, Any

import tyro

from firmware_bridge.config import ListPorts, Report, Run, Summary
from firmware_bridge.errors import BridgeError, StopRequested
from firmware_bridge.log_topics import to_json

Verb = (
    Annotated[Run, tyro.conf.subcommand("run")]
    | Annotated[Report, tyro.conf.subcommand("report")]
    | Annotated[ListPorts, tyro.conf.subcommand("list")]
    | Annotated[Summary, tyro.conf.subcommand("summary")]
)


def main() -> None:
    """Entry point: exit code 0, 1 (error, one line on stderr), 2 (usage), 130 or 143 (SIGINT, SIGTERM)."""
    try:
        config: Any = tyro.cli(Verb, prog="firmware_bridge", description=__doc__)
        code = _dispatch(config)
    except StopRequested as stop:
        code = _complain(f"stopped by {stop}; nothing was armed", stop.exit_code)
    except KeyboardInterrupt:
        code = _complain("interrupted", 130)
    except BridgeError as error:
        code = _complain(str(error), 1)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        code = _complain(f"{where}{error.strerror or error}; check path, permissions and free space", 1)
    sys.exit(code)


def _dispatch(config: Any) -> int:
    started = time.monotonic()
    show: Callable[[dict[str, Any]], None]
    if isinstance(config, Run):
        return _run(config)
    if isinstance(config, Report):
        from firmware_bridge.report import make_report, print_report

        result = make_report(config)
        show = print_report
    elif isinstance(config, Summary):
        from firmware_bridge.summary import make_summary, print_summary

        result = make_summary(config)
        show = print_summary
    else:
        from firmware_bridge.tables import list_ports_result, print_ports

        result = list_ports_result()
        show = print_ports
    result.setdefault("seconds", time.monotonic() - started)
    if config.json:
        print(to_json(result).decode(), flush=True)
    else:
        show(result)
    return 0


def _run(config: Run) -> int:
    from firmware_bridge.run import run
    from firmware_bridge.tables import print_run

    outcome = run(config)
    if outcome.result is not None:
        if config.json:
            print(to_json(outcome.result).decode(), flush=True)
        else:
            print_run(outcome.result)
    if isinstance(outcome.error, StopRequested):
        return _complain(f"stopped by {outcome.error}; {_stop_text(outcome.result)}", outcome.error.exit_code)
    if outcome.error is not None:
        return _complain(str(outcome.error), 1)
    return 0


def _stop_text(result: dict[str, Any] | None) -> str:
    stop = (result or {}).get("stop")
    if stop and stop["confirmed"]:
        return f"the cart was braked, the device is in state {stop['state']}"
    return "nobody confirmed that the cart was braked: its watchdog does it; look at it before you touch it"


def _complain(message: str, code: int) -> int:
    print(f"error: {' '.join(message.splitlines())}", file=sys.stderr, flush=True)
    return code


if __name__ == "__main__":
    main()
