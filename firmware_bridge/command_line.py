"""Command line of the bridge: run a policy with a device or an emulated one, report, list ports, sum up a demo."""

import contextlib
import sys
import time
from collections.abc import Callable
from typing import Annotated, Any

import tyro

from firmware_bridge import notices
from firmware_bridge.config import (
    Check,
    Emulate,
    Export,
    Identify,
    InstallDaemon,
    ListPorts,
    Merge,
    Replay,
    Report,
    Run,
    Summary,
)
from firmware_bridge.configuration_file import with_configuration
from firmware_bridge.errors import BridgeError, ConfigurationError, StopRequested
from firmware_bridge.log_topics import to_json

Verb = (
    Annotated[Run, tyro.conf.subcommand("run")]
    | Annotated[Check, tyro.conf.subcommand("check")]
    | Annotated[Emulate, tyro.conf.subcommand("emulate")]
    | Annotated[Identify, tyro.conf.subcommand("identify")]
    | Annotated[Report, tyro.conf.subcommand("report")]
    | Annotated[Replay, tyro.conf.subcommand("replay")]
    | Annotated[Merge, tyro.conf.subcommand("merge")]
    | Annotated[Export, tyro.conf.subcommand("export")]
    | Annotated[InstallDaemon, tyro.conf.subcommand("install-daemon")]
    | Annotated[ListPorts, tyro.conf.subcommand("list")]
    | Annotated[Summary, tyro.conf.subcommand("summary")]
)


def command_line() -> int:
    """Parse, run one verb, report what failed; the exit code (128 + its number after a signal).

    Raises SystemExit(2) for wrong usage, KeyboardInterrupt outside of `run`.
    """
    try:
        arguments = with_configuration(sys.argv[1:])
        config: Any = tyro.cli(Verb, prog="firmware_bridge", description=__doc__, args=arguments)
        return _dispatch(config)
    except StopRequested as stop:
        return _complain(f"stopped by {stop}; nothing was armed", stop.exit_code)
    except ConfigurationError as error:
        return _complain(str(error), 2)
    except BridgeError as error:
        return _complain(str(error), 1)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return _complain(f"{where}{error.strerror or error}; check path, permissions and free space", 1)


def _dispatch(config: Any) -> int:
    started = time.monotonic()
    show: Callable[[dict[str, Any]], None]
    if isinstance(config, Run):
        return _run(config)
    if isinstance(config, Check):
        from firmware_bridge.check import check, print_check

        result = check(config)
        show = print_check
    elif isinstance(config, Emulate):
        from firmware_bridge.emulate import emulate, print_emulation

        result = emulate(config)
        show = print_emulation
    elif isinstance(config, Identify):
        from firmware_bridge.identify import identify, print_identity

        result = identify(config)
        show = print_identity
    elif isinstance(config, Report):
        from firmware_bridge.report import make_report, print_report

        result = make_report(config)
        show = print_report
    elif isinstance(config, Replay):
        from firmware_bridge.replay import print_replay, replay

        result = replay(config)
        show = print_replay
    elif isinstance(config, Merge):
        from firmware_bridge.merge import merge, print_merge

        result = merge(config)
        show = print_merge
    elif isinstance(config, Export):
        from firmware_bridge.export_log import export_log, print_export

        result = export_log(config)
        show = print_export
    elif isinstance(config, InstallDaemon):
        from firmware_bridge.install_daemon import install_daemon, print_installation

        result = install_daemon(config)
        show = print_installation
    elif isinstance(config, Summary):
        from firmware_bridge.summary import make_summary, print_summary

        result = make_summary(config)
        show = print_summary
    else:
        from firmware_bridge.list_ports import make_list, print_list

        result = make_list(config)
        show = print_list
    result.setdefault("seconds", time.monotonic() - started)
    if config.json:
        print(to_json(result).decode(), flush=True)
    else:
        show(result)
    # `replay` finds a difference, `check` what would not work.
    return 0 if result.get("difference") is None and result.get("ok", True) else 1


def _run(config: Run) -> int:
    from firmware_bridge.run import run

    outcome = run(config, keyboard=True)
    if outcome.result is not None:
        stopped = isinstance(outcome.error, StopRequested)
        # SIGHUP takes the terminal with it: that nobody reads the result must not change the exit code.
        with contextlib.suppress(OSError) if stopped else contextlib.nullcontext():
            if config.json:
                print(to_json(outcome.result).decode(), flush=True)
            else:
                from firmware_bridge.tables import print_run  # tables take a quarter of a second: not before the run

                print_run(outcome.result)
    if isinstance(outcome.error, StopRequested):
        return _complain(f"stopped by {outcome.error}; {_stop_text(outcome.result)}", outcome.error.exit_code)
    if outcome.error is not None:
        return _complain(str(outcome.error), 1)
    return 0


def _stop_text(result: dict[str, Any] | None) -> str:
    if (result or {}).get("dry_run"):
        return "nothing was armed"
    stop = (result or {}).get("stop")
    if stop and stop["confirmed"]:
        return f"the cart was braked, the device is in state {stop['state']}"
    return "nobody confirmed that the cart was braked: its watchdog does it; look at it before you touch it"


def _complain(message: str, code: int) -> int:
    notices.say(f"error: {message}", notices.ERROR)
    return code
