"""Configuration of the verb `proxy`; each field's docstring is its `--help` text."""

import dataclasses
from pathlib import Path
from typing import Literal

from firmware_bridge.errors import BridgeError
from firmware_bridge.faults.plan import Direction, FaultRates
from firmware_bridge.faults.script import RATE_KINDS


@dataclasses.dataclass(frozen=True)
class Proxy:
    """Stand between a bridge and a device and hurt what they say, by a seed or a script; counts what was done."""

    port: str
    """Where the device is: a serial port by path, or socket://HOST:PORT."""
    listen: str
    """Where the bridge finds this proxy: socket://127.0.0.1:PORT (0 takes a free one), or a path at which a symlink to
    a pseudo terminal is made."""
    script: Path | None = None
    """TOML file of [[fault]] tables, beside the rates below."""
    drop: float = 0.0
    """Share of the frames that are lost."""
    corrupt: float = 0.0
    """Share of the frames of which one to four bytes are changed."""
    truncate: float = 0.0
    """Share of the frames whose end is cut off."""
    duplicate: float = 0.0
    """Share of the frames that come twice."""
    reorder: float = 0.0
    """Share of the frames that come after one to six later ones."""
    flood: float = 0.0
    """Share of the frames before which up to 1,024 random bytes come."""
    replay: float = 0.0
    """Share of the frames before which an earlier one to the device comes again."""
    foreign: float = 0.0
    """Share of the COMMANDs before which one of another session comes, its checksum right."""
    jitter_ms: float = 0.0
    """Longest extra delay of a frame [ms], drawn evenly; their order stays."""
    disconnect_every_s: float | None = None
    """Cut the connection to the bridge each time that so much time has passed since the first one came [s]."""
    outage_s: float = 0.5
    """How long nobody is let in after a connection has ended [s]."""
    direction: Literal["both", "to-device", "to-host"] = "both"
    """Which frames the rates above mean; a script names its own."""
    clock: Literal["real", "lockstep"] = "real"
    """lockstep: the device is a simulator that waits for answers; seconds are its own, and it is told at once when an
    answer was lost."""
    seed: int = 0
    """Decides what happens to which frame."""
    baudrate: int = 921_600
    """Speed of a serial port [baud]."""
    json: bool = False
    """Print exactly one JSON object on stdout, everything else on stderr."""

    def __post_init__(self) -> None:
        """Refuse values that cannot work. Raises BridgeError."""
        _ = self.rates
        every = self.disconnect_every_s
        if every is not None and not 0.0 < every <= 86_400.0:
            raise BridgeError(f"--disconnect-every-s {every:g}: expected more than 0 and up to 86400 s; pass another")
        if not 0.0 <= self.outage_s <= 3_600.0:
            raise BridgeError(f"--outage-s {self.outage_s:g}: expected 0 to 3600 s; pass another")
        if self.seed < 0:
            raise BridgeError(f"--seed {self.seed}: expected a number from 0 on; pass another")

    @property
    def rates(self) -> FaultRates:
        """The rates alone."""
        return FaultRates(**{kind: getattr(self, kind) for kind in RATE_KINDS}, jitter_s=self.jitter_ms / 1e3)

    def rates_of(self, direction: Direction) -> FaultRates:
        """The rates of one direction."""
        return self.rates if self.direction in ("both", direction.value) else FaultRates()
