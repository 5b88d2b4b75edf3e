"""The audit of a machine: every rule judged, findings ranked, and what a person set aside. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase

from bedplate.model.audit import Audit, FindingRow, NotJudged, SuppressedFinding, Suppression
from bedplate.model.facts.finding import Finding, Severity
from bedplate.model.facts.host import HostFacts
from bedplate.model.kernel_log_row import KernelLogRow, RemedySteps
from bedplate.model.knob import Knob
from bedplate.plan.rules.checks import make_check_rules
from bedplate.plan.rules.kernel_log import finding_id, make_kernel_rules
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
    kernel_rows: Sequence[KernelLogRow] = (),
    kernel_steps: Sequence[RemedySteps] = (),
) -> Audit:
    """All findings of a machine, ranked, and what could not be judged. `today` is a date, "2026-11-24".

    kernel_rows explain the events of the kernel's log; without them the log is not judged. kernel_steps has the steps of
    each remedy that they name.
    The same for the same facts in any order. Raises KeyError when a check's finding has no row: a mistake of the program.
    """
    rows = tuple(rows)
    rules: tuple[Rule[JudgedMachine], ...] = (
        *make_check_rules(rows),
        *make_knob_rules(knobs),
        *make_kernel_rules(kernel_rows, kernel_steps, rows),
    )
    known = {*(row.id for row in rows), *(f"knob.{knob.id}" for knob in knobs), *map(finding_id, kernel_rows)}
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
    findings = _joined(concluded.reports)
    ranked = sorted(findings, key=lambda finding: (-finding.rank, finding.id, finding.where, finding.title))
    shown, suppressed, notes = _suppress(ranked, suppressions, known=known, today=today)
    return Audit(
        findings=tuple(shown),
        suppressed=tuple(suppressed),
        not_judged=tuple(sorted(not_judged, key=lambda entry: (entry.id, entry.why))),
        counts=tuple((severity, sum(finding.severity is severity for finding in shown)) for severity in Severity),
        notes=tuple(notes),
    )


def _joined(reports: Iterable[Sequence[Finding]]) -> list[Finding]:
    """The findings of all rules, each once; `reports` has those of each rule.

    A rule that says two things of a place means two; what it says twice is one finding with the evidence of both. Where each
    of two rules says one thing with one id of a place, such as the kernel's log and the facts, the higher ranked is left,
    with the evidence of both.
    """
    by_place: dict[tuple[str, tuple[str, ...]], list[list[Finding]]] = {}
    for report in reports:
        said: dict[tuple[str, tuple[str, ...]], dict[str, list[Finding]]] = {}
        for finding in report:
            said.setdefault((finding.id, finding.where), {}).setdefault(finding.title, []).append(finding)
        for place, by_title in said.items():
            by_place.setdefault(place, []).append([_join(same) for same in by_title.values()])
    joined: list[Finding] = []
    for groups in by_place.values():
        one_each = all(len(group) == 1 for group in groups)
        same: dict[str, list[Finding]] = {}
        for finding in (finding for group in groups for finding in group):
            same.setdefault("" if one_each else finding.title, []).append(finding)
        joined += map(_join, same.values())
    return joined


def _join(findings: Sequence[Finding]) -> Finding:
    """The highest ranked, the first of several, with the evidence of all."""
    ranked = sorted(findings, key=lambda finding: -finding.rank)
    return replace(ranked[0], evidence=tuple(dict.fromkeys(fact for finding in ranked for fact in finding.evidence)))


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
        # The codes of drivers are many, and only those that a log has are looked up.
        if suppression.id not in known and not suppression.id.startswith(("kernel.xid-", "kernel.sxid-")):
            notes.append(f"suppression of {what}: no such finding exists")
        elif suppression not in running:
            notes.append(f"suppression of {what}: expired after {suppression.until}")
        elif suppression not in used:
            notes.append(f"suppression of {what}: it covers no finding")
    return shown, aside, notes


def _covers(suppression: Suppression, finding: Finding) -> bool:
    """A finding about several places is covered only as a whole."""
    return suppression.id == finding.id and all(fnmatchcase(place, suppression.where) for place in finding.where)
