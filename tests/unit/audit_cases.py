"""What the tests of the audit share: what a check says of facts, with every case held against its row of the catalog."""

from __future__ import annotations

from collections.abc import Iterable

from bedplate.catalog.findings import read_findings
from bedplate.model.audit import NotJudged
from bedplate.model.facts.host import HostFacts
from bedplate.plan.audit.case import Case, Check, make_finding

ROWS = {row.id: row for row in read_findings()}


def cases(check: Check, facts: HostFacts) -> list[Case]:
    """The cases of a check; each has a row, a severity that the row allows, evidence with a source, a fix and an undo."""
    found = [one for one in check(facts) if isinstance(one, Case)]
    for one in found:
        row = ROWS[one.id]
        assert one.severity in row.severities, f"{one.id}: {one.severity} is not among {row.severities}"
        assert one.title and "None" not in one.title and "\n" not in one.title, one.title
        assert one.where and all(one.where), one
        assert one.evidence and all(e.fact and e.source for e in one.evidence), one
        assert one.fix and one.undo, one
        assert make_finding(one, row).effect
    return found


def gaps(check: Check, facts: HostFacts) -> list[NotJudged]:
    """What a check could not judge; each names a finding of the catalog and says why."""
    found = [one for one in check(facts) if isinstance(one, NotJudged)]
    for one in found:
        assert one.id in ROWS or one.id == "reader", one
        assert one.why and "None" not in one.why, one
    return found


def ids(said: Iterable[Case | NotJudged]) -> list[str]:
    return [one.id for one in said]
