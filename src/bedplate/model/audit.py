"""What an audit is made of and what comes out of it: rows that explain findings, what a person set aside, the result."""

from __future__ import annotations

from dataclasses import dataclass

from bedplate.model.facts.finding import Finding, Severity


@dataclass(frozen=True, slots=True, kw_only=True)
class FindingRow:
    """One row of catalog/findings.toml: what is known of a finding without looking at a machine."""

    id: str
    """Stable: "pci.acs-mixed"."""
    title: str
    """What is wrong, in a few words, of any machine."""
    means: str
    """What was seen, and when it is said."""
    why: str
    """What goes wrong because of it."""
    effect: str
    """The published or measured effect in words; "no evidence" where none was found."""
    effect_percent: float | None = None
    """The same for ranking: by how much serving is better without it. None where there is no number of that kind."""
    sources: tuple[str, ...]
    """Titles in full (the loader puts them for S1, S2, ...), or a title and an address."""
    check: tuple[str, ...]
    """Commands, or sentences that begin with "#", that show by hand whether it is true."""
    severities: tuple[Severity, ...]
    """Those that it may have, most severe first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Suppression:
    """A finding that a person does not want to see, and why."""

    id: str
    where: str = "*"
    """A shell pattern that every place of the finding must match."""
    reason: str
    until: str | None = None
    """The last day on which it holds, "2027-03-31"; None: always."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SuppressedFinding:
    """A finding that a person set aside: it is listed apart, with the reason, and is in no count."""

    finding: Finding
    reason: str
    until: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class NotJudged:
    """Something that was to be looked at and could not be told."""

    id: str
    """Of the finding that could have come of it: "link.slow", "knob.cpu.smt"; "reader" where a reader failed."""
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """All that an audit of one machine concluded; a finding is either in `findings` or in `suppressed`, never in both."""

    findings: tuple[Finding, ...]
    """Most expected effect first; ties by id and where."""
    suppressed: tuple[SuppressedFinding, ...]
    """In the same order."""
    not_judged: tuple[NotJudged, ...]
    """By id; each reason once."""
    counts: tuple[tuple[Severity, int], ...]
    """Findings of each severity, most severe first; zeros too."""
    notes: tuple[str, ...]
    """What a person should know of the suppressions: expired, or matching nothing."""
