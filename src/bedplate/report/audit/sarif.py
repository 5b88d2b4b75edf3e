"""Findings as SARIF 2.1.0 (OASIS standard, 2020), for code scanning views and dashboards.

A finding is about a machine, not a line of a file: its place is a logical location, and the kernel file that is its evidence
the artifact, below the base "MACHINE".
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from typing import Any
from urllib.parse import quote

from bedplate.model.audit import FindingRow
from bedplate.model.audit_report import AuditReport
from bedplate.model.facts.finding import Finding, Severity
from bedplate.report.audit.texts import conflict_words, unread_words
from bedplate.report.format import clean

_SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
# SARIF 2.1.0, 3.27.9 and 3.27.10: a result that is not a failure has the level "none".
_LEVELS = {
    Severity.CRITICAL: "error",
    Severity.HIGH: "error",
    Severity.MEDIUM: "warning",
    Severity.LOW: "note",
    Severity.INFO: "none",
}


def render_sarif(report: AuditReport) -> str:
    """A SARIF log with one run and a line end; the same bytes for the same report."""
    return json.dumps(make_sarif(report), ensure_ascii=True, indent=1) + "\n"


def make_sarif(report: AuditReport) -> dict[str, Any]:
    """The log before it is text."""
    rules = _rules(report)
    index = {rule["id"]: number for number, rule in enumerate(rules)}
    every = [*report.findings, *(aside.finding for aside in report.audit.suppressed)]
    shared = Counter(_identity(finding) for finding in every)
    results = [_result(finding, index, shared) for finding in report.findings]
    for aside in report.audit.suppressed:
        suppression = {"kind": "external", "status": "accepted", "justification": clean(aside.reason)}
        results.append(_result(aside.finding, index, shared) | {"suppressions": [suppression]})
    notes = [(f"{problem.source}: {problem.message}", "error") for problem in report.facts.problems]
    notes += [(f"contradiction: {conflict}", "warning") for conflict in conflict_words(report.facts)]
    if unread := unread_words(report.facts):
        notes.append((f"not read: {unread}", "warning"))
    notes += [(f"not judged: {not_judged.id}: {not_judged.why}", "note") for not_judged in report.audit.not_judged]
    run: dict[str, Any] = {
        "tool": {"driver": {"name": "bedplate doctor", "version": report.version, "rules": rules}},
        "invocations": [
            {
                "executionSuccessful": True,
                "toolExecutionNotifications": [{"level": level, "message": {"text": clean(text)}} for text, level in notes],
            }
        ],
        "originalUriBaseIds": {"MACHINE": {"uri": "file:///", "description": {"text": clean(report.facts.origin)}}},
        "columnKind": "unicodeCodePoints",
        "results": results,
    }
    return {"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}


def _rules(report: AuditReport) -> list[dict[str, Any]]:
    """The catalog's rule of each finding that is there, or one made of the finding itself."""
    known = {row.id: row for row in report.rows}
    found = [*report.findings, *(suppressed.finding for suppressed in report.audit.suppressed)]
    rules: dict[str, dict[str, Any]] = {}
    for finding in found:
        if finding.id not in rules:
            rules[finding.id] = _rule(finding, known.get(finding.id))
    return [rules[id] for id in sorted(rules)]


def _rule(finding: Finding, row: FindingRow | None) -> dict[str, Any]:
    made: dict[str, Any] = {
        "id": finding.id,
        "shortDescription": {"text": clean(finding.title if row is None else row.title)},
        "fullDescription": {"text": clean(finding.effect if row is None else f"{row.means} {row.why}")},
        "defaultConfiguration": {"level": _LEVELS[finding.severity if row is None else row.severities[0]]},
    }
    if row is not None:
        sources = f" ({'; '.join(row.sources)})" if row.sources else ""
        made["help"] = {"text": clean(row.effect + sources, longest=2000)}
    return made


def _identity(finding: Finding) -> tuple[str, ...]:
    return (finding.id, *sorted(finding.where))


def _fingerprint(finding: Finding, shared: Counter[tuple[str, ...]]) -> str:
    """Of id and places, which stay when the numbers in a title change; of the title too where two findings share them."""
    identity = _identity(finding)
    told_apart = (finding.title,) if shared[identity] > 1 else ()
    return hashlib.sha256("\0".join((*identity, *told_apart)).encode(errors="backslashreplace")).hexdigest()


def _result(finding: Finding, index: dict[str, int], shared: Counter[tuple[str, ...]]) -> dict[str, Any]:
    places = [{"name": clean(place), "fullyQualifiedName": clean(place), "kind": "resource"} for place in finding.where]
    location: dict[str, Any] = {"logicalLocations": places or [{"name": "machine", "kind": "resource"}]}
    file = next((evidence.source for evidence in finding.evidence if evidence.source.startswith("/")), None)
    if file is not None:
        uri = quote(file.lstrip("/").split(" ")[0])
        location["physicalLocation"] = {"artifactLocation": {"uri": uri, "uriBaseId": "MACHINE"}}
    level = _LEVELS[finding.severity]
    fix = [clean(command, longest=4000) for command in finding.fix]
    undo = [clean(command, longest=4000) for command in finding.undo]
    return {
        "ruleId": finding.id,
        "ruleIndex": index[finding.id],
        "kind": "informational" if level == "none" else "fail",
        "level": level,
        "message": {"text": f"{clean(finding.title)}. {clean(finding.effect)}" if finding.effect else clean(finding.title)},
        "locations": [location],
        "partialFingerprints": {"findingAndPlaces/v1": _fingerprint(finding, shared)},
        "properties": {
            "severity": finding.severity.value,
            "confidence": finding.confidence.value,
            "expectedEffect": finding.rank,
            "evidence": [{"fact": clean(evidence.fact), "source": clean(evidence.source)} for evidence in finding.evidence],
            "fix": fix,
            "undo": undo,
        },
    }
