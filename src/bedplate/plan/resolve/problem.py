"""A stack as a problem of choices: for each component one candidate or none, and pairs that exclude each other.

The candidates of a component are the bits of an integer, bit 0 being "absent". A constraint forbids every pair of a left
candidate and a right candidate of its two masks. It is in force while all of its premises are: a premise is a line of the
wish, a fact, or a need of a release, and it is what an explanation can name or leave out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum

from bedplate.model.stack import StackRelease

Key = tuple[str, str]
"""Component and layer; the layer is "" for what is of the host."""
ABSENT = 1
"""The mask of a component that is not there."""


class PremiseRank(IntEnum):
    """The order in which a core gives premises up: what explains least is dropped first."""

    UNKNOWN_BUILD = 0
    SOURCES = 1
    NEED = 2
    RULE = 3
    CAUSE = 4
    MACHINE = 5
    WISH = 6
    CHOICE = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class Premise:
    """Something that is taken as given and can be left out: a line of the wish, a row, a choice that was made."""

    id: str
    rank: PremiseRank
    sentence: str
    evidence: tuple[str, ...] = ()
    fact: str = ""
    """Id of the row; "" for wishes, choices and needs of a release."""
    need: tuple[str, str, str] | None = None
    """Component, version and condition of a release's need, so that the same need of several versions is one sentence."""
    order: int = 0
    """Where it stands in a chain: the order of the component that it starts from."""
    any_release: bool = False
    """Whether it excludes a component whatever its release, so that a list of releases explains nothing."""
    relaxes: Key | None = None
    """The component that a line of the wish bounds; None for lines that bound sources or licences."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Constraint:
    """No candidate of `left_mask` together with one of `right_mask`; where left and right are one key, the masks are too."""

    premises: frozenset[str]
    left: Key
    left_mask: int
    right: Key
    right_mask: int

    def allows(self, chosen: Mapping[Key, int]) -> bool:
        """Whether the chosen candidates, each as the number of its bit, keep it."""
        return not (self.left_mask >> chosen[self.left] & 1 and self.right_mask >> chosen[self.right] & 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class StackProblem:
    """All keys with their candidates, newest and most wanted first, and all constraints between them."""

    candidates: Mapping[Key, tuple[StackRelease | None, ...]]
    """Candidate 0 is None, "absent"."""
    preference: Mapping[Key, tuple[int, ...]]
    """Numbers of the candidates, the most wanted first."""
    constraints: tuple[Constraint, ...]
    premises: Mapping[str, Premise]
    order: tuple[Key, ...]
    """The order in which components are chosen: engines first."""

    def everything(self) -> frozenset[str]:
        """Ids of all premises."""
        return frozenset(self.premises)

    def full(self, key: Key) -> int:
        """The mask of all candidates of a key."""
        return (1 << len(self.candidates[key])) - 1


Assignment = dict[Key, int]
"""The number of the chosen candidate of each key."""


def bits(mask: int) -> Iterator[int]:
    """Numbers of the bits that are set, rising."""
    number = 0
    while mask:
        if mask & 1:
            yield number
        mask >>= 1
        number += 1


def broken(problem: StackProblem, chosen: Mapping[Key, int], premises: Iterable[str]) -> tuple[Constraint, ...]:
    """Constraints in force that an assignment of every key violates; () for a stack that no row forbids."""
    active = frozenset(premises)
    return tuple(
        constraint for constraint in problem.constraints if constraint.premises <= active and not constraint.allows(chosen)
    )
