"""A configuration key by key, and what differs between two of them."""

from __future__ import annotations

import dataclasses
from enum import StrEnum

from bedplate.model.config_change import KeyChange
from bedplate.model.machine_config import MachineConfig


def list_values(config: MachineConfig) -> dict[str, object]:
    """Each key of the file with its value: texts, numbers, booleans, tuples of texts; "network.link" is () without a link.

    {"name": "box", "front.port": 8080, "network.link[0].name": "eth0", ...}
    """
    values: dict[str, object] = {}
    _collect("", config, values)
    return values


def compare_configs(old: MachineConfig, new: MachineConfig) -> tuple[KeyChange, ...]:
    """The keys whose values differ, in the order of the file; () for none.

    Of a table in a list that only one of them has, keys with their default are left out.
    """
    before, after = list_values(old), list_values(new)
    given = _given_keys(old) | _given_keys(new)
    return tuple(
        KeyChange(key=key, old=before.get(key), new=after.get(key))
        for key in dict.fromkeys([*after, *before])
        if before.get(key) != after.get(key) and (key in given or (key in before and key in after))
    )


def _given_keys(config: MachineConfig) -> set[str]:
    """The keys whose value is not the default of their field."""
    given: set[str] = set()

    def look(prefix: str, value: object) -> None:
        for field in dataclasses.fields(value) if dataclasses.is_dataclass(value) else ():
            key, inner = f"{prefix}{field.name}", getattr(value, field.name)
            entries = inner if isinstance(inner, tuple) else ()
            for index, entry in enumerate(entries):
                look(f"{key}[{index}].", entry)
            look(f"{key}.", inner)
            if not dataclasses.is_dataclass(inner) and inner != field.default:
                given.add(key)

    look("", config)
    return given


def _collect(prefix: str, value: object, values: dict[str, object]) -> None:
    if dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            _collect(f"{prefix}.{field.name}" if prefix else field.name, getattr(value, field.name), values)
    elif isinstance(value, tuple) and any(dataclasses.is_dataclass(entry) for entry in value):
        for index, entry in enumerate(value):
            _collect(f"{prefix}[{index}]", entry, values)
    else:
        values[prefix] = value.value if isinstance(value, StrEnum) else value
