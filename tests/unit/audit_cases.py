"""What the tests of the audit share: what a check says of facts, with every case held against its row of the catalog."""

from __future__ import annotations

from collections.abc import Iterable

from tests.unit.fix_rules import as_virtual, fix_problems

from bedplate.catalog.findings import read_findings
from bedplate.model.facts.host import HostFacts
from bedplate.plan.rules.checks import CheckFunction
from bedplate.plan.rules.observation import Observation, make_finding
from bedplate.plan.rules.rule import Outcome, Result
from bedplate.plan.rules.terms import is_virtual

ROWS = {row.id: row for row in read_findings()}


def cases(check: CheckFunction, facts: HostFacts) -> list[Observation]:
    """The cases of a check; each has a row, a severity that the row allows, evidence with a source, a fix and an undo."""
    found = [result for result in check(facts) if isinstance(result, Observation)]
    for result in found:
        row = ROWS[result.id]
        assert result.severity in row.severities, f"{result.id}: {result.severity} is not among {row.severities}"
        assert result.because and "None" not in result.because and "\n" not in result.because, result.because
        assert result.outcome is Outcome.DOES_NOT_HOLD, result
        assert result.where and all(result.where), result
        assert result.evidence and all(e.fact and e.source for e in result.evidence), result
        assert result.fix and result.undo, result
        assert make_finding(result, row).effect
        assert fix_problems(result.fix, is_virtual=is_virtual(facts) is True) == [], result.id
    for case in check(as_virtual(facts)):
        if isinstance(case, Observation):
            assert fix_problems(case.fix, is_virtual=True) == [], case.id
    return found


def gaps(check: CheckFunction, facts: HostFacts) -> list[Result]:
    """What a check could not judge; each names a finding of the catalog and says why."""
    found = [result for result in check(facts) if result.outcome is Outcome.UNKNOWN]
    for result in found:
        assert result.id in ROWS or result.id == "reader", result
        assert result.because and "None" not in result.because, result
    return found


def ids(said: Iterable[Result]) -> list[str]:
    return [result.id for result in said]
