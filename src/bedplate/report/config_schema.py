"""JSON Schema 2020-12 of machine.toml, for editors: from the dataclasses that the strict loader reads it into.

It says types, choices and defaults. Ranges, and what keys say of each other, are checked by `bedplate config check`.
"""

from __future__ import annotations

import dataclasses
import json
import typing
from typing import Any

from bedplate.model.machine_config import MachineConfig
from bedplate.report.field_words import read_field_words
from bedplate.report.json_schema import schema_of

CONFIG_SCHEMA_PAGE = "docs/reference/machine.schema.json"


def make_config_schema() -> dict[str, Any]:
    """The schema as json.dumps takes it."""
    definitions: dict[str, Any] = {}
    top = schema_of(MachineConfig, definitions, read_field_words)
    for cls in _tables(MachineConfig, {}).values():
        _loosen(definitions[cls.__name__], cls)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "machine.toml",
        **top,
        "$defs": definitions,
    }


def render_config_schema() -> str:
    """The text of docs/reference/machine.schema.json."""
    return json.dumps(make_config_schema(), indent=1, ensure_ascii=False) + "\n"


def _tables(cls: type, found: dict[str, type]) -> dict[str, type]:
    """A table and all below it, by the name of its class."""
    found[cls.__name__] = cls
    for hint in typing.get_type_hints(cls).values():
        for inner in (hint, *typing.get_args(hint)):
            if dataclasses.is_dataclass(inner) and typing.cast(type, inner).__name__ not in found:
                _tables(typing.cast(type, inner), found)
    return found


def _loosen(definition: dict[str, Any], cls: type) -> None:
    """A key with a default may be left out, and an editor shows the default."""
    required = []
    for field in dataclasses.fields(cls):
        if field.default is not dataclasses.MISSING:
            default = field.default
            definition["properties"][field.name]["default"] = list(default) if isinstance(default, tuple) else default
        elif field.default_factory is dataclasses.MISSING:
            required.append(field.name)
    definition["required"] = required
