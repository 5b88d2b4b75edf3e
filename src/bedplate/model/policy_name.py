"""The policies of tuning by name; machine.toml names one, and what that reads stays small, since a boot waits for it."""

from __future__ import annotations

from enum import StrEnum


class Policy(StrEnum):
    """What the machine is for. A policy sets aims and forbids knobs; it never holds a value."""

    SHARED_HOST = "shared-host"
    """Engines beside other work: the default."""
    DEDICATED = "dedicated"
    """Nothing but engines and what the system itself needs."""
    LATENCY = "latency"
    THROUGHPUT = "throughput"
    ENERGY = "energy"
    CONFIDENTIAL = "confidential"
    """Nothing that weakens isolation or writes memory to a disk in the clear."""
    EDGE = "edge"
    """Small, power-limited, one engine."""
