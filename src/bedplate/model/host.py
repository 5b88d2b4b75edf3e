"""What the host is, as far as serving needs it: CPUs and memory that are really available."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class CpuFacts:
    cpus: tuple[int, ...]
    """CPUs that may be used: online, in the cpuset, in the affinity; sorted."""
    quota: float | None
    """CPUs' worth of time that the narrowest cgroup of the chain grants; None without a quota."""
    because: str
    """Which of the bounds made it so, for people."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryFacts:
    total_bytes: int
    available_bytes: int
    """MemAvailable: what can be had without swapping."""
    engines_bytes: int
    """What the engines hold already; 0 when none run."""
