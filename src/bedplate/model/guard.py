"""The slow closed loop over the neighbours: what is read once a second, what may move, and what was done and why.

Counters grow from boot on, so that a reading that comes late loses nothing. Sources: scheduler/sched-stats.rst,
accounting/psi.rst and admin-guide/cgroup-v2.rst in the kernel's Documentation.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardReading:
    """Counters of one moment; None where this kernel does not have them."""

    at_s: float
    """Monotonic."""
    engine_run_s: float
    """On a CPU: the engine's busiest threads together."""
    engine_wait_s: float
    """Runnable and not running, the same threads: what neighbours can cost."""
    engine_throttled: int | None
    """Periods in which a quota stopped the engine: nothing that moving neighbours can mend."""
    engine_memory_stall_s: float | None
    """memory.pressure, "some", of the engine's cgroup."""
    engine_refaults: int | None
    """Pages that were reclaimed of it and had to be read again."""
    engine_io_stall_s: float | None
    """io.pressure, "some"."""
    neighbour_cpu_s: float | None
    neighbour_memory_bytes: int | None
    neighbour_io_bytes: int | None
    """Read and written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NeighbourLimits:
    """What the neighbours may use; each None is "no limit of ours"."""

    cpu_max_pct: int | None
    """cpu.max as a share of all CPUs."""
    memory_high_bytes: int | None
    io_weight: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardBounds:
    """Between what the limits move; computed once from the machine and its plan."""

    cpus: int
    planned: NeighbourLimits
    """Where each limit stands without the guard, and returns to."""
    memory_bytes: int
    """Of the machine."""


class Resource(StrEnum):
    """What an engine and its neighbours compete for, and what one move of the guard limits."""

    CPU = "cpu"
    MEMORY = "memory"
    IO = "io"


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardState:
    """What the guard remembers from one reading to the next: the limits in force, and whether tightening them helped."""

    limits: NeighbourLimits
    moved_at_s: float | None
    """When a limit moved last; None before the first move."""
    quiet_s: float
    """For how long no signal was above its threshold."""
    tightened: Resource | None = None
    """What the last moves tightened; None after a step back."""
    excess: float = 0.0
    """Of its signal at the last of them."""
    vain: int = 0
    """How many of them in a row did not help."""
    given_up_until_s: float = 0.0
    """Until then nothing is tightened: it did not help."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardMove:
    """One limit that moves, with the reading that caused it."""

    resource: Resource
    old: str
    new: str
    because: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardStep:
    """What one reading led to: the state after it, and a move to carry out; None leaves all limits as they are."""

    state: GuardState
    move: GuardMove | None
    remark: str
    """What was seen and is not the neighbours' doing; "" mostly."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Released:
    """What `release_limits` came to. Files are as on the machine, below CONTROL; a text of `drifted` is a whole sentence."""

    files: tuple[str, ...]
    """What was removed, or written as it was before."""
    drifted: tuple[str, ...]
    """What somebody else changed since, or took away, and was left."""
    left: tuple[str, ...] = ()
    """Its properties: ("IOWeight",)."""
