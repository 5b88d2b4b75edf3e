"""What survives a kill: the journal of the transaction that runs, what is applied, and the log of what was done.

The journal is written ahead: its first line holds all steps, then a line before each step and one after it, each synced.
The transaction is committed when `applied.json` is replaced (or removed); the journal goes after that. So a journal that is
found says: roll back, or, for an undo, go on; unless applied.json already carries its number.

A full disk must not stop what takes a plan back. So a journal takes all its space when it begins, as zeros that its lines
fill, and the journal of an undo takes it from `reserve`, which was made before the plan was applied.

Schema 1 had neither, and no second names for files that change; its journals are read as they are.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bedplate import __version__
from bedplate.act.durable import (
    make_directories,
    no_space,
    remove_whole,
    reserve,
    sync_directory,
    write_all,
    write_whole,
)
from bedplate.act.tuning.codec import (
    parse_plan,
    parse_step,
    parse_value_row,
    render_plan,
    render_step,
    render_value,
)
from bedplate.act.tuning.kinds.registry import COMMANDS
from bedplate.act.tuning.place import Place
from bedplate.act.tuning.step import AppliedRecord, AppliedValue, Step, Target
from bedplate.errors import ReadError

ABANDON = "`bedplate tune undo --abandon` moves it aside"
SCHEMA = 2
"""Of journals."""
APPLIED_SCHEMA = 1
_READ_SCHEMAS = (1, 2)
_SLACK_BYTES = 512  # a step: more than what the kernel makes of a text that is written, than "done" and its number
_LOG_BYTES = 1 << 20  # past that the older half of the log goes


@dataclass(frozen=True, slots=True, kw_only=True)
class Interrupted:
    """A transaction that a journal tells of and that is not committed."""

    kind: str
    """"apply" or "undo"."""
    number: str
    boot: str
    steps: tuple[Step, ...]
    started: frozenset[int]
    done: dict[int, str]
    """Step -> what was read back."""


class Journal:
    """The open journal of one transaction: each line is on the disk when its method returns.

    `remove_journal` removes the file.
    """

    def __init__(self, place: Place, *, kind: str, number: str, boot: str, steps: Sequence[Step]) -> None:
        """Raises BedplateError when there is no space for it; then everything is as it was."""
        head = {"schema": SCHEMA, "by": __version__, "kind": kind, "number": number, "boot": boot}
        first = _line({**head, "steps": [render_step(step) for step in steps]})
        reserved = kind == "undo" and place.reserve.exists()
        self._path, self._descriptor = place.journal, -1
        try:
            make_directories(place.journal.parent, place.top)
            if reserved:
                os.replace(place.reserve, place.journal)  # noqa: PTH105
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | (0 if reserved else os.O_TRUNC)
            self._descriptor = os.open(place.journal, flags, 0o600)
            os.posix_fallocate(self._descriptor, 0, journal_bytes(steps))
            sync_directory(place.journal.parent)
            self._write(first)
        except OSError as error:
            if self._descriptor >= 0:
                os.close(self._descriptor)
            with contextlib.suppress(OSError):
                drop_unbegun(place)
            raise no_space(place.journal, error) from error

    def start(self, index: int) -> None:
        """Write down that the step with this index is about to be made.

        Raises BedplateError when the disk does not take it.
        """
        self._append(_line({"start": index}))

    def done(self, index: int, now: str) -> None:
        """Write down that it was made, with the text that was read back.

        Raises BedplateError when the disk does not take it.
        """
        self._append(_line({"done": index, "now": now}))

    def close(self) -> None:
        """Close the file and leave it there: `remove_journal` takes it away when the transaction is at its end."""
        os.close(self._descriptor)

    def _append(self, line: bytes) -> None:
        try:
            self._write(line)
        except OSError as error:
            raise no_space(self._path, error) from error

    def _write(self, line: bytes) -> None:
        write_all(self._descriptor, line)
        os.fsync(self._descriptor)


def journal_bytes(steps: Sequence[Step]) -> int:
    """The space that the journal of these steps takes at most."""
    return _SLACK_BYTES + sum(
        len(_line(render_step(step))) + len(_line({"now": step.after})) + _SLACK_BYTES for step in steps
    )


def reserve_undo(place: Place, values: Sequence[AppliedValue]) -> None:
    """Take the space that the journal of their undo will need; what is reserved already grows. Raises BedplateError when the
    disk does not have it; then everything is as it was."""
    back = [Step(target=value.target, before=value.written, after=value.before) for value in values]
    commands = [Step(target=Target(kind=command)) for command in COMMANDS]
    try:
        make_directories(place.reserve.parent, place.top)
        reserve(place.reserve, journal_bytes([*back, *commands]))
    except OSError as error:
        raise no_space(place.reserve, error) from error


def drop_unbegun(place: Place) -> None:
    """Take a journal away in which no step was begun; one that was made of the reserve of what is applied is that again."""
    if not place.journal.exists():
        return
    if not place.applied.exists() or place.reserve.exists():
        remove_journal(place)
        return
    descriptor = os.open(place.journal, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        length = len(os.pread(descriptor, os.fstat(descriptor).st_size, 0).rstrip(b"\0"))
        write_all(descriptor, bytes(length))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    os.replace(place.journal, place.reserve)  # noqa: PTH105
    sync_directory(place.reserve.parent)


def read_journal(place: Place) -> Interrupted | None:
    """The transaction that was interrupted; None when there is none, or nothing of it was begun.

    A last line without its end was being written when the process ended, and is left out. Raises ReadError for any other
    line that is not what this module writes.
    """
    try:
        lines = place.journal.read_bytes().partition(b"\0")[0].split(b"\n")  # what follows was reserved and not used
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ReadError(f"{place.journal}: cannot read: {error.strerror}") from error
    if len(lines) < 2:
        return None
    head = _parse(place.journal, 1, lines[0])
    try:
        _check_schema(place.journal, head, _READ_SCHEMAS)  # before the lines that a newer one may write otherwise
        rest = [_parse(place.journal, number, line) for number, line in enumerate(lines[1:-1], 2)]
        return Interrupted(
            kind=head["kind"],
            number=head["number"],
            boot=head["boot"],
            steps=tuple(parse_step(step) for step in head["steps"]),
            started=frozenset(line["start"] for line in rest if "start" in line),
            done={line["done"]: line["now"] for line in rest if "done" in line},
        )
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(place.journal, f"{type(error).__name__}: {error}") from error


def remove_journal(place: Place) -> None:
    """End the transaction for good: nothing is left that `recover` would find. No error where there is no journal."""
    remove_whole(place.journal)


def read_record(place: Place) -> AppliedRecord | None:
    """What is applied; None when nothing is. Raises ReadError for a file that is not what this module writes."""
    try:
        text = place.applied.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise ReadError(f"{place.applied}: cannot read: {error.strerror}") from error
    row = _parse(place.applied, 1, text)
    try:
        _check_schema(place.applied, row, (APPLIED_SCHEMA,))
        return AppliedRecord(
            plan=parse_plan(row["plan"]),
            values=tuple(parse_value_row(value) for value in row["holdings"]),
            number=row["number"],
            boot=row["boot"],
            made_s=float(row["made_s"]),
            made=row["made"],
            confirm=row["confirm"],
        )
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(place.applied, f"{type(error).__name__}: {error}") from error


def write_record(place: Place, record: AppliedRecord) -> None:
    """Replace it, all at once: the commit of a transaction. Raises BedplateError when the disk does not take it."""
    row = {
        "schema": APPLIED_SCHEMA,
        "plan": render_plan(record.plan),
        "holdings": [render_value(value) for value in record.values],
        "number": record.number,
        "boot": record.boot,
        "made_s": record.made_s,
        "made": record.made,
        "confirm": record.confirm,
    }
    try:
        make_directories(place.applied.parent, place.top)
        write_whole(place.applied, json.dumps(row, indent=1) + "\n", mode=0o644)
    except OSError as error:
        raise no_space(place.applied, error) from error


def append_log(place: Place, row: dict[str, Any]) -> None:
    """One line more of the log; never the reason why something fails."""
    with contextlib.suppress(OSError):
        make_directories(place.log.parent, place.top)
        with contextlib.suppress(FileNotFoundError):
            if place.log.stat().st_size > _LOG_BYTES:
                lines = place.log.read_text(errors="replace").splitlines(keepends=True)
                write_whole(place.log, "".join(lines[len(lines) // 2 :]))
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(place.log, flags, 0o644)
        try:
            write_all(descriptor, (json.dumps(row) + "\n").encode())
        finally:
            os.close(descriptor)


def read_log(place: Place) -> tuple[dict[str, Any], ...]:
    """All lines of the log that can be read, oldest first; () where there is none.

    Raises ReadError when the file cannot be read.
    """
    try:
        lines = place.log.read_text(errors="replace").splitlines()
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise ReadError(f"{place.log}: cannot read: {error.strerror}") from error
    rows = []
    for line in lines:
        with contextlib.suppress(ValueError):
            row = json.loads(line)
            if isinstance(row, dict):
                rows.append(row)
    return tuple(rows)


def _parse(path: Path, number: int, line: bytes) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise _damaged(path, f"line {number}: {error}") from error
    if not isinstance(row, dict):
        raise _damaged(path, f"line {number}: is not a JSON object")
    return row


def _check_schema(path: Path, row: dict[str, Any], known: Sequence[int]) -> None:
    schema = row["schema"]
    if schema in known:
        return
    if not isinstance(schema, int) or schema < max(known):
        raise ValueError(f"schema {schema!r}")
    by = row.get("by")
    raise ReadError(
        f"{path}: was written by a newer bedplate{f' ({by})' if by else ''}, in schema {schema}; this one, {__version__}, "
        f"reads up to {max(known)}",
        hint=f"Nothing was changed. Use the newer bedplate, or give the journal up: {ABANDON}",
    )


def _damaged(path: Path, what: str) -> ReadError:
    return ReadError(
        f"{path}: is not a valid record of bedplate: {what}",
        hint=f"Nothing was changed. Read the file, which lists the changes made; then run: {ABANDON}",
    )


def _line(row: dict[str, Any]) -> bytes:
    return (json.dumps(row) + "\n").encode()


def remove_record(place: Place) -> None:
    """The commit of an undo: from here on nothing is in force by this place. No error where nothing was."""
    remove_whole(place.applied)
