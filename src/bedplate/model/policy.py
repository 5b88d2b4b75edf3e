"""What a machine is for, as a row: aims, what is forbidden, which parts of a plan it takes, and which share of the CPUs the
rest is sure of. It never holds the value of a setting: those are computed from the machine."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from bedplate.model.tuning import Policy


class Neighbours(StrEnum):
    """How the neighbours are treated where the engine wants the same."""

    SHARE = "share"
    """By weight: when all CPUs are busy they keep the policy's floor, and all that the engines leave over."""
    YIELD = "yield"
    """They give way at once and run only when nobody else wants to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyRow:
    """One row of catalog/policies.toml: a policy in words, and what it takes, forbids and guarantees."""

    id: Policy
    title: str
    aim: str
    """For whom it is and what it wants, in a sentence."""
    neighbours: Neighbours
    parts: tuple[str, ...]
    """Parts of a plan that it takes; the others are told as left out."""
    system_pct: int
    """Share of the CPUs that the service manager, and logins, are each sure of beside busy engines, in percent."""
    floor_pct: int = 0
    """The same of any other group beside an engine; 0 is none."""
    floor_cost: str = ""
    """What the floor costs an engine, as it was measured, with the source; "" where there is no floor."""
    forbid: tuple[str, ...] = ()
    """Ids of knobs that are never touched under it."""
    because: str = ""
    """Why these are forbidden; "" where none is."""
