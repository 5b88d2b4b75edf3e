"""A validator for the keywords that the schemas in docs/reference use; an unknown keyword is an error of the test."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

_KNOWN = {
    *("$schema", "$defs", "$ref", "title", "description", "default", "type", "const", "enum", "anyOf", "minimum"),
    *("properties", "required", "additionalProperties", "items", "prefixItems", "minItems", "maxItems"),
}
_TYPES: dict[str, Any] = {
    "object": dict,
    "array": list,
    "string": str,
    "boolean": bool,
    "null": type(None),
    "integer": int,
    "number": (int, float),
}


def problems_of(value: Any, schema: dict[str, Any], root: dict[str, Any], where: str = "$") -> Iterator[str]:
    """Where and why a value breaks a schema (JSON Schema 2020-12)."""
    assert set(schema) <= _KNOWN, f"{where}: the validator does not know {set(schema) - _KNOWN}"
    if "$ref" in schema:
        yield from problems_of(value, root["$defs"][schema["$ref"].removeprefix("#/$defs/")], root, where)
    kinds = schema.get("type", [])
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if kinds and not any(_is(value, kind) for kind in kinds):
        yield f"{where}: {type(value).__name__}, expected {' or '.join(kinds)}"
        return
    if "const" in schema and value != schema["const"]:
        yield f"{where}: {value!r}, expected {schema['const']!r}"
    if "enum" in schema and value not in schema["enum"]:
        yield f"{where}: {value!r} is none of {schema['enum']}"
    if "minimum" in schema and value < schema["minimum"]:
        yield f"{where}: {value} is less than {schema['minimum']}"
    if "anyOf" in schema and all(list(problems_of(value, choice, root, where)) for choice in schema["anyOf"]):
        yield f"{where}: fits none of anyOf"
    if isinstance(value, dict):
        yield from _object(value, schema, root, where)
    if isinstance(value, list):
        yield from _array(value, schema, root, where)


def _is(value: Any, kind: str) -> bool:
    return isinstance(value, _TYPES[kind]) and not (isinstance(value, bool) and kind in ("integer", "number"))


def _object(value: dict[str, Any], schema: dict[str, Any], root: dict[str, Any], where: str) -> Iterator[str]:
    properties = schema.get("properties", {})
    for name in schema.get("required", []):
        if name not in value:
            yield f"{where}: {name} is missing"
    for name, item in value.items():
        if name in properties:
            yield from problems_of(item, properties[name], root, f"{where}.{name}")
        elif schema.get("additionalProperties") is False:
            yield f"{where}: {name} is not known"


def _array(value: list[Any], schema: dict[str, Any], root: dict[str, Any], where: str) -> Iterator[str]:
    if len(value) < schema.get("minItems", 0) or len(value) > schema.get("maxItems", len(value)):
        yield f"{where}: {len(value)} items"
    prefix = schema.get("prefixItems", [])
    for number, item in enumerate(value):
        if number < len(prefix):
            yield from problems_of(item, prefix[number], root, f"{where}[{number}]")
        elif "items" in schema:
            yield from problems_of(item, schema["items"], root, f"{where}[{number}]")
