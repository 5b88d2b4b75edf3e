"""Dataclasses as JSON, and their JSON Schema 2020-12: a document and its schema come from the same fields. Pure."""

from __future__ import annotations

import dataclasses
import re
import types
import typing
from enum import StrEnum
from typing import Annotated, Any

from bedplate.model.facts.number_lists import NumberList

_FIELDS: dict[type, tuple[str, ...]] = {}


def plain(value: Any) -> Any:
    """A value as JSON has it: dataclasses as objects, tuples as arrays."""
    kind = type(value)
    if kind is str or kind is int or value is None or kind is bool or kind is float:
        return value if value == value and value not in (float("inf"), float("-inf")) else None
    if kind is tuple:
        return [plain(item) for item in value]
    if isinstance(value, StrEnum):
        return value.value
    names = _FIELDS.get(kind)
    if names is None:
        names = _FIELDS[kind] = tuple(field.name for field in dataclasses.fields(value))
    return {name: plain(getattr(value, name)) for name in names}


def schema_of(hint: Any, definitions: dict[str, Any], describe: Any) -> dict[str, Any]:
    """The schema of a type; classes go into `definitions`, with the words of describe(class) for each of their fields."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        inner = [schema_of(argument, definitions, describe) for argument in arguments]
        if all(set(schema) == {"type"} for schema in inner):
            return {"type": [schema["type"] for schema in inner]}
        return {"anyOf": inner}
    if origin is Annotated:
        return _schema_of_numbers(arguments[1], definitions)
    if origin is tuple:
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            return {"type": "array", "items": schema_of(arguments[0], definitions, describe)}
        items = [schema_of(argument, definitions, describe) for argument in arguments]
        return {"type": "array", "prefixItems": items, "minItems": len(items), "maxItems": len(items)}
    if hint in (str, int, float, bool, type(None)):
        return {"type": {str: "string", int: "integer", float: "number", bool: "boolean"}.get(hint, "null")}
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        definitions[hint.__name__] = {"type": "string", "enum": [member.value for member in hint]}
        return {"$ref": f"#/$defs/{hint.__name__}"}
    return _schema_of_class(hint, definitions, describe)


def _schema_of_numbers(numbers: NumberList, definitions: dict[str, Any]) -> dict[str, Any]:
    definitions[numbers.name] = {
        "type": "array",
        "items": {"type": "integer", "minimum": 0},
        "description": numbers.meaning,
    }
    return {"$ref": f"#/$defs/{numbers.name}"}


def _schema_of_class(hint: Any, definitions: dict[str, Any], describe: Any) -> dict[str, Any]:
    """A dataclass as a definition; a generic one (Reading) is one definition for each type that it holds."""
    cls = typing.get_origin(hint) or hint
    arguments = typing.get_args(hint)
    name = cls.__name__
    if arguments:
        name += "Of" + "".join(_word(argument) for argument in arguments)
    reference = {"$ref": f"#/$defs/{name}"}
    if name in definitions:
        return reference
    definitions[name] = {}  # stands while its fields are looked at
    said = describe(cls) if describe is not None else {}
    held = dict(zip(getattr(cls, "__parameters__", ()), arguments, strict=False))
    properties: dict[str, Any] = {}
    for field, field_hint in typing.get_type_hints(cls, include_extras=True).items():
        one = schema_of(_filled(field_hint, held), definitions, describe)
        properties[field] = one | ({"description": _in_json_words(said[field])} if field in said else {})
    definitions[name] = {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }
    return reference


def _in_json_words(text: str) -> str:
    """A field's docstring, where () and None are what JSON calls [] and null."""
    text = re.sub(r"(?<!\w)\(\)", "[]", text)
    return re.sub(r"\bNone\b", "null", text)


def _filled(hint: Any, held: dict[Any, Any]) -> Any:
    if hint in held:
        return held[hint]
    parts = typing.get_args(hint)
    if typing.get_origin(hint) in (typing.Union, types.UnionType) and any(part in held for part in parts):
        return typing.Union[tuple(held.get(part, part) for part in parts)]  # noqa: UP007
    return hint


def _word(hint: Any) -> str:
    """A type as part of a definition's name: int is "Int", tuple[int, ...] is "IntList"."""
    if typing.get_origin(hint) is Annotated:
        return str(hint.__metadata__[0].name)
    if typing.get_origin(hint) is tuple:
        return _word(typing.get_args(hint)[0]) + "List"
    return str(hint.__name__).capitalize() if hint in (str, int, float, bool) else str(hint.__name__)
