"""The strict loaders of findings.toml, which explains each finding of the audit, and of a person's suppressions."""

from __future__ import annotations

import dataclasses
import datetime
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

from bedplate.catalog.knobs import parse_sources
from bedplate.catalog.strict import build_row, is_date, parse_table, read_data, schema_problems
from bedplate.errors import DataError
from bedplate.model.audit import FindingRow, Suppression
from bedplate.model.facts.finding import Severity

_HERE = Path(__file__).parent
_ID = re.compile(r"[a-z]{3,8}\.[a-z]+(?:-[a-z]+)*")
_SUPPRESSED_ID = re.compile(r"(?:knob\.)?[a-z]{2,8}\.[a-z0-9_-]{2,40}")
_SOURCE = re.compile(r"S\d+")
NO_EVIDENCE = "no evidence"
SUPPRESSIONS = Path("/etc/bedplate/suppress.toml")
"""Where suppressions are looked for when no file is named."""

T = TypeVar("T", FindingRow, Suppression)


def read_findings(path: Path = _HERE / "findings.toml", sources: Path = _HERE / "sources.toml") -> tuple[FindingRow, ...]:
    """All rows in the order of the file. Raises DataError with all problems, ReadError when a file cannot be read."""
    return parse_findings(read_data(path), parse_sources(read_data(sources), name=sources.name), name=path.name)


def parse_findings(text: str, sources: dict[str, str], *, name: str) -> tuple[FindingRow, ...]:
    """Rows of a text; ids of sources become their titles. Raises DataError with all problems."""
    problems: list[str] = []
    rows = _rows(text, FindingRow, "finding", name, problems)
    seen: set[str] = set()
    for row in rows:
        problems += [f"{name}:{row.id}.{text}" for text in _row_problems(row, sources)]
        if row.id in seen:
            problems.append(f"{name}:{row.id}.id: appears twice")
        seen.add(row.id)
    if problems:
        raise DataError(problems, hint="Correct the rows; their keys are the fields of FindingRow in model/audit.py.")
    return tuple(
        dataclasses.replace(row, sources=tuple(sources.get(source, source) for source in row.sources)) for row in rows
    )


def read_suppressions(path: Path | None = None) -> tuple[Suppression, ...]:
    """Suppressions of a file; of /etc/bedplate/suppress.toml without a name, () when that is not there.

    Raises DataError with all problems of the file, ReadError when it cannot be read.
    """
    if path is None:
        if not SUPPRESSIONS.is_file():
            return ()
        path = SUPPRESSIONS
    return parse_suppressions(read_data(path), name=str(path))


def parse_suppressions(text: str, *, name: str) -> tuple[Suppression, ...]:
    """Rows such as {id = "quota.set", where = "pid *", reason = "...", until = 2027-03-31}. Raises DataError."""
    problems: list[str] = []
    rows = _rows(text, Suppression, "suppress", name, problems)
    for index, row in enumerate(rows):
        where = f"{name}:suppress[{index}]"
        if not _SUPPRESSED_ID.fullmatch(row.id):
            problems.append(f"{where}.id: got {row.id!r}, expected the id of a finding, such as quota.set")
        if len(row.reason.split()) < 2:
            problems.append(f"{where}.reason: say why, in a sentence")
        if not row.where:
            problems.append(f"{where}.where: is empty; leave it out for every place")
        if row.until is not None and not is_date(row.until):
            problems.append(f"{where}.until: got {row.until!r}, expected a date such as 2027-03-31")
    if problems:
        raise DataError(problems, hint="See docs/explanation/audit.md, Suppressions.")
    return tuple(rows)


def _rows(text: str, cls: type[T], key: str, name: str, problems: list[str]) -> list[T]:
    """Rows whose shape is right; schema = 1 and [[key]] tables, and nothing else, make a file."""
    table = parse_table(text, name=name)
    problems += schema_problems(table.get("schema"), f"{name}:")
    problems += [
        f"{name}:{other}: unknown key; known keys: schema, {key}" for other in table if other not in ("schema", key)
    ]
    listed: Any = table.get(key, [])
    if not isinstance(listed, list) or not all(isinstance(row, dict) for row in listed):
        problems.append(f"{name}:{key}: expected [[{key}]] tables")
        return []
    built = (
        build_row(_dates_as_text(row), cls, where=f"{name}:{row.get('id', f'{key}[{index}]')}", problems=problems)
        for index, row in enumerate(listed)
    )
    return [row for row in built if row is not None]


def _dates_as_text(row: dict[str, Any]) -> dict[str, Any]:
    """TOML has dates of its own: until = 2027-03-31 and until = "2027-03-31" are the same."""
    return {key: value.isoformat() if type(value) is datetime.date else value for key, value in row.items()}


def _row_problems(row: FindingRow, sources: dict[str, str]) -> Iterator[str]:
    """What is wrong with a row of the right shape, each as "key: text"."""
    if not _ID.fullmatch(row.id):
        yield f"id: got {row.id!r}, expected group.some-words in lower case"
    for key in ("title", "means", "why", "effect"):
        if not str(getattr(row, key)).strip():
            yield f"{key}: is empty"
    if row.title.endswith("."):
        yield "title: ends with a full stop"
    if (row.effect == NO_EVIDENCE) == bool(row.sources):
        yield f'sources: an effect needs a source, and "{NO_EVIDENCE}" has none'
    if row.effect == NO_EVIDENCE and row.effect_percent is not None:
        yield f'effect_percent: "{NO_EVIDENCE}" has none'
    if row.effect_percent is not None and not 0.0 <= row.effect_percent <= 1000.0:
        yield f"effect_percent: got {row.effect_percent:g}, expected 0 to 1000"
    for source in row.sources:
        if _SOURCE.fullmatch(source) and source not in sources:
            yield f"sources: {source} is not in sources.toml"
    if not row.check:
        yield "check: missing; how is it seen by hand?"
    order = list(Severity)
    if not row.severities or list(row.severities) != sorted(set(row.severities), key=order.index):
        yield "severities: expected some, each once, most severe first"
