"""What the supervisor knows of an engine, and what it does to one."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class EngineState(StrEnum):
    """Where an engine stands, as `bedplate status` says it."""

    STARTING = "starting"
    """It loads its model, or waits to be started again."""
    SERVING = "serving"
    STUCK = "stuck"
    """It runs and makes no progress: it is being ended."""
    STOPPED = "stopped"
    """Somebody stopped it, or its unit does not start for a reason that is not its own."""
    FAILED = "failed"
    """It ended for the same reason again and again and is not started any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontCheck:
    """What the front's heartbeat says of an engine (`show stat` of HAProxy)."""

    up: bool
    check: str
    """HAProxy's word for the last check: "L7OK", "L7TOUT", "L4CON"."""
    since_s: int
    """Seconds since it was last marked up or down."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitReading:
    """An engine's unit, as the service manager shows it."""

    active: str
    """ActiveState: "active", "activating", "inactive", "failed"."""
    invocation: str
    """Changes with each start; "" before the first."""
    restarts: int
    """How often it was started again by itself (NRestarts)."""
    result: str
    """How it last ended: "success", "exit-code", "signal", "oom-kill"."""
    status: int
    """Exit status, or the number of the signal, of its last end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineReading:
    """One look at an engine."""

    front: FrontCheck | None
    """None where the front does not answer, which says nothing about the engine."""
    unit: UnitReading
    now_s: float
    """CLOCK_MONOTONIC."""
    last_words: tuple[str, ...] = ()
    """Its own last lines; read only where it ended since the look before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineRecord:
    """What is remembered of an engine from look to look, and shown."""

    state: EngineState = EngineState.STARTING
    invocation: str = ""
    began_s: float = 0.0
    """CLOCK_MONOTONIC at which this invocation was first seen."""
    killed: str = ""
    """The invocation that was ended here: once is enough, and one that waits for a device ends when that answers."""
    counted: str = ""
    """The invocation whose end was counted."""
    served: bool = False
    """Whether it answered the front since it was last started."""
    restarts: int = 0
    """NRestarts at the last look."""
    ended: int = 0
    """How often it ended by itself since the supervisor began."""
    stuck: int = 0
    """How often it was ended because it made no progress."""
    reasons: tuple[str, ...] = ()
    """Of its ends since it last served, oldest first."""
    because: str = ""
    """Why it stands where it does, in a sentence; "" while it serves without trouble."""
    last_words: tuple[str, ...] = ()


class EngineOrder(StrEnum):
    """What is to be done to an engine's unit."""

    KILL = "kill"
    """Kill all of its processes; the service manager starts it again."""
    STOP = "stop"
    """Start it no more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SupervisionStep:
    """What one look came to."""

    record: EngineRecord
    order: EngineOrder | None = None
    remark: str = ""
    """For the journal; "" where nothing happened."""
