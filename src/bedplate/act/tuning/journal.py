"""What survives a kill: the journal of the transaction that runs, what is applied, and the log of what was done.

The journal is written ahead: its first line holds all steps, then a line before each step and one after it, each synced.
The transaction is committed when `applied.json` is replaced (or removed); the journal goes after that. So a journal that is
found says: roll back, or, for an undo, go on; unless applied.json already carries its number.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bedplate.act.tuning.codec import (
    parse_holding,
    parse_plan,
    parse_step,
    render_holding,
    render_plan,
    render_step,
)
from bedplate.act.tuning.durable import make_directories, remove_whole, sync_directory, write_all, write_whole
from bedplate.act.tuning.place import Place
from bedplate.act.tuning.step import Holding, Step
from bedplate.errors import ReadError
from bedplate.model.tuning import Plan

SCHEMA = 1
_LOG_BYTES = 1 << 20  # past that the older half of the log goes


@dataclass(frozen=True, slots=True, kw_only=True)
class InForce:
    """What is in force by a place."""

    plan: Plan
    holdings: tuple[Holding, ...]
    """In the order in which they were made."""
    number: str
    boot: str
    """boot_id of the boot in which it was applied."""
    made_s: float
    """CLOCK_MONOTONIC of that boot: units started after it run with what it set."""
    made: str
    """UTC, ISO 8601."""
    confirm: str = ""
    """Name of the transient timer that takes it back; "" when nothing waits."""


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
    """The open journal of one transaction."""

    def __init__(self, place: Place, *, kind: str, number: str, boot: str, steps: Sequence[Step]) -> None:
        make_directories(place.journal.parent, place.top)
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        self._descriptor = os.open(place.journal, flags, 0o600)
        sync_directory(place.journal.parent)
        head = {"schema": SCHEMA, "kind": kind, "number": number, "boot": boot}
        self._append({**head, "steps": [render_step(one) for one in steps]})

    def start(self, index: int) -> None:
        """Before a step."""
        self._append({"start": index})

    def done(self, index: int, now: str) -> None:
        """After it, with what was read back."""
        self._append({"done": index, "now": now})

    def close(self) -> None:
        os.close(self._descriptor)

    def _append(self, row: dict[str, Any]) -> None:
        write_all(self._descriptor, (json.dumps(row) + "\n").encode())
        os.fsync(self._descriptor)


def read_journal(place: Place) -> Interrupted | None:
    """The transaction that was interrupted; None when there is none, or nothing of it was begun.

    A last line without its end was being written when the process ended, and is left out. Raises ReadError for any other
    line that is not what this module writes.
    """
    try:
        lines = place.journal.read_bytes().split(b"\n")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ReadError(f"{place.journal}: cannot read: {error.strerror}") from error
    rows = [_parse(place.journal, number, line) for number, line in enumerate(lines[:-1], 1)]
    if not rows:
        return None
    try:
        head, rest = rows[0], rows[1:]
        if head["schema"] != SCHEMA:
            raise ValueError(f"schema {head['schema']!r}")
        return Interrupted(
            kind=head["kind"],
            number=head["number"],
            boot=head["boot"],
            steps=tuple(parse_step(one) for one in head["steps"]),
            started=frozenset(one["start"] for one in rest if "start" in one),
            done={one["done"]: one["now"] for one in rest if "done" in one},
        )
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(place.journal, f"{type(error).__name__}: {error}") from error


def remove_journal(place: Place) -> None:
    remove_whole(place.journal)


def read_in_force(place: Place) -> InForce | None:
    """What is applied; None when nothing is. Raises ReadError for a file that is not what this module writes."""
    try:
        text = place.applied.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise ReadError(f"{place.applied}: cannot read: {error.strerror}") from error
    row = _parse(place.applied, 1, text)
    try:
        if row["schema"] != SCHEMA:
            raise ValueError(f"schema {row['schema']!r}")
        return InForce(
            plan=parse_plan(row["plan"]),
            holdings=tuple(parse_holding(one) for one in row["holdings"]),
            number=row["number"],
            boot=row["boot"],
            made_s=float(row["made_s"]),
            made=row["made"],
            confirm=row["confirm"],
        )
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(place.applied, f"{type(error).__name__}: {error}") from error


def write_in_force(place: Place, applied: InForce) -> None:
    """Replace it, all at once: the commit of a transaction."""
    row = {
        "schema": SCHEMA,
        "plan": render_plan(applied.plan),
        "holdings": [render_holding(one) for one in applied.holdings],
        "number": applied.number,
        "boot": applied.boot,
        "made_s": applied.made_s,
        "made": applied.made,
        "confirm": applied.confirm,
    }
    make_directories(place.applied.parent, place.top)
    write_whole(place.applied, json.dumps(row, indent=1) + "\n", mode=0o644)


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
    """All lines of the log that can be read, oldest first."""
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
        raise _damaged(path, f"line {number}: is no object")
    return row


def _damaged(path: Path, what: str) -> ReadError:
    return ReadError(
        f"{path}: is not what bedplate writes: {what}",
        hint="A newer bedplate may have written it. What it made is named in it: look at it before you remove it.",
    )


def remove_in_force(place: Place) -> None:
    """The commit of an undo."""
    remove_whole(place.applied)
