"""Apply a configuration, or take it back: all of its files are in force, or those of the one before, whatever happens.

Journal -> write and read back -> ask the service manager -> check that the machine can be reached -> commit; else put the
old texts back and ask again. See records.py for what a killed process leaves, and `recover` for what the next one does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from bedplate.act.configuration.machine_files import plan_files, put_file, sweep
from bedplate.act.configuration.place import ConfigPlace
from bedplate.act.configuration.records import (
    ConfigJournal,
    append_history,
    read_in_force,
    read_journal,
    release_reserve,
    remove_journal,
    reserve_return,
    write_in_force,
    write_journal,
)
from bedplate.act.configuration.services import ConfigServices
from bedplate.errors import BedplateError, CommandError, NotAppliedError
from bedplate.interrupts import hold_signals
from bedplate.model.config_change import AppliedConfig, ConfigIdentity, FileChange, RenderedFile, unit_actions

_STUCK = "The journal is kept; `bedplate config apply`, `revert` and `history` try again."


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Who does something to the configuration, when, and why: what the history says beside the configuration itself."""

    at: str
    """UTC, "2026-11-30T21:04:05Z"."""
    who: str
    why: str = ""


def history_row(what: str, identity: ConfigIdentity | None, event: Event, **more: object) -> dict[str, Any]:
    """A line of the history: what happened, to which configuration, when, by whom."""
    row: dict[str, Any] = {"at": event.at, "what": what, "who": event.who}
    if identity is not None:
        row |= {
            "number": identity.number,
            "sha256": identity.sha256,
            "sequence": identity.sequence,
            "source": identity.source,
        }
    return row | ({"why": event.why} if event.why else {}) | {key: value for key, value in more.items() if value}


def apply(
    place: ConfigPlace,
    files: Sequence[RenderedFile],
    identity: ConfigIdentity,
    text: str,
    services: ConfigServices,
    *,
    waits: bool,
    check: Callable[[], None] | None = None,
) -> tuple[FileChange, ...]:
    """Put a configuration in force; gives what changed. The lock is held, `recover` was called, nothing waits.

    waits: it is taken back unless it is confirmed. check: raises BedplateError where the machine cannot be reached any more.
    Raises PlanRefused before anything is changed, BedplateError when something failed and all was put back.
    """
    record = read_in_force(place)
    changes, owned = plan_files(place, files, record)
    after = AppliedConfig(identity=identity, text=text, files=owned, waits=waits, previous=record if waits else None)
    event = Event(at=identity.at, who=identity.who)
    row = history_row("applied", identity, event, files=[change.path for change in changes], waits=waits)
    journal = ConfigJournal(kind="apply", changes=changes, after=after, row=row)
    try:
        reserve_return(place, journal)
        write_journal(place, journal)
    except BedplateError:
        release_reserve(place)
        raise
    try:
        for change in changes:
            put_file(place, change, change.new)
        _ask(services, changes)
        if check is not None:
            check()
        write_in_force(place, after)
    except BaseException as error:
        with hold_signals():
            if read_in_force(place) == after:
                finish(place, journal)
                raise
            failed = put_back(place, journal, services)
            said = error.message if isinstance(error, BedplateError) else repr(error)
            append_history(place, history_row("failed", identity, replace(event, why=said), not_restored=failed))
            if failed:
                raise BedplateError("\n".join([said, *failed]), hint=_STUCK) from error
            remove_journal(place)
        if isinstance(error, BedplateError):
            raise BedplateError(error.message, hint="Everything was put back as it was.") from error
        raise
    with hold_signals():
        finish(place, journal)
    return changes


def revert(place: ConfigPlace, services: ConfigServices, event: Event) -> tuple[FileChange, ...]:
    """Take back the configuration that waits to be confirmed; gives what changed. The lock is held, `recover` was called.

    Interrupted, it is brought to its end by the next run. Raises NotAppliedError where nothing waits, BedplateError where
    something could not be put back; the next run tries again.
    """
    record = read_in_force(place)
    if record is None or not record.waits:
        raise NotAppliedError("no configuration waits to be confirmed", hint="See what was done: bedplate config history")
    changes, after = plan_revert(place, record)
    row = history_row("reverted", record.identity, event, files=[change.path for change in changes])
    journal = ConfigJournal(kind="revert", changes=changes, after=after, row=row)
    release_reserve(place)
    write_journal(place, journal)
    with hold_signals():
        _go_on(place, journal, services)
    return changes


def plan_revert(place: ConfigPlace, record: AppliedConfig) -> tuple[tuple[FileChange, ...], AppliedConfig | None]:
    """(What must change on the disk to take this configuration back, what is then in force); changes nothing."""
    previous = record.previous
    files = [owned.file for owned in previous.files] if previous is not None else []
    changes, _ = plan_files(place, files, record, undoing=True)
    return changes, previous


def confirm(place: ConfigPlace, event: Event) -> ConfigIdentity:
    """Keep the configuration that waits. The lock is held. Raises NotAppliedError where none does, BedplateError."""
    record = read_in_force(place)
    if record is None or not record.waits:
        raise NotAppliedError("no configuration waits to be confirmed", hint="See what was done: bedplate config history")
    release_reserve(place)
    write_in_force(place, replace(record, waits=False, previous=None))
    append_history(place, history_row("confirmed", record.identity, event))
    return record.identity


def recover(place: ConfigPlace, services: ConfigServices, event: Event) -> str:
    """Bring an interrupted change to before or after: "" when there is none, else "applied", "reverted" or "taken back".

    The lock is held. Raises BedplateError where that cannot be done; the journal stays for the next try.
    """
    journal = read_journal(place)
    if journal is None:
        remove_journal(place)  # one that was being written: nothing was changed yet
        record = read_in_force(place)
        if record is None or not record.waits:
            release_reserve(place)
        return ""
    sweep(place, journal.changes)
    with hold_signals():
        if read_in_force(place) == journal.after:
            finish(place, journal)
            return str(journal.row["what"])
        if journal.kind == "revert":
            _go_on(place, journal, services)
            return "reverted"
        failed = put_back(place, journal, services)
        if failed:
            raise BedplateError("\n".join(["an interrupted change could not be taken back:", *failed]), hint=_STUCK)
        identity = journal.after.identity if journal.after is not None else None
        append_history(place, history_row("taken back", identity, replace(event, why="the change was interrupted")))
        remove_journal(place)
    return "taken back"


def restore(place: ConfigPlace, services: ConfigServices) -> tuple[FileChange, ...]:
    """Write what is in force again where it is not on the disk, as after the boot of an image, whose /etc is empty then.

    The lock is held, `recover` was called, nothing waits. Raises BedplateError; the next run tries again.
    """
    record = read_in_force(place)
    if record is None:
        return ()
    changes, _ = plan_files(place, [owned.file for owned in record.files], record)
    for change in changes:
        put_file(place, change, change.new)
    _ask(services, changes)
    return changes


def put_back(place: ConfigPlace, journal: ConfigJournal, services: ConfigServices) -> list[str]:
    """Give every file of an apply its old text; a sentence for each that did not take it."""
    failed: list[str] = []
    release_reserve(place)
    for change in reversed(journal.changes):
        try:
            put_file(place, change, change.old)
        except BedplateError as error:
            failed.append(error.message)
    for action in unit_actions(journal.changes) if services.is_running() else ():
        try:
            services.carry_out(action)
        except CommandError as error:
            failed.append(error.message)
    return failed


def finish(place: ConfigPlace, journal: ConfigJournal) -> None:
    """After the commit: the line of the history, and the journal goes."""
    append_history(place, journal.row)
    if journal.after is None or not journal.after.waits:
        release_reserve(place)
    remove_journal(place)


def _go_on(place: ConfigPlace, journal: ConfigJournal, services: ConfigServices) -> None:
    for change in journal.changes:
        put_file(place, change, change.new)
    _ask(services, journal.changes)
    write_in_force(place, journal.after)
    finish(place, journal)


def _ask(services: ConfigServices, changes: tuple[FileChange, ...]) -> None:
    if services.is_running():
        for action in unit_actions(changes):
            services.carry_out(action)
