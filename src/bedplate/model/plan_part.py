"""The parts of a plan: a policy takes some of them, and a row of the catalog says which one sets it."""

from __future__ import annotations

from enum import StrEnum


class Part(StrEnum):
    """A part of a plan, in the order in which plans are made."""

    WEIGHTS = "weights"
    """CPU and I/O weights of the engines' groups against all others."""
    CONFINEMENT = "confinement"
    """CPUs of neighbours, on hosts with many cores."""
    MEMORY = "memory"
    """Floors for the engines, bounds on neighbours, swap, the order of the OOM killer."""
    IO = "io"
    """The measured cost model of a disk, dirty bytes."""
    NUMA = "numa"
    """Binding at the start of an engine, to the node of its accelerators; automatic balancing."""
    INTERRUPTS = "interrupts"
    """Interrupts of network cards, on larger hosts."""
    POWER = "power"
    """The governor, on bare metal."""
    PROVEN = "proven"
    """Whatever an experiment on this host said to keep."""
    CLEANUP = "cleanup"
    """Settings that were copied from profile to profile, back to the kernel's default."""
