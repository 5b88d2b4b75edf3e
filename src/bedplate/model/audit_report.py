"""What every rendering of an audit shows: the facts, the findings in their order, and what could not be judged.

A finding's number is its place in the ranked list, from 1: the same in the tree, the list, the page and the map.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from bedplate.model.audit import Audit, FindingRow
from bedplate.model.facts.finding import Finding, Severity
from bedplate.model.facts.host import HostFacts

SEVERITIES = tuple(Severity)
"""Most first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditReport:
    """What each rendering of an audit gets: facts, conclusions and the catalog's rows."""

    facts: HostFacts
    audit: Audit
    rows: tuple[FindingRow, ...] = ()
    """What the catalog knows of findings."""
    version: str
    """Of bedplate."""

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Ranked, most first."""
        return self.audit.findings

    @property
    def counts(self) -> dict[Severity, int]:
        """Findings of each severity, most severe first; zeros too."""
        return {severity: sum(finding.severity is severity for finding in self.findings) for severity in SEVERITIES}

    @property
    def by_place(self) -> dict[str, tuple[int, ...]]:
        """Numbers of the findings about each place ("0000:19:00.0", "node 1", "pid 4711", "machine"), ascending."""
        numbers: dict[str, list[int]] = {}
        for number, finding in enumerate(self.findings, 1):
            for place in finding.where:
                name = place.partition(" (")[0] if place.startswith("pid ") else place  # "pid 4711 (vllm)"
                if number not in numbers.setdefault(name, []):
                    numbers[name].append(number)
        return {place: tuple(those) for place, those in numbers.items()}

    def finding(self, number: int) -> Finding:
        """The finding at that place of the ranked list, counted from 1; raises IndexError past its end."""
        return self.findings[number - 1]

    def effect(self, finding: Finding) -> str:
        """What a finding costs, without the sources that speak for it."""
        row = next((row for row in self.rows if row.id == finding.id), None)
        return row.effect if row is not None else finding.effect.partition(" [")[0]

    def worst(self, numbers: Iterable[int]) -> Severity | None:
        """The highest severity among these findings; None for none."""
        those = [self.finding(number).severity for number in numbers]
        return min(those, key=SEVERITIES.index) if those else None


def at_least(severity: Severity, threshold: Severity) -> bool:
    """Whether a severity is as bad as the threshold or worse; CRITICAL is the worst."""
    return SEVERITIES.index(severity) <= SEVERITIES.index(threshold)
