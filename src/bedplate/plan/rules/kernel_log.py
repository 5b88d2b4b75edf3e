"""The rule of the kernel's log: each cause that it shows is a finding, with what follows from it as evidence."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from bedplate.model.audit import FindingRow
from bedplate.model.engine_names import is_engine_name
from bedplate.model.facts.finding import Confidence, Evidence, Finding, Severity
from bedplate.model.facts.host import HostFacts
from bedplate.model.facts.kernel_log import KernelEvent, KernelLog
from bedplate.model.facts.reading import Unknown
from bedplate.model.kernel_log_row import KernelLogRow, Remedy, RemedySteps
from bedplate.plan.kernel_causes import FAMILIES, KernelIncident, find_incidents
from bedplate.plan.rules.machine import JudgedMachine
from bedplate.plan.rules.observation import Observation, make_finding, not_judged
from bedplate.plan.rules.rule import Result
from bedplate.plan.rules.terms import is_virtual

GROUP = "kernel."
"""What ids of its findings begin with; the rest is the id of the row: "kernel.xid-79"."""
_ID = "kernel.log"
_CONSEQUENCES_MOST = 8  # that are shown; the rest is counted
_ORDER = tuple(Severity)  # the most severe first
_BY_HAND = (Remedy.DRAIN_AND_RESET, Remedy.POWER_CYCLE, Remedy.CHECK_HARDWARE, Remedy.REPLACE)
_NONFATAL = re.compile(r"\bnon-?fatal\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelLogRule:
    """All rows of the kernel's log as one rule of the engine."""

    rows: tuple[KernelLogRow, ...]
    steps: Mapping[Remedy, RemedySteps]
    findings: Mapping[str, FindingRow]
    """Rows of catalog/findings.toml, for what a message says of another finding."""

    def judge(self, subject: JudgedMachine) -> Iterator[Result]:
        """An observation for each cause, and why the log could not be read."""
        facts = subject.facts
        log = facts.kernel_log
        if log.unknown is not None:
            yield not_judged(id=_ID, why=_why_unread(log))
            return
        for incident in find_incidents(log.events, self.rows, facts.pci):
            if incident.count >= incident.row.least:
                yield self._observe(incident, facts)
        if log.left_out:
            yield not_judged(id=_ID, why=f"{log.left_out} more messages of the kernel's log name too many different things")

    def report(self, subject: JudgedMachine, results: Sequence[Result]) -> Iterator[Finding]:
        """A finding for each observation."""
        return (make_finding(result, self.findings.get(result.id)) for result in results if isinstance(result, Observation))

    def _observe(self, incident: KernelIncident, facts: HostFacts) -> Observation:
        row, event, log = incident.row, incident.events[0], facts.kernel_log
        fix = fix_of(row, self.steps[row.remedy], in_vm=is_virtual(facts) is True)
        earlier = event.boot < log.boots
        times = f", {incident.count} times" if incident.count > 1 else ""
        return Observation(
            id=f"{GROUP}{row.id}-{event.code}" if row.id in FAMILIES else finding_id(row),
            severity=_severity(incident),
            because=_filled(row.title, event) + times + (", before the last boot" if earlier else ""),
            where=(place_of(event),),
            evidence=tuple(_evidence(incident, log)),
            fix=tuple(line.replace("{address}", event.address or event.subject or "ADDRESS") for line in fix),
            told_by=row.told_by,
            confidence=Confidence.POSSIBLE if earlier else Confidence.CERTAIN,
            effect=f"{row.harm} [{row.source}]",
        )


def make_kernel_rules(
    rows: Iterable[KernelLogRow], steps: Iterable[RemedySteps], findings: Iterable[FindingRow]
) -> tuple[KernelLogRule, ...]:
    """The rule, or none where the catalog's rows are not given: then the log is not judged, and nothing is said of it."""
    listed = tuple(rows)
    if not listed:
        return ()
    return (
        KernelLogRule(
            rows=listed, steps={step.id: step for step in steps}, findings={finding.id: finding for finding in findings}
        ),
    )


def fix_of(row: KernelLogRow, steps: RemedySteps, *, in_vm: bool) -> tuple[str, ...]:
    """The lines of a row's fix: its own, else those of its remedy.

    In a virtual machine the row's own lines count where they are made for one, or where the remedy needs no hands: nobody
    can reset, power or replace there what belongs to the provider.
    """
    if in_vm:
        return row.fix_in_vm or (row.fix if row.remedy not in _BY_HAND else ()) or steps.fix_in_vm
    return row.fix or steps.fix


def finding_id(row: KernelLogRow) -> str:
    """The id of a row's findings: "kernel.aer-fatal"; another one where the row says what a finding of the facts says."""
    if "." in row.reports_as:
        return row.reports_as
    return GROUP + (row.reports_as or row.id)


def place_of(event: KernelEvent) -> str:
    """What an event is about, as findings name it: a PCI address, "nvme0n1", "machine"."""
    return event.address or event.subject or "machine"


def _severity(incident: KernelIncident) -> Severity:
    """That of the cause; or a higher one where a message that follows says that more has to be done."""
    said = [_said_severity(known.row, known.event) for known in incident.consequences]
    return min((severity for severity in (_own_severity(incident), *said) if severity is not None), key=_ORDER.index)


def _said_severity(row: KernelLogRow, event: KernelEvent) -> Severity | None:
    return next((said.severity for said in row.said if said.text in event.text), None)


def _own_severity(incident: KernelIncident) -> Severity:
    row = incident.row
    said = [_said_severity(row, event) for event in incident.events]
    if (known := [severity for severity in said if severity is not None]) and len(known) == len(said):
        return min(known, key=_ORDER.index)
    if row.nonfatal_severity is not None and all(_NONFATAL.search(event.text) for event in incident.events):
        return row.nonfatal_severity
    if row.many and row.many_severity is not None and incident.count >= row.many:
        return row.many_severity
    if row.engine_severity is not None and is_engine_name(incident.events[0].process):
        return row.engine_severity
    return row.severity


def _filled(title: str, event: KernelEvent) -> str:
    place = event.address or event.subject or "this machine"
    filled = title.replace("{place}", place).replace("{process}", event.process.strip("-") or "A process")
    return filled.replace("{code}", str(event.code))


def _evidence(incident: KernelIncident, log: KernelLog) -> Iterator[Evidence]:
    first, last = incident.events[0], incident.events[-1]
    yield _message(first, log)
    if incident.count > 1:
        span = f", from {first.first.text} to {last.last.text}" if first.first is not None and last.last is not None else ""
        yield Evidence(fact=f"{incident.count} times{span}", source=log.source)
    for consequence in incident.consequences[:_CONSEQUENCES_MOST]:
        yield _message(consequence.event, log, counted=True)
    rest = sum(consequence.event.count for consequence in incident.consequences[_CONSEQUENCES_MOST:])
    if rest:
        yield Evidence(fact=f"{rest} more messages that follow from it", source=log.source)


def _message(event: KernelEvent, log: KernelLog, *, counted: bool = False) -> Evidence:
    when = f" (at {event.first.text})" if event.first is not None else ""
    times = f", {event.count} times" if counted and event.count > 1 else ""
    return Evidence(fact=f"{event.text}{when}{times}", source=f"{log.source} line {event.line}")


def _why_unread(log: KernelLog) -> str:
    said = f" ({log.source}{': ' + log.why if log.why else ''})" if log.source else ""
    match log.unknown:
        case Unknown.DENIED:
            return f"the kernel's log may not be read by this user{said}"
        case Unknown.ABSENT:
            return f"the kernel's log is not there{said}"
        case Unknown.MALFORMED:
            return f"the kernel's log cannot be read{said}"
    return "the kernel's log is not in the recording"
