"""The audit of a machine: every rule judged, findings ranked, and what a person set aside. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from bedplate.model.audit import Audit, FindingRow, NotJudged, SuppressedFinding, Suppression
from bedplate.model.facts.finding import Finding, Severity
from bedplate.model.facts.host import HostFacts
from bedplate.model.knob import Knob
from bedplate.plan.rules.checks import make_check_rules
from bedplate.plan.rules.machine import JudgedMachine, make_machine
from bedplate.plan.rules.rows.knobs import make_knob_rules
from bedplate.plan.rules.rule import Rule, judge_rules


def audit(
    facts: HostFacts,
    knobs: Sequence[Knob],
    rows: Iterable[FindingRow],
    suppressions: Sequence[Suppression],
    *,
    today: str,
) -> Audit:
    """All findings of a machine, ranked, and what could not be judged. `today` is a date, "2026-11-24".

    The same for the same facts in any order. Raises KeyError when a check's finding has no row: a mistake of the program.
    """
    rows = tuple(rows)
    rules: tuple[Rule[JudgedMachine], ...] = (*make_check_rules(rows), *make_knob_rules(knobs))
    known = {*(row.id for row in rows), *(f"knob.{knob.id}" for knob in knobs)}
    return conclude(facts, rules, suppressions, known=known, today=today)


def conclude(
    facts: HostFacts,
    rules: Iterable[Rule[JudgedMachine]],
    suppressions: Sequence[Suppression],
    *,
    known: set[str],
    today: str,
) -> Audit:
    """What rules say of a machine, ranked, without what is suppressed; `known` are the ids that a suppression may name."""
    concluded = judge_rules(rules, make_machine(facts))
    not_judged = {NotJudged(id=result.id, why=result.because) for result in concluded.not_judged}
    ranked = sorted(set(concluded.findings), key=lambda finding: (-finding.rank, finding.id, finding.where))
    shown, suppressed, notes = _suppress(ranked, suppressions, known=known, today=today)
    return Audit(
        findings=tuple(shown),
        suppressed=tuple(suppressed),
        not_judged=tuple(sorted(not_judged, key=lambda entry: (entry.id, entry.why))),
        counts=tuple((severity, sum(finding.severity is severity for finding in shown)) for severity in Severity),
        notes=tuple(notes),
    )


def _suppress(
    findings: Sequence[Finding], suppressions: Sequence[Suppression], *, known: set[str], today: str
) -> tuple[list[Finding], list[SuppressedFinding], list[str]]:
    """(shown, set aside, what to know of the suppressions). ISO dates compare as texts do."""
    running = [suppression for suppression in suppressions if suppression.until is None or suppression.until >= today]
    used: set[Suppression] = set()
    shown: list[Finding] = []
    aside: list[SuppressedFinding] = []
    for finding in findings:
        by = next((suppression for suppression in running if _covers(suppression, finding)), None)
        if by is None:
            shown.append(finding)
        else:
            aside.append(SuppressedFinding(finding=finding, reason=by.reason, until=by.until))
            used |= {suppression for suppression in running if _covers(suppression, finding)}
    notes = []
    for suppression in suppressions:
        what = suppression.id if suppression.where == "*" else f"{suppression.id} at {suppression.where}"
        if suppression.id not in known:
            notes.append(f"suppression of {what}: no such finding exists")
        elif suppression not in running:
            notes.append(f"suppression of {what}: expired after {suppression.until}")
        elif suppression not in used:
            notes.append(f"suppression of {what}: it covers no finding")
    return shown, aside, notes


def _covers(suppression: Suppression, finding: Finding) -> bool:
    """A finding about several places is covered only as a whole."""
    return suppression.id == finding.id and all(fnmatchcase(place, suppression.where) for place in finding.where)
