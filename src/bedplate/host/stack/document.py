"""What was found in large files and in directories of people, as one document that a recording holds in their place.

A recording has the text of small files; it does not have modules of megabytes, libraries of gigabytes, or the names in home
directories. The values that were read of those stand in DOCUMENT, as the answers of NVML stand in theirs.
"""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeVar

from bedplate.errors import ReadError
from bedplate.host.root.jsontext import parse_json
from bedplate.model.facts.reading import Reading
from bedplate.model.facts.stack import AptRelease, DeviceCode, ModuleFile, PythonEnvironment

DOCUMENT = "/vendor/stack.json"
"""Where a recording has it, beside the answers of vendors' libraries."""
FORMAT = "bedplate-stack/1"
DOCUMENT_LIMIT = 8 << 20  # bytes

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class DeepFacts:
    """What takes long to read of an installed stack."""

    searched: bool = False
    """Whether a directory of the search could be looked into: else that nothing was found says nothing."""
    module_files: tuple[ModuleFile, ...] = ()
    environments: tuple[PythonEnvironment, ...] = ()
    code: tuple[DeviceCode, ...] = ()
    releases: tuple[AptRelease, ...] = ()
    """Here, since the names of their files tell which mirrors a machine uses."""
    denied: tuple[str, ...] = ()
    """Directories that the search for environments could not look into."""


def render_deep(facts: DeepFacts, change: Callable[[str], str] = str) -> str:
    """The document of these facts; `change` is applied to every text in it, such as a redactor's."""
    return json.dumps({"format": FORMAT, **_plain(facts, change)}, indent=1, ensure_ascii=True) + "\n"


def parse_deep(text: str) -> DeepFacts:
    """The facts of a document. Raises ReadError where it is not one."""
    table = parse_json(text, f"{DOCUMENT}:")
    if not isinstance(table, dict) or table.pop("format", None) != FORMAT:
        raise ReadError(f"{DOCUMENT}: is not a document of format {FORMAT}", hint="Record the machine again.")
    facts: DeepFacts = _build(table, DeepFacts, "document")
    return facts


def _plain(value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, StrEnum) or value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):
        return change(value)
    if isinstance(value, tuple):
        return [_plain(item, change) for item in value]
    return {field.name: _plain(getattr(value, field.name), change) for field in dataclasses.fields(value)}


def _build(value: Any, hint: Any, where: str) -> Any:
    """A value of JSON as the type that a field says. Raises ReadError for one of another shape."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        return None if value is None else _build(value, next(kind for kind in arguments if kind is not type(None)), where)
    if origin is tuple and isinstance(value, list):
        return tuple(_build(item, arguments[0], f"{where}[{index}]") for index, item in enumerate(value))
    if origin is Reading:
        return _build_class(value, Reading, {"value": arguments[0] | None}, where)
    if hint in (str, bool) and type(value) is hint:
        return value
    if isinstance(hint, type) and issubclass(hint, StrEnum) and value in tuple(hint):
        return hint(value)
    if dataclasses.is_dataclass(hint):
        return _build_class(value, hint, {}, where)
    raise ReadError(f"{DOCUMENT}: {where}: got {str(value)[:60]!r}, expected {getattr(hint, '__name__', hint)}")


def _build_class(value: Any, cls: Any, hints: dict[str, Any], where: str) -> Any:
    known_hints = typing.get_type_hints(cls) | hints
    # A field with a default may be missing: recordings that were made before there was one.
    needed = {field.name for field in dataclasses.fields(cls) if field.default is dataclasses.MISSING}
    if not isinstance(value, dict) or not needed <= set(value) <= set(known_hints):
        raise ReadError(
            f"{DOCUMENT}: {where}: got the keys {sorted(map(str, value))[:12] if isinstance(value, dict) else value!r:.80}, "
            f"expected {sorted(known_hints)}",
            hint="Record the machine again, or read it with the bedplate that made it.",
        )
    return cls(**{name: _build(value[name], hint, f"{where}.{name}") for name, hint in known_hints.items() if name in value})
