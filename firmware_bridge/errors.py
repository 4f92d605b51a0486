"""Everything the bridge can refuse or lose, as one tree.

BridgeError                    base class; one line: what, got, expected, next step
├── LinkError                  the port
│   ├── PortNotFoundError      no such port; names the ports that exist
│   ├── PortBusyError          another program holds the port
│   └── LinkLostError          cable pulled, device reset, simulator gone, or silence
├── HandshakeError             the device answered, but not as agreed
│   ├── NoReplyError           nothing understandable came back
│   ├── MismatchError          protocol, schema, period or policy digest differ; names both sides
│   └── RefusedError           the device refused CONFIG, ARM or DISARM; carries its reason
├── HostPolicyError            the policy folder or the compiled kernel is not usable
├── SensorError                an observation that cannot be true, or that no run may go on with
├── DeviceFaultError           the device stopped the cart by itself while the loop ran
├── DeviceRestartedError       the device started again while the loop ran: brown-out, reset, its own watchdog
├── RecorderError              the log can no longer be written (full disk); the cart was braked
├── LogError                   a log that cannot be read at all
├── LiveError                  the live page cannot be served where it was asked for
├── SimulatorError             `python -m hardware` could not build or simulate
├── SummaryError               a stage's JSON is missing or lacks a key
└── ConfigurationError         bridge.toml: an unknown key, a wrong type, a value out of range

StopRequested (KeyboardInterrupt)  a signal, a key or the live page, raised where the run can be left; has the exit code
"""

import signal
from typing import Self


class BridgeError(Exception):
    """Base of every error the bridge reports; the message is one line that ends in the next step."""


class LinkError(BridgeError):
    """The port cannot be opened or was lost."""


class PortNotFoundError(LinkError):
    """No port of that name exists."""


class PortBusyError(LinkError):
    """The port exists, but somebody else holds it or we may not open it."""


class LinkLostError(LinkError):
    """The port was open and is gone, or the device went silent."""


class HandshakeError(BridgeError):
    """The device answered, but not as agreed."""


class NoReplyError(HandshakeError):
    """Nothing understandable came back in time."""


class MismatchError(HandshakeError):
    """The two sides were built from different definitions; nothing was armed."""


class RefusedError(HandshakeError):
    """The device refused a request and said why."""


class HostPolicyError(BridgeError):
    """The policy folder or the compiled kernel is not usable."""


class SensorError(BridgeError):
    """An observation that cannot be true while the drive is on; the cart was braked."""


class DeviceFaultError(BridgeError):
    """The device stopped the cart by itself while the loop ran."""


class DeviceRestartedError(BridgeError):
    """The device started again while the loop ran."""


class RecorderError(BridgeError):
    """The log can no longer be written."""


class LogError(BridgeError):
    """A log that cannot be read at all."""


class ResultError(BridgeError):
    """The result could not be written to standard output."""


class LiveError(BridgeError):
    """The live page cannot be served."""


class SimulatorError(BridgeError):
    """The simulated device could not be built or started."""


class SummaryError(BridgeError):
    """A stage's JSON file is missing, is not JSON, or lacks a key."""


class ConfigurationError(BridgeError):
    """The configuration file cannot be used as it is."""


class StopRequested(KeyboardInterrupt):
    """Somebody wants the run to end: at once while nothing can move, between two messages afterwards (whoever catches
    it brakes).

    Its text follows "stopped by"; `exit_code` is what a shell expects: 128 + the signal's number, 130 for a person.
    `left` says what was left behind; whoever armed something and catches it on the way says otherwise.
    """

    def __init__(self, reason: str, exit_code: int) -> None:
        super().__init__(reason)
        self.exit_code = exit_code
        self.left = "nothing was armed"

    @classmethod
    def by_signal(cls, number: int) -> Self:
        """SIGINT, SIGTERM or SIGHUP."""
        return cls(signal.Signals(number).name, 128 + number)
