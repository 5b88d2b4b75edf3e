"""Find what the catalog says of a knob, a finding, a setting by its kernel's name, or a message in the kernel's log."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bedplate.catalog.findings import read_findings
from bedplate.catalog.kernel_log import find_kernel_row, read_kernel_messages
from bedplate.catalog.knobs import read_knobs
from bedplate.errors import UsageError
from bedplate.model.audit import FindingRow
from bedplate.model.kernel_log_row import KernelLogRow, RemedySteps
from bedplate.model.knob import Knob


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """All rows of the catalog that can be explained."""

    knobs: tuple[Knob, ...]
    findings: tuple[FindingRow, ...]
    messages: tuple[KernelLogRow, ...]
    """Of the kernel's log, without the codes of drivers, which are looked up by name."""
    steps: tuple[RemedySteps, ...]
    """Of the remedies that messages and codes name."""

    @property
    def all(self) -> tuple[Knob | FindingRow | KernelLogRow, ...]:
        """Knobs, findings and messages, in this order."""
        return (*self.knobs, *self.findings, *self.messages)


def read_rows() -> Rows:
    """The rows of the catalog as it ships. Raises DataError for files that are damaged."""
    kernel = read_kernel_messages()
    return Rows(knobs=tuple(read_knobs()), findings=tuple(read_findings()), messages=kernel.rows, steps=kernel.steps)


def find_row(knobs: Sequence[Knob], findings: Sequence[FindingRow], name: str) -> Knob | FindingRow | KernelLogRow:
    """The row of an id, a knob's finding, an interface, or a message of the kernel's log; a knob before its wrong forms.

    Raises UsageError for a name that no row has.
    """
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
    if (row := find_kernel_row(name)) is not None:
        return row
    messages = [row.id for row in read_kernel_messages().rows]
    near = difflib.get_close_matches(wanted, [*by_id, *by_name, *messages], 3, 0.6)
    hint = (
        f"Did you mean {' or '.join(repr(close) for close in near)}?"
        if near
        else "Run `bedplate explain` to list all of them."
    )
    raise UsageError(f"{name}: no knob, finding or kernel message has this name", hint=hint)


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
