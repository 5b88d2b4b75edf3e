"""What the host is, as far as serving needs it: CPUs and memory that are really available."""

from __future__ import annotations

from dataclasses import dataclass

FRONT_RECORD = "/run/bedplate/front.json"
"""How the front end was set up, and what is wrong with it: for `bedplate status` and `bedplate doctor`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CpuBudget:
    """CPUs that an engine really has, after cpuset, affinity and quota; in a container the machine has more."""

    cpus: tuple[int, ...]
    """CPUs that may be used: online, in the cpuset, in the affinity; sorted."""
    quota: float | None
    """CPUs' worth of time that the narrowest cgroup of the chain grants; None without a quota."""
    because: str
    """Which of the bounds made it so, for people."""
    amx: bool = False
    """Whether the CPUs have the matrix instructions (AMX int8) for which engines lay weights out anew."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryBudget:
    """Memory that engines can have, from MemTotal and MemAvailable of /proc/meminfo and memory.current of their slice."""

    total_bytes: int
    available_bytes: int
    """MemAvailable: what is available without swapping."""
    engines_bytes: int
    """What the engines hold already; 0 when none run."""
