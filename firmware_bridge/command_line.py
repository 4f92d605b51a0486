"""Command line of the bridge: run a policy with a device or an emulated one, look at its logs, set up the daemon."""

import contextlib
import importlib
import sys
import time
from typing import Annotated, Any

import tyro

from firmware_bridge import config as verbs
from firmware_bridge import notices
from firmware_bridge.configuration_file import with_configuration
from firmware_bridge.errors import BridgeError, ConfigurationError, ResultError, StopRequested
from firmware_bridge.faults.settings import Proxy
from firmware_bridge.logs.topics import to_json
from firmware_bridge.standard_streams import given_result

Verb = (
    Annotated[verbs.Run, tyro.conf.subcommand("run")]
    | Annotated[verbs.Check, tyro.conf.subcommand("check")]
    | Annotated[verbs.Emulate, tyro.conf.subcommand("emulate")]
    | Annotated[verbs.Identify, tyro.conf.subcommand("identify")]
    | Annotated[verbs.Ping, tyro.conf.subcommand("ping")]
    | Annotated[verbs.Report, tyro.conf.subcommand("report")]
    | Annotated[verbs.Replay, tyro.conf.subcommand("replay")]
    | Annotated[verbs.Live, tyro.conf.subcommand("live")]
    | Annotated[verbs.Merge, tyro.conf.subcommand("merge")]
    | Annotated[verbs.Export, tyro.conf.subcommand("export")]
    | Annotated[verbs.InstallDaemon, tyro.conf.subcommand("install-daemon")]
    | Annotated[verbs.ListPorts, tyro.conf.subcommand("list")]
    | Annotated[Proxy, tyro.conf.subcommand("proxy")]
    | Annotated[verbs.Summary, tyro.conf.subcommand("summary")]
)

# Module, what does it, what shows its result: each is imported when it is asked for, because some take long to load.
ACTIONS: dict[type, tuple[str, str, str]] = {
    verbs.Check: ("check", "check", "print_check"),
    verbs.Emulate: ("emulate", "emulate", "print_emulation"),
    verbs.Identify: ("device.identify", "identify", "print_identity"),
    verbs.Ping: ("device.ping", "ping", "print_ping"),
    verbs.Report: ("reports.report", "make_report", "print_report"),
    verbs.Replay: ("replay.replay", "replay", "print_replay"),
    verbs.Live: ("live.show_log", "show_log", "print_shown"),
    verbs.Merge: ("latency.merge", "merge", "print_merge"),
    verbs.Export: ("logs.export_log", "export_log", "print_export"),
    verbs.InstallDaemon: ("systemd.install_daemon", "install_daemon", "print_installation"),
    verbs.ListPorts: ("ports.list_ports", "make_list", "print_list"),
    Proxy: ("faults.proxy", "run_proxy", "print_proxy"),
    verbs.Summary: ("reports.summary", "make_summary", "print_summary"),
}


def command_line() -> int:
    """Parse, run one verb, report what failed; the exit code (128 + its number after a signal).

    Raises SystemExit(2) for wrong usage, KeyboardInterrupt outside of `run`.
    """
    try:
        arguments = with_configuration(sys.argv[1:])
        config = _parsed(arguments)
        return _dispatch(config)
    except StopRequested as stop:
        return _complain(f"stopped by {stop}; {stop.left}", stop.exit_code)
    except ConfigurationError as error:
        return _complain(str(error), 2)
    except BridgeError as error:
        return _complain(str(error), 1)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return _complain(f"{where}{error.strerror or error}; check path, permissions and free space", 1)


def _parsed(arguments: list[str]) -> Any:
    try:
        return tyro.cli(Verb, prog="firmware_bridge", description=__doc__, args=arguments)
    except SystemExit:
        with given_result():  # --help
            pass
        raise


def _dispatch(config: Any) -> int:
    started = time.monotonic()
    if isinstance(config, verbs.Run):
        return _run(config)
    name, act, show = ACTIONS[type(config)]
    module = importlib.import_module(f"firmware_bridge.{name}")
    result: dict[str, Any] = getattr(module, act)(config)
    result.setdefault("seconds", time.monotonic() - started)
    with given_result():
        if config.json:
            print(to_json(result).decode())
        else:
            getattr(module, show)(result)
    # `replay` finds a difference, `check` what would not work.
    return 0 if result.get("difference") is None and result.get("ok", True) else 1


def _run(config: verbs.Run) -> int:
    from firmware_bridge.logs.recorder import launch_writer

    writer = launch_writer()  # the two load side by side; where nothing comes of the run, it ends when we do
    from firmware_bridge.run import run

    outcome = run(config, keyboard=True, writer=writer)
    if outcome.result is not None:
        # What ended the run is said first; SIGHUP takes the terminal with it, that must not change the exit code.
        with (
            contextlib.suppress(ResultError) if outcome.error is not None else contextlib.nullcontext(),
            given_result(),
        ):
            if config.json:
                print(to_json(outcome.result).decode())
            else:
                # Tables take a quarter of a second to load: not before the run.
                from firmware_bridge.reports.tables import print_run

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
