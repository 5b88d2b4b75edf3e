"""Memory that is asked back from a control group."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Reclaim:
    """Ask for so many bytes of one control group."""

    group: str
    """Below the mount of cgroup v2: "background.slice"."""
    size_bytes: int
