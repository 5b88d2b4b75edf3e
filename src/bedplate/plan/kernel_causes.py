"""Which messages of the kernel's log have one cause: what follows from a message is its evidence, not a second finding.

A row of the catalog names the rows whose messages follow from its own (`causes`). A message is taken for a consequence when
it was logged within the row's window, in the same run of the kernel, and about the same device, a port above it, or none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from bedplate.model.facts.finding import Severity
from bedplate.model.facts.kernel_log import KernelEvent
from bedplate.model.facts.pci import PciDevice
from bedplate.model.kernel_log_row import KernelLogRow

FAMILIES = ("xid", "sxid")
"""Rows that find the codes of a driver, and speak for those that no row has."""
_SEVERITIES = tuple(Severity)
_UNTIMED_LINES = 200  # in a log without times, messages that far apart are not of one cause


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownEvent:
    """An event with the row that explains it: of its code, or of its family where the code is in no row."""

    event: KernelEvent
    row: KernelLogRow


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelIncident:
    """One cause: the messages that say it about one place, and those that follow from it."""

    row: KernelLogRow
    events: tuple[KernelEvent, ...]
    """The first one first; all of one row, place and process."""
    consequences: tuple[KnownEvent, ...]
    """In the order of the log."""

    @property
    def count(self) -> int:
        """How often the cause itself was logged."""
        return sum(event.count for event in self.events)


def find_incidents(
    events: Sequence[KernelEvent], rows: Iterable[KernelLogRow], pci: Sequence[PciDevice]
) -> tuple[KernelIncident, ...]:
    """The causes of a log, in the order of their first messages. rows are the catalog's, those of codes too.

    pci tells which ports are above a device; without it only messages about the device itself belong to it. Events of a row
    that is not among the rows are left out.
    """
    by_id = {row.id: row for row in rows}
    order = {id: place for place, id in enumerate(by_id)}
    known = [KnownEvent(event=event, row=row) for event in events if (row := _row_of(event, by_id)) is not None]
    above = _ports_above(pci)
    # A cause is more severe than what follows from it, or stands before it in the catalog: so there is no circle.
    ranked = sorted(
        range(len(known)), key=lambda place: (_SEVERITIES.index(known[place].row.severity), order[known[place].row.id])
    )
    rank = {place: number for number, place in enumerate(ranked)}
    causes = [place for place in ranked if known[place].row.causes]
    cause_of: dict[int, int] = {}
    for place, consequence in enumerate(known):
        found = [
            cause
            for cause in causes
            if rank[cause] < rank[place] and _follows(consequence, known[cause], above) and cause != place
        ]
        if found:
            cause_of[place] = min(
                found, key=lambda cause: (rank[cause], abs(_distance(known[cause].event, consequence.event)))
            )
    return _gather(known, cause_of)


def _row_of(event: KernelEvent, rows: Mapping[str, KernelLogRow]) -> KernelLogRow | None:
    if event.row in FAMILIES and (row := rows.get(f"{event.row}-{event.code}")) is not None:
        return row
    return rows.get(event.row)


def _gather(known: Sequence[KnownEvent], cause_of: Mapping[int, int]) -> tuple[KernelIncident, ...]:
    """Incidents of the events that no other explains; a consequence of a consequence belongs to the first cause."""
    groups: dict[tuple[object, ...], list[KernelEvent]] = {}
    rows: dict[tuple[object, ...], KernelLogRow] = {}
    consequences: dict[tuple[object, ...], list[KnownEvent]] = {}
    for place, known_event in enumerate(known):
        root = place
        while root in cause_of:
            root = cause_of[root]
        key = _key(known[root])
        rows[key] = known[root].row
        if root == place:
            groups.setdefault(key, []).append(known_event.event)
        else:
            consequences.setdefault(key, []).append(known_event)
    incidents = [
        KernelIncident(row=rows[key], events=tuple(events), consequences=tuple(consequences.get(key, ())))
        for key, events in groups.items()
        if rows[key].alone
    ]
    return tuple(sorted(incidents, key=lambda incident: incident.events[0].line))


def _key(known: KnownEvent) -> tuple[object, ...]:
    event = known.event
    return (known.row.reports_as or known.row.id, event.code if event.row in FAMILIES else None, *_about(event), event.boot)


def _about(event: KernelEvent) -> tuple[str, str, str]:
    # Of a device that has an address, ports and engines of it are one place.
    return (event.address, "" if event.address else event.subject, event.process if not event.address else "")


def _follows(consequence: KnownEvent, cause: KnownEvent, above: Mapping[str, frozenset[str]]) -> bool:
    row, event = cause.row, consequence.event
    if event.boot != cause.event.boot or not any(fnmatchcase(consequence.row.id, id) for id in row.causes):
        return False
    if not row.anywhere and not _is_same_device(event.address, cause.event.address, above):
        return False
    return _is_near(event, cause.event, row)


def _is_same_device(address: str, other: str, above: Mapping[str, frozenset[str]]) -> bool:
    """Whether a message about one address is about the device at the other: one of its functions, or a port above it.

    A message that names no device may be about any: the rows that follow from each other say enough then.
    """
    if not address or not other:
        return True
    return _slot(address) == _slot(other) or address in above.get(_slot(other), frozenset())


def _is_near(event: KernelEvent, cause: KernelEvent, row: KernelLogRow) -> bool:
    """Whether some message of the event lies in the window around some message of the cause."""
    if event.first is None or event.last is None or cause.first is None or cause.last is None:
        return abs(event.line - cause.line) <= _UNTIMED_LINES
    if event.first.clock is not cause.first.clock:
        return False
    return (
        event.last.seconds >= cause.first.seconds - row.before_s and event.first.seconds <= cause.last.seconds + row.after_s
    )


def _distance(cause: KernelEvent, event: KernelEvent) -> float:
    if cause.first is None or event.first is None:
        return float(event.line - cause.line)
    return event.first.seconds - cause.first.seconds


def _ports_above(pci: Sequence[PciDevice]) -> dict[str, frozenset[str]]:
    """Addresses of all ports above each slot, "0000:43:00" -> {"0000:40:01.1"}."""
    devices = {device.address: device for device in pci}
    found: dict[str, frozenset[str]] = {}
    for device in pci:
        ports: list[str] = []
        port = device.parent
        while port is not None and port in devices and port not in ports:
            ports.append(port)
            port = devices[port].parent
        found[_slot(device.address)] = frozenset(ports)
    return found


def _slot(address: str) -> str:
    return address.rpartition(".")[0]
