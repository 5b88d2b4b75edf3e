"""What a machine is for, as a row: aims, what is forbidden, and which parts of a plan it takes. It never holds a value."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from bedplate.model.tuning import Policy


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


class Neighbours(StrEnum):
    """How the neighbours are treated where the engine wants the same."""

    SHARE = "share"
    """By weight: at saturation they keep a hundredth."""
    YIELD = "yield"
    """They give way at once and run only when nobody else wants to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyRow:
    id: Policy
    title: str
    aim: str
    """For whom it is and what it wants, in a sentence."""
    neighbours: Neighbours
    parts: tuple[str, ...]
    """Parts of a plan that it takes; the others are told as left out."""
    forbid: tuple[str, ...] = ()
    """Ids of knobs that are never touched under it."""
    because: str = ""
    """Why these are forbidden; "" where none is."""
