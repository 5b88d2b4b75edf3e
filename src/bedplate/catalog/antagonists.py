"""The strict loader of antagonists.toml: neighbours that take one resource each."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bedplate.catalog.knobs import parse_sources
from bedplate.catalog.strict import build_row, parse_table, read_data, schema_problems
from bedplate.errors import DataError, UsageError
from bedplate.model.proof import Antagonist

_HERE = Path(__file__).parent
_SOURCE = re.compile(r"S\d+")
_ID = re.compile(r"[a-z]+\.[a-z]+(?:-[a-z]+)*")
_WORD = re.compile(r"\{([a-z_0-9]+)\}")

KINDS = ("cpu", "memory", "bandwidth", "io", "pagecache", "network", "combined")
"""In the order of the rows and of every table."""
WORKS = ("stress-ng", "fio", "iperf3", "stdout", "read", "written", "cpu", "parts")
TAKES = ("work", "cpu", "memory", "cache")
TREES = ("", "c", "python")
WORDS = frozenset(
    ("seconds", "cpus", "workers", "load", "level", "bytes", "depth", "read_mbs", "write_mbs", "llc_bytes")
    + ("file", "out", "files", "file_bytes", "tree", "port")
)
"""What may stand in braces; prove/lab/antagonists/fill.py says what for."""


def read_antagonists(
    path: Path = _HERE / "antagonists.toml", sources: Path = _HERE / "sources.toml"
) -> tuple[Antagonist, ...]:
    """All rows in the order of the file. Raises DataError with all problems, ReadError when a file cannot be read."""
    return parse_antagonists(read_data(path), parse_sources(read_data(sources), name=sources.name), name=path.name)


def parse_antagonists(text: str, sources: dict[str, str], *, name: str) -> tuple[Antagonist, ...]:
    """Rows of a text; ids of sources become their titles. Raises DataError with all problems."""
    table = parse_table(text, name=name)
    problems = schema_problems(table.get("schema"), f"{name}:")
    known = ("schema", "antagonist")
    problems += [f"{name}:{key}: unknown key; known keys: {', '.join(known)}" for key in table if key not in known]
    listed: Any = table.get("antagonist", [])
    if not isinstance(listed, list) or not all(isinstance(row, dict) for row in listed):
        raise DataError([*problems, f"{name}:antagonist: expected [[antagonist]] tables"])
    built = (
        build_row(row, Antagonist, where=f"{name}:{row.get('id', f'antagonist[{index}]')}", problems=problems)
        for index, row in enumerate(listed)
    )
    rows = [row for row in built if row is not None]
    seen: dict[str, Antagonist] = {}
    for row in rows:
        if row.id in seen:
            problems.append(f"{name}:{row.id}.id: appears twice")
        seen[row.id] = row
    for row in rows:
        problems += [f"{name}:{row.id}.{text}" for text in _row_problems(row, seen, sources)]
    order = [KINDS.index(row.kind) for row in rows if row.kind in KINDS]
    if order != sorted(order):
        problems.append(f"{name}:antagonist: expected the kinds in the order {', '.join(KINDS)}")
    if problems:
        raise DataError(problems, hint="Correct the rows; their keys are the fields of Antagonist in model/proof.py.")
    return tuple(
        dataclasses.replace(row, sources=tuple(sources.get(source, source) for source in row.sources)) for row in rows
    )


def choose_antagonists(names: tuple[str, ...], rows: tuple[Antagonist, ...]) -> tuple[Antagonist, ...]:
    """Rows by their ids or kinds, in the catalog's order; a kind means its first row that is no real neighbour.

    Raises UsageError for a name that is neither.
    """
    chosen: set[str] = set()
    for name in names:
        if name in KINDS:
            chosen.add(next(row.id for row in rows if row.kind == name and not row.real))
        elif any(row.id == name for row in rows):
            chosen.add(name)
        else:
            raise UsageError(
                f"antagonist {name!r}: is neither an id nor a kind",
                hint=f"Kinds: {', '.join(KINDS)}; ids: {', '.join(row.id for row in rows)}.",
            )
    return tuple(row for row in rows if row.id in chosen)


def _row_problems(row: Antagonist, rows: dict[str, Antagonist], sources: dict[str, str]) -> Iterator[str]:
    """What is wrong with a row of the right shape, each as "key: text"."""
    if not _ID.fullmatch(row.id) or row.id.partition(".")[0] != row.kind:
        yield f"id: got {row.id!r}, expected {row.kind}.some-words in lower case"
    for key, allowed in (("kind", KINDS), ("work", WORKS), ("takes", TAKES), ("tree", TREES)):
        if getattr(row, key) not in allowed:
            yield f"{key}: got {getattr(row, key)!r}, expected one of {', '.join(filter(None, allowed))}"
    for key in ("name", "package", "full", "problem"):
        if not str(getattr(row, key)).strip():
            yield f"{key}: is empty"
    if not row.sources:
        yield "sources: is empty"
    yield from (
        f"sources: {source} is not in sources.toml"
        for source in row.sources
        if _SOURCE.fullmatch(source) and source not in sources
    )
    if list(row.levels_pct) != sorted(set(row.levels_pct)) or row.levels_pct[:1] != (0,) or len(row.levels_pct) < 2:
        yield f"levels_pct: got {list(row.levels_pct)}, expected 0 and rising levels"
    if row.levels_pct and row.levels_pct[-1] > 1000:
        yield f"levels_pct: got {row.levels_pct[-1]}, expected at most 1000"
    if row.workers_per_cpu < 1:
        yield f"workers_per_cpu: got {row.workers_per_cpu}, expected at least 1"
    if min(row.file_bytes, row.file_memory_pct) < 0:
        yield "file_bytes: is negative"
    yield from _program_problems(row, rows)


def _program_problems(row: Antagonist, rows: dict[str, Antagonist]) -> Iterator[str]:
    if bool(row.program) == bool(row.parts):
        yield "program: expected a program, or parts and no program"
    if (row.work == "parts") != bool(row.parts):
        yield 'work: "parts" is for rows with parts, and for those alone'
    for part in row.parts:
        if part not in rows:
            yield f"parts: {part} is no row"
        elif rows[part].parts:
            yield f"parts: {part} has parts itself"
    words = (*row.argv, *row.server)
    named = {found for word in words for found in _WORD.findall(word)}
    yield from (f"argv: {{{word}}} is no word; known: {', '.join(sorted(WORDS))}" for word in sorted(named - WORDS))
    if named & {"file", "out", "files"} and not (row.file_bytes or row.file_memory_pct or row.tree):
        yield "file_bytes: missing; the words name a file"
    if "tree" in named and not row.tree:
        yield "tree: missing; the words name {tree}"
    if row.work in ("stress-ng", "fio", "iperf3") and "seconds" not in named:
        yield "argv: does not name {seconds}; it must be bounded in time"
    if "/" in row.program:
        yield f"program: got {row.program!r}, expected a name that is looked up on PATH"
