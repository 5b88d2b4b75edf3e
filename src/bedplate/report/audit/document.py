"""The report as one JSON object, schema "bedplate.audit/1", and that schema made from the same dataclasses.

A field of a fact keeps its name. A reading is {value, source, unknown, text}: value is null exactly when unknown says why.
Lists of CPUs and of NUMA nodes are arrays of numbers, each list on one line. The version goes up when a field is removed or
changes its meaning; new fields come without.
"""

from __future__ import annotations

import json
import re
import typing
from typing import Any

from bedplate.model.audit import NotJudged, SuppressedFinding
from bedplate.model.audit_report import AuditReport
from bedplate.model.facts.finding import Finding
from bedplate.model.facts.host import HostFacts
from bedplate.report.json_schema import plain, schema_of

SCHEMA = "bedplate.audit/1"
SCHEMA_PAGE = "docs/reference/audit.schema.json"

# What JSON leaves as it is, and a terminal acts on: C1 controls, ends of lines, marks that turn the direction of writing.
_CONTROL = re.compile("[\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")
_NUMBERS = re.compile(r"\[\n\s+(-?\d+(?:,\n\s+-?\d+)*)\n\s+\]")  # a text in JSON has no line end, so this is no text


def render_document(report: AuditReport) -> str:
    """One JSON object with a line end; the same bytes for the same report."""
    text = json.dumps(make_document(report), ensure_ascii=False, indent=1).encode(errors="backslashreplace").decode()
    text = _CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
    return _NUMBERS.sub(lambda found: f"[{' '.join(found[1].split())}]", text) + "\n"


def make_document(report: AuditReport) -> dict[str, Any]:
    """The report as json.dumps takes it, by the schema bedplate.audit/1 (docs/reference/audit.schema.json)."""
    return {
        "schema": SCHEMA,
        "bedplate": report.version,
        "origin": report.facts.origin,
        "summary": {severity.value: count for severity, count in report.counts.items()},
        "findings": [plain(finding) for finding in report.findings],
        "suppressed": [plain(suppressed) for suppressed in report.audit.suppressed],
        "not_judged": [plain(not_judged) for not_judged in report.audit.not_judged],
        "notes": list(report.audit.notes),
        "facts": plain(report.facts),
    }


def make_schema(describe: typing.Callable[[type], dict[str, str]] | None = None) -> dict[str, Any]:
    """JSON Schema 2020-12 of what make_document returns; describe(class) gives the words for each of its fields."""
    definitions: dict[str, Any] = {}
    count = {"type": "integer", "minimum": 0}
    properties = {
        "schema": {"const": SCHEMA},
        "bedplate": {"type": "string", "description": "Version of bedplate that made it."},
        "origin": {"type": "string", "description": '"live", or the name of the recording.'},
        "summary": {
            "type": "object",
            "description": "Findings of each severity.",
            "properties": dict.fromkeys(("critical", "high", "medium", "low", "info"), count),
            "required": ["critical", "high", "medium", "low", "info"],
            "additionalProperties": False,
        },
        "findings": {
            "type": "array",
            "description": "Ranked, most first.",
            "items": schema_of(Finding, definitions, describe),
        },
        "suppressed": {
            "type": "array",
            "description": "Suppressed findings, in the same order.",
            "items": schema_of(SuppressedFinding, definitions, describe),
        },
        "not_judged": {
            "type": "array",
            "description": "Checks that could not be evaluated.",
            "items": schema_of(NotJudged, definitions, describe),
        },
        "notes": {
            "type": "array",
            "description": "Remarks on the suppressions.",
            "items": {"type": "string"},
        },
        "facts": schema_of(HostFacts, definitions, describe),
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"{SCHEMA}: what bedplate inspect --json and bedplate doctor --json print",
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
        "$defs": dict(sorted(definitions.items())),
    }
