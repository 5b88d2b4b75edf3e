"""The report as one JSON object, schema "bedplate.audit/1", and that schema made from the same dataclasses.

A field of a fact keeps its name. A reading is {value, source, unknown, text}: value is null exactly when unknown says why.
The version goes up when a field is removed or changes its meaning; new fields come without.
"""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from enum import StrEnum
from typing import Any

from bedplate.cli.faces.report import Report
from bedplate.model.audit import NotJudged, SuppressedFinding
from bedplate.model.facts.finding import Finding
from bedplate.model.facts.host import HostFacts

SCHEMA = "bedplate.audit/1"
SCHEMA_PAGE = "docs/reference/audit.schema.json"

_FIELDS: dict[type, tuple[str, ...]] = {}


def render_document(report: Report) -> str:
    """One JSON object with a line end; the same bytes for the same report."""
    return json.dumps(make_document(report), ensure_ascii=False, indent=1).encode(errors="backslashreplace").decode() + "\n"


def make_document(report: Report) -> dict[str, Any]:
    """The object before it is text."""
    return {
        "schema": SCHEMA,
        "bedplate": report.version,
        "origin": report.facts.origin,
        "summary": {severity.value: count for severity, count in report.counts.items()},
        "findings": [_plain(one) for one in report.findings],
        "suppressed": [_plain(one) for one in report.audit.suppressed],
        "not_judged": [_plain(one) for one in report.audit.not_judged],
        "notes": list(report.audit.notes),
        "facts": _plain(report.facts),
    }


def _plain(value: Any) -> Any:
    """A value as JSON has it: dataclasses as objects, tuples as arrays."""
    kind = type(value)
    if kind is str or kind is int or value is None or kind is bool or kind is float:
        return value if value == value and value not in (float("inf"), float("-inf")) else None
    if kind is tuple:
        return [_plain(one) for one in value]
    if isinstance(value, StrEnum):
        return value.value
    names = _FIELDS.get(kind)
    if names is None:
        names = _FIELDS[kind] = tuple(field.name for field in dataclasses.fields(value))
    return {name: _plain(getattr(value, name)) for name in names}


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
            "description": "Findings that a person has set aside, in the same order.",
            "items": schema_of(SuppressedFinding, definitions, describe),
        },
        "not_judged": {
            "type": "array",
            "description": "What was to be looked at and could not be told.",
            "items": schema_of(NotJudged, definitions, describe),
        },
        "notes": {
            "type": "array",
            "description": "What a person should know of the suppressions.",
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


def schema_of(hint: Any, definitions: dict[str, Any], describe: Any) -> dict[str, Any]:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        inner = [schema_of(one, definitions, describe) for one in arguments]
        if all(set(one) == {"type"} for one in inner):
            return {"type": [one["type"] for one in inner]}
        return {"anyOf": inner}
    if origin is tuple:
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            return {"type": "array", "items": schema_of(arguments[0], definitions, describe)}
        items = [schema_of(one, definitions, describe) for one in arguments]
        return {"type": "array", "prefixItems": items, "minItems": len(items), "maxItems": len(items)}
    if hint in (str, int, float, bool, type(None)):
        return {"type": {str: "string", int: "integer", float: "number", bool: "boolean"}.get(hint, "null")}
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        definitions[hint.__name__] = {"type": "string", "enum": [one.value for one in hint]}
        return {"$ref": f"#/$defs/{hint.__name__}"}
    return _schema_of_class(hint, definitions, describe)


def _schema_of_class(hint: Any, definitions: dict[str, Any], describe: Any) -> dict[str, Any]:
    """A dataclass as a definition; a generic one (Reading) is one definition for each type that it holds."""
    cls = typing.get_origin(hint) or hint
    arguments = typing.get_args(hint)
    name = cls.__name__
    if arguments:
        name += "Of" + "".join(_word(one) for one in arguments)
    reference = {"$ref": f"#/$defs/{name}"}
    if name in definitions:
        return reference
    definitions[name] = {}  # stands while its fields are looked at
    said = describe(cls) if describe is not None else {}
    held = dict(zip(getattr(cls, "__parameters__", ()), arguments, strict=False))
    properties: dict[str, Any] = {}
    for field, field_hint in typing.get_type_hints(cls).items():
        one = schema_of(_filled(field_hint, held), definitions, describe)
        properties[field] = one | ({"description": said[field]} if field in said else {})
    definitions[name] = {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }
    return reference


def _filled(hint: Any, held: dict[Any, Any]) -> Any:
    if hint in held:
        return held[hint]
    parts = typing.get_args(hint)
    if typing.get_origin(hint) in (typing.Union, types.UnionType) and any(part in held for part in parts):
        return typing.Union[tuple(held.get(part, part) for part in parts)]  # noqa: UP007
    return hint


def _word(hint: Any) -> str:
    """A type as part of a definition's name: int is "Int", tuple[int, ...] is "IntList"."""
    if typing.get_origin(hint) is tuple:
        return _word(typing.get_args(hint)[0]) + "List"
    return str(hint.__name__).capitalize() if hint in (str, int, float, bool) else str(hint.__name__)
