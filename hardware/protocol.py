"""The wire between a host, the device and (in simulation) the plant: every message, once.

This file is the only place where a packet layout is written. `python -m hardware generate` renders it to
`firmware/protocol.h`. A body is `u8 type, u16 sequence, fields...`, little-endian and packed (`codec`); `framing`
wraps it. Any change to a message, a unit or an enumeration changes `codec.SCHEMA_HASH`, which seeds the CRC of every
frame: two sides built from different versions of this file cannot misread each other, they cannot talk at all.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import Annotated, ClassVar

PROTOCOL_VERSION = 2
BASE_OBSERVATION_SIZE = 5
MAXIMUM_WATCHDOG_PERIODS = 10  # Config asks for 1 to this many
STARTED_TICK = 0xFFFFFFFF  # in ExchangeDone
STREAMED_FRAME_LIMIT = 64  # bytes on the wire: one full-speed USB packet
NO_TIME_US = 0xFFFFFFFF  # Timing: there is nothing to give a time of


class Mode(IntEnum):
    """Who computes the action: the host, the device, or both (the device's is used, the host compares)."""

    HOST = 0
    DEVICE = 1
    SHADOW = 2


class State(IntEnum):
    """State of the device's safety machine. The drive is enabled in ARMED and BRAKING only."""

    UNHOMED = 0
    IDLE = 1
    ARMED = 2
    BRAKING = 3
    OFF = 4


class Fault(IntEnum):
    """Why the device stopped. Latched until DISARM in state OFF. Behind each: what `FaultReport.detail` holds."""

    NONE = 0
    WATCHDOG = 1  # periods without an answer
    HOMING_LOST = 2  # SensorFlag bits
    DRIVE_FAULT = 3  # SensorFlag bits
    RAIL_END = 4  # SensorFlag bits
    POLICY_NOT_FINITE = 5  # 0
    PERIOD_LOST = 6  # ticks since the period before, expected 1
    ROD_TOO_FAST = 7  # 0
    E_STOP = 8  # SensorFlag bits
    ENCODER_FROZEN = 9  # Encoder
    ENCODER_JUMP = 10  # Encoder
    IMAGE_DAMAGED = 11  # CRC-32 over the flashed image


class Result(IntEnum):
    """Answer to a Config, Arm or Disarm."""

    OK = 0
    WRONG_STATE = 1
    OUT_OF_RANGE = 2
    NOT_HOMED = 3
    NOT_CONFIGURED = 4
    SELF_TEST_FAILED = 5
    BAD_NONCE = 6
    WRONG_SESSION = 7
    FAULT_LATCHED = 8
    IMAGE_DAMAGED = 9  # the flashed image is not the one that was built
    INPUT_OPEN = 10  # emergency stop or end switch, or the driver reports a fault


class Encoder(IntEnum):
    """Which encoder a fault is about."""

    CART = 1
    ROD = 2


class ResetCause(IntEnum):
    """Why the device started, as far as its board can tell."""

    UNKNOWN = 0
    POWER_ON = 1
    PIN = 2
    BROWN_OUT = 3
    SOFTWARE = 4
    WATCHDOG = 5
    LOW_POWER = 6


class Variant(IntEnum):
    """What the image's encoders and motor are: a simulated plant behind a port, or hardware."""

    HIL = 0
    REAL = 1


class Enable(IntEnum):
    """What the drive is told: off, driven by the policy, or braking. Anything but OFF means enabled."""

    OFF = 0
    DRIVE = 1
    BRAKE = 2


class ObservationFlag(IntFlag):
    """Bits of `Observation.flags`."""

    HOMED = 1
    CONFIGURED = 2
    SELF_TEST_OK = 4
    HELD = 8  # the action of this period is the previous one: no fresh command came
    LIMITED = 16  # the drive limit changed the requested action


class SensorFlag(IntFlag):
    """Bits of `Sensors.flags`. The inputs are normally closed: a bit is set while one is open, or its wire broken."""

    REFERENCED = 1  # both rail ends have been found since the encoders lost power
    END_LEFT = 2
    END_RIGHT = 4
    DRIVE_FAULT = 8
    EMERGENCY_STOP = 16


ENUMERATIONS: tuple[type[IntEnum] | type[IntFlag], ...] = (
    Mode,
    State,
    Fault,
    Result,
    Encoder,
    ResetCause,
    Variant,
    Enable,
    ObservationFlag,
    SensorFlag,
)


@dataclass(frozen=True)
class Wire:
    """How one field travels: C type (u8 u16 u32 i32 f32 char), unit, and array length (0 for a scalar)."""

    ctype: str
    unit: str = ""
    count: int = 0


U8 = Annotated[int, Wire("u8")]
U16 = Annotated[int, Wire("u16")]
U32 = Annotated[int, Wire("u32")]
Tick = Annotated[int, Wire("u32", "control periods")]
Acceleration = Annotated[float, Wire("f32", "m/s^2")]
BaseObservation = Annotated[tuple[float, ...], Wire("f32", "m, m/s, 1, 1, rad/s", BASE_OBSERVATION_SIZE)]


@dataclass(frozen=True)
class Message:
    """Base of all messages; subclasses set the class variables and list their fields in wire order."""

    TYPE: ClassVar[int]
    ROUTE: ClassVar[str]  # "host>device", "device>host", "plant>device" or "device>plant"
    STREAMED: ClassVar[bool] = False  # sent every period: at most STREAMED_FRAME_LIMIT bytes on the wire


@dataclass(frozen=True)
class Hello(Message):
    """Who is there? The device answers with HelloReply and a fresh nonce."""

    TYPE = 0x01
    ROUTE = "host>device"
    protocol_version: U8
    host_nonce: U32


@dataclass(frozen=True)
class Config(Message):
    """How to run. Refused while the drive is enabled. `untethered` (device mode only) switches the watchdog off.

    `device_nonce` must be the one of the last HelloReply: no recording may switch the watchdog off for somebody else.
    """

    TYPE = 0x02
    ROUTE = "host>device"
    device_nonce: U32
    mode: U8
    watchdog_periods: Annotated[int, Wire("u8", "control periods")]
    untethered: U8


@dataclass(frozen=True)
class Arm(Message):
    """Start. `device_nonce` must be the one of the last HelloReply and is good for one use.

    The session that every Command and Heartbeat then carries is device_nonce ^ host_nonce, not 0. The device's share
    makes it new after every reset, where ticks start again: what a host that always takes the same number sent in an
    earlier run is refused in the next.
    """

    TYPE = 0x03
    ROUTE = "host>device"
    device_nonce: U32
    host_nonce: U32


@dataclass(frozen=True)
class Disarm(Message):
    """Brake, switch the drive off; in state OFF, clear the fault. Session 0 means any: stopping is always allowed."""

    TYPE = 0x04
    ROUTE = "host>device"
    session: U32


@dataclass(frozen=True)
class Command(Message):
    """The action that answers observation `observation_tick`; valid only until the next tick."""

    TYPE = 0x05
    ROUTE = "host>device"
    STREAMED = True
    session: U32
    observation_tick: Tick
    action: Acceleration


@dataclass(frozen=True)
class Heartbeat(Message):
    """The host is alive and has seen `observation_tick`. Feeds the watchdog in device and shadow mode.

    In lock-step every Observation must be answered by a Command or a Heartbeat, before arming with session 0.
    """

    TYPE = 0x06
    ROUTE = "host>device"
    STREAMED = True
    session: U32
    observation_tick: Tick


@dataclass(frozen=True)
class HelloReply(Message):
    """What is running here, and the nonce that the next Arm must echo."""

    TYPE = 0x41
    ROUTE = "device>host"
    protocol_version: U8
    host_nonce: U32
    device_nonce: U32
    schema_hash: U16
    period_us: Annotated[int, Wire("u32", "us")]
    base_observation_size: U8
    history: Annotated[int, Wire("u8", "frames")]
    policy_digest: Annotated[bytes, Wire("u8", "sha256 of policy.safetensors", 32)]
    board: Annotated[str, Wire("char", "", 16)]
    acceleration_limit: Acceleration
    reset_cause: U8
    variant: U8


@dataclass(frozen=True)
class Acknowledge(Message):
    """The result of one Config, Arm or Disarm, named by its type and sequence."""

    TYPE = 0x42
    ROUTE = "device>host"
    request_type: U8
    request_sequence: U16
    result: U8


@dataclass(frozen=True)
class Observation(Message):
    """One control period: this and the previous base observation, and what the drive is doing.

    `time_us` wraps after 71.6 minutes; `tick` is the clock that does not (994 days).
    """

    TYPE = 0x43
    ROUTE = "device>host"
    STREAMED = True
    tick: Tick
    time_us: Annotated[int, Wire("u32", "us")]
    current: BaseObservation
    previous: BaseObservation
    applied_action: Acceleration
    state: U8
    fault: U8
    flags: U8


@dataclass(frozen=True)
class Action(Message):
    """What the device's own policy answered to observation `observation_tick` (device and shadow mode)."""

    TYPE = 0x44
    ROUTE = "device>host"
    STREAMED = True
    observation_tick: Tick
    action: Acceleration


@dataclass(frozen=True)
class Timing(Message):
    """Right after Observation `tick`, before the policy runs: times that only the device can measure.

    `action_age_us`: from the sampling of the observation that the applied action answers to the moment it was handed
    to the drive; grows while the action is held. `response_us`: from the sampling of the previous observation until
    its answer was accepted, the one that feeds the watchdog: in mode host the Command, in the others the Heartbeat,
    which is read when the policy has run. Both NO_TIME_US when there is none. `inference_us`: the last run of the
    device's policy, 0xFFFF and more as 0xFFFF; 0 in mode host.
    """

    TYPE = 0x47
    ROUTE = "device>host"
    STREAMED = True
    tick: Tick
    action_age_us: Annotated[int, Wire("u32", "us")]
    response_us: Annotated[int, Wire("u32", "us")]
    inference_us: Annotated[int, Wire("u16", "us")]


@dataclass(frozen=True)
class FaultReport(Message):
    """The device stopped by itself."""

    TYPE = 0x45
    ROUTE = "device>host"
    reason: U8
    tick: Tick
    detail: U32


@dataclass(frozen=True)
class LinkStatistics(Message):
    """What the device received and did not use, since boot: after HelloReply, and once a second before an Observation.

    `stale_commands` counts Commands and Heartbeats that echo another tick than the running one; `refused` whatever else
    was not used, requests that were answered with another result than OK included.
    """

    TYPE = 0x46
    ROUTE = "device>host"
    crc_errors: Annotated[int, Wire("u32", "frames")]
    lost: Annotated[int, Wire("u32", "frames")]
    stale_commands: Annotated[int, Wire("u32", "frames")]
    refused: Annotated[int, Wire("u32", "frames")]


@dataclass(frozen=True)
class Sensors(Message):
    """Plant port: the period tick with the encoder counts (boards without a plant port read their timers).

    In lock-step `time_us` is the device's time, too. The simulator starts it ten seconds before the 32-bit counter
    wraps, so that every longer run passes that.
    """

    TYPE = 0x81
    ROUTE = "plant>device"
    tick: Tick
    time_us: Annotated[int, Wire("u32", "us")]
    cart_count: Annotated[int, Wire("i32", "counts")]
    rod_count: Annotated[int, Wire("i32", "counts")]
    flags: U8


@dataclass(frozen=True)
class Actuate(Message):
    """Plant port: what the drive does until the next tick. A device whose image is damaged sends none."""

    TYPE = 0xC1
    ROUTE = "device>plant"
    tick: Tick
    acceleration: Acceleration
    velocity_setpoint: Annotated[float, Wire("f32", "m/s")]
    enable: U8
    fault: U8


@dataclass(frozen=True)
class ExchangeDone(Message):
    """Plant port: a Command or Heartbeat echoing `tick` was processed; before the first tick, also a Hello (tick 0).

    An emulated chip says STARTED_TICK as soon as it is up.

    In lock-step time stands still until the first of these; a host that wants the same run every time answers each
    observation in order and sends its requests between an observation and its answer.
    """

    TYPE = 0xC2
    ROUTE = "device>plant"
    tick: Tick


MESSAGES: tuple[type[Message], ...] = (
    Hello,
    Config,
    Arm,
    Disarm,
    Command,
    Heartbeat,
    HelloReply,
    Acknowledge,
    Observation,
    Action,
    Timing,
    FaultReport,
    LinkStatistics,
    Sensors,
    Actuate,
    ExchangeDone,
)
