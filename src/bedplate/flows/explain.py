"""Find what the catalog says of a knob, of a finding, or of a setting by its kernel's name."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bedplate.catalog.findings import read_findings
from bedplate.catalog.knobs import read_knobs
from bedplate.errors import UsageError
from bedplate.model.audit import FindingRow
from bedplate.model.knob import Knob


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """All rows of the catalog that can be explained."""

    knobs: tuple[Knob, ...]
    findings: tuple[FindingRow, ...]


def read_rows() -> Rows:
    """The rows of the catalog as it ships. Raises DataError for files that are damaged."""
    return Rows(knobs=tuple(read_knobs()), findings=tuple(read_findings()))


def find_row(knobs: Sequence[Knob], findings: Sequence[FindingRow], name: str) -> Knob | FindingRow:
    """The row of an id, a knob's finding, or an interface; a knob itself before its wrong forms. Raises UsageError."""
    wanted = _plain(name)
    by_id: dict[str, Knob | FindingRow] = {knob.id: knob for knob in knobs}
    by_id |= {row.id: row for row in findings}
    if wanted in by_id:
        return by_id[wanted]
    by_name: dict[str, Knob | FindingRow] = {}
    for knob in sorted(knobs, key=lambda knob: bool(knob.knob)):
        for interface in (*knob.interface, *_read_by(knob)):
            by_name.setdefault(_plain(interface), knob)
            by_name.setdefault(_plain(interface).partition("=")[0], knob)
    if wanted in by_name:
        return by_name[wanted]
    near = difflib.get_close_matches(wanted, [*by_id, *by_name], 3, 0.6)
    hint = (
        f"Did you mean {' or '.join(repr(close) for close in near)}?"
        if near
        else "Run `bedplate explain` to list all of them."
    )
    raise UsageError(f"{name}: no knob or finding has this name", hint=hint)


def _plain(name: str) -> str:
    """A name as it is looked up: "/proc/sys/vm/swappiness" and "vm.swappiness" are one."""
    name = name.strip()
    if name.startswith("/proc/sys/"):
        name = name.removeprefix("/proc/sys/").replace("/", ".")
    return name.removeprefix("knob.").removesuffix("=")


def _read_by(knob: Knob) -> Iterator[str]:
    for check in knob.check:
        yield from check.paths if not check.fact else ()
        yield from (name for name in (check.parameter, check.config) if name)
