"""Reads the lock of a stack back: the strict loader over the TOML that report/stack.py renders."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bedplate.catalog.strict import build_row, parse_table, read_data, schema_problems, unprintable_problems
from bedplate.errors import DataError
from bedplate.model.bundle import CatalogBundle
from bedplate.model.lock_digest import digest_lock
from bedplate.model.stack import CheckedBy, ChosenRelease, StackLock, StackRecord, StackRelease

_SHA256 = re.compile(r"[0-9a-f]{64}")
_HINT = "Restore the file, or make the lock again with `bedplate stack resolve --output FILE`."


@dataclass(frozen=True, slots=True, kw_only=True)
class LockHead:
    """The keys above the components."""

    schema: int
    sha256: str
    """Of the lock itself, as model/lock_digest.py computes it."""
    date: str
    catalogue: str
    wish: tuple[str, ...]
    facts: tuple[str, ...]
    cautions: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LockTable:
    """A [[component]] table without its properties."""

    id: str
    version: str
    source: str
    licence: str
    checked: CheckedBy
    date: str
    evidence: tuple[str, ...]
    because: str
    layer: str = ""
    file: str = ""
    sha256: str = ""
    held_back: str = ""


def read_lock(path: Path) -> StackRecord:
    """The lock of a file. Raises ReadError when it cannot be read, DataError with all of its problems."""
    return parse_lock(read_data(path), name=path.name)


def parse_lock(text: str, *, name: str) -> StackRecord:
    """The lock of a TOML text; `name` is its file in messages. Raises DataError with every problem."""
    table = parse_table(text, name=name)
    problems = unprintable_problems(table, name)
    digest = digest_lock(table)
    tables, bundles = table.pop("component", []), table.pop("bundle", [])
    head = build_row(table, LockHead, where=f"{name}:lock", problems=problems)
    if head is not None:
        problems += schema_problems(head.schema, f"{name}:")
        if head.sha256 != digest:
            problems.append(
                f"{name}:sha256: got {head.sha256[:80]!r}, expected {digest}, the digest of the content:"
                " the lock was changed after it was made"
            )
    if not isinstance(bundles, list) or not all(isinstance(row, dict) for row in bundles):
        problems.append(f"{name}:bundle: expected [[bundle]] tables")
        bundles = []
    imported = [
        build_row(row, CatalogBundle, where=f"{name}:bundle[{index}]", problems=problems)
        for index, row in enumerate(bundles)
    ]
    if not isinstance(tables, list) or not tables or not all(isinstance(row, dict) for row in tables):
        problems.append(f"{name}:component: expected [[component]] tables")
        tables = []
    choices = [_choice(dict(row), f"{name}:component[{index}]", problems) for index, row in enumerate(tables)]
    places = Counter((choice.layer, choice.release.component) for choice in choices if choice is not None)
    for (layer, component), count in places.items():
        if count > 1:
            problems.append(f"{name}:component: {component}{f' of layer {layer}' if layer else ''} appears {count} times")
    if problems or head is None:
        raise DataError(problems, hint=_HINT)
    lock = StackLock(
        choices=tuple(choice for choice in choices if choice is not None), facts=head.facts, cautions=head.cautions
    )
    return StackRecord(
        date=head.date,
        catalogue=head.catalogue,
        bundles=tuple(bundle for bundle in imported if bundle is not None),
        wish=head.wish,
        lock=lock,
    )


def _choice(row: dict[str, Any], where: str, problems: list[str]) -> ChosenRelease | None:
    properties = row.pop("properties", {})
    if not isinstance(properties, dict) or not all(
        isinstance(values, list) and all(isinstance(value, str) for value in values) for values in properties.values()
    ):
        problems.append(f"{where}.properties: expected lists of texts by name")
        return None
    table = build_row(row, LockTable, where=where, problems=problems)
    if table is None:
        return None
    if table.sha256 and _SHA256.fullmatch(table.sha256) is None:
        problems.append(f"{where}.sha256: got {table.sha256[:80]!r}, expected 64 digits of 0-9 and a-f")
        return None
    release = StackRelease(
        component=table.id,
        version=table.version,
        source=table.source,
        properties={key: tuple(values) for key, values in properties.items()},
        licence=table.licence,
        file=table.file,
        sha256=table.sha256,
        checked=table.checked,
        date=table.date,
        evidence=table.evidence,
    )
    return ChosenRelease(release=release, layer=table.layer, because=table.because, held_back=table.held_back)
