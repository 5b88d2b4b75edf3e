"""What an audit says: findings, each with evidence, effect, fix and undo."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    """How much it may cost, most first."""

    CRITICAL = "critical"
    """The accelerators are not used, starve, or will not be used after the next boot."""
    HIGH = "high"
    """A factor, published or measured."""
    MEDIUM = "medium"
    """Percents, or a risk with conditions."""
    LOW = "low"
    """Little or unmeasured; dead and cargo-cult settings."""
    INFO = "info"
    """Worth knowing; nothing to do, or not known enough to say."""


class Confidence(StrEnum):
    """How sure it is that a finding is true of this machine; the ranking counts a likely or possible one for less."""

    CERTAIN = "certain"
    LIKELY = "likely"
    POSSIBLE = "possible"


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """One thing that was read and speaks for a finding, with the place where a person can read it again."""

    fact: str
    """What was read, in a few words: "Speed 8GT/s, Width x8"."""
    source: str
    """File or vendor call."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is wrong with a machine, complete enough to act on: how it is known, how to mend and undo it."""

    id: str
    """Stable: "pci.acs-mixed"."""
    severity: Severity
    title: str
    """One sentence with the names and numbers of this machine."""
    where: tuple[str, ...]
    """What it is about: PCI addresses, "node 1", "pid 4711", a knob's path, "machine"."""
    evidence: tuple[Evidence, ...]
    effect: str
    """The published or measured effect with its source, or "no evidence"."""
    fix: tuple[str, ...]
    """Commands to copy, or sentences that begin with "#" where no command does it."""
    undo: tuple[str, ...]
    confidence: Confidence
    rank: float
    """Expected effect: what the list is sorted by, most first; ties by id, where and title."""
