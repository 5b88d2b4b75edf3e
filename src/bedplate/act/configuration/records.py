"""What survives a kill: the record of what is in force, the journal of a change, and the history.

The journal is written whole before the first file changes, and holds every text before and after. A change is committed when
in-force.json is replaced (or removed); the journal goes after that. So a journal that is found says: put the old texts back,
or, for a revert, go on; unless in-force.json already says what it leads to.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bedplate.act.configuration.place import ConfigPlace
from bedplate.act.durable import make_directories, no_space, remove_whole, reserve, write_whole
from bedplate.act.files import write_all
from bedplate.errors import ReadError
from bedplate.model.config_change import (
    AppliedConfig,
    ConfigIdentity,
    FileChange,
    OwnedFile,
    RenderedFile,
    UnitAction,
    UnitVerb,
)

_SCHEMA = 1
_PAGE_BYTES = 4096
_HISTORY_BYTES = 1 << 20  # past that the older half goes


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigJournal:
    """A change that is being made."""

    kind: str
    """"apply": interrupted, it is taken back. "revert": it is brought to its end."""
    changes: tuple[FileChange, ...]
    after: AppliedConfig | None
    """What in-force.json says once it is committed; None: the file is not there."""
    row: Mapping[str, Any]
    """Its line in the history."""


def read_in_force(place: ConfigPlace) -> AppliedConfig | None:
    """What is in force; None before the first apply. Raises ReadError for a file that this bedplate cannot read."""
    row = _read(place.in_force)
    if row is None:
        return None
    with _parsing(place.in_force):
        return _parse_in_force(_checked(row))


def write_in_force(place: ConfigPlace, record: AppliedConfig | None) -> None:
    """The commit: the file says this, or is gone, on the disk when this returns. Raises BedplateError."""
    if record is None:
        remove_whole(place.in_force)
        return
    _write(place, place.in_force, {"schema": _SCHEMA, **_render_in_force(record)})


def read_journal(place: ConfigPlace) -> ConfigJournal | None:
    """The change that was interrupted; None where none was. Raises ReadError."""
    row = _read(place.journal)
    if row is None:
        return None
    with _parsing(place.journal):
        _checked(row)
        return ConfigJournal(
            kind=str(row["kind"]),
            changes=tuple(FileChange(**{**change, "actions": _parse_actions(change)}) for change in row["changes"]),
            after=_parse_in_force(row["after"]) if row["after"] is not None else None,
            row=dict(row["row"]),
        )


def write_journal(place: ConfigPlace, journal: ConfigJournal) -> None:
    """Put the journal down, whole and on the disk when this returns. Raises BedplateError; then nothing is changed."""
    _write(place, place.journal, _render_journal(journal))


def reserve_return(place: ConfigPlace, journal: ConfigJournal) -> None:
    """Take the space that taking this change back needs: its journal, the record and every text, each in pages of its own.

    Raises BedplateError where the disk is too full for that; then nothing is changed.
    """
    size = 3 * len(json.dumps(_render_journal(journal))) + _PAGE_BYTES * (2 * len(journal.changes) + 12)
    try:
        make_directories(place.reserve.parent, place.top)
        reserve(place.reserve, size)
    except OSError as error:
        raise no_space(place.reserve, error) from error


def release_reserve(place: ConfigPlace) -> None:
    """Give the space back: to what takes a change back now, or since nothing can be taken back any more."""
    remove_whole(place.reserve)


def _render_journal(journal: ConfigJournal) -> dict[str, Any]:
    return {
        "schema": _SCHEMA,
        "kind": journal.kind,
        "changes": [{**asdict(change), "actions": _render_actions(change.actions)} for change in journal.changes],
        "after": _render_in_force(journal.after) if journal.after is not None else None,
        "row": dict(journal.row),
    }


def remove_journal(place: ConfigPlace) -> None:
    """Take the journal away, and what was left unfinished of it."""
    remove_whole(place.journal)


def append_history(place: ConfigPlace, row: Mapping[str, Any]) -> None:
    """A line more of the history, once: the very same line is not written twice. Never the reason why something fails."""
    with contextlib.suppress(OSError):
        make_directories(place.history.parent, place.top)
        text = place.history.read_text(errors="replace") if place.history.exists() else ""
        line = f"{json.dumps(row)}\n"
        if text.endswith(line):
            return
        if len(text) > _HISTORY_BYTES:
            lines = text.splitlines(keepends=True)
            write_whole(place.history, "".join(lines[len(lines) // 2 :]))
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(place.history, flags, 0o644)
        try:
            # A kill in the middle of a line leaves no line end: the next one begins anew.
            start = "" if not text or text.endswith("\n") else "\n"
            write_all(descriptor, f"{start}{line}".encode())
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def read_history(place: ConfigPlace) -> tuple[dict[str, Any], ...]:
    """All lines of the history that can be read, oldest first; () where there is none. Raises ReadError."""
    try:
        lines = place.history.read_text(errors="replace").splitlines()
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise ReadError(f"{place.history}: cannot read: {error.strerror}") from error
    rows: list[dict[str, Any]] = []
    for line in lines:
        with contextlib.suppress(ValueError):
            row = json.loads(line)
            if isinstance(row, dict):
                rows.append(row)
    return tuple(rows)


def next_number(place: ConfigPlace) -> int:
    """The number of the next configuration: one more than any that the history or the record has. Raises ReadError."""
    record = read_in_force(place)
    numbers = [row["number"] for row in read_history(place) if type(row.get("number")) is int]
    return max([*numbers, record.identity.number if record is not None else 0], default=0) + 1


def _write(place: ConfigPlace, path: Path, row: Mapping[str, Any]) -> None:
    try:
        make_directories(path.parent, place.top)
        write_whole(path, json.dumps(row, indent=1) + "\n")
    except OSError as error:
        raise no_space(path, error) from error


def _read(path: Path) -> dict[str, Any] | None:
    try:
        row = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise ReadError(f"{path}: cannot read: {error}", hint=_hint(path)) from error
    if not isinstance(row, dict):
        raise ReadError(f"{path}: got {type(row).__name__}, expected a JSON object", hint=_hint(path))
    return row


def _hint(path: Path) -> str:
    return f"Move {path} away, and apply the configuration again: bedplate config apply FILE"


def _checked(row: dict[str, Any]) -> dict[str, Any]:
    if row.get("schema") != _SCHEMA:
        raise ValueError(f"the record has the form {row.get('schema')!r}, expected {_SCHEMA}")
    return row


@contextlib.contextmanager
def _parsing(path: Path) -> Any:
    try:
        yield
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ReadError(f"{path}: is not as this bedplate writes it: {error!r}", hint=_hint(path)) from error


def _render_in_force(record: AppliedConfig) -> dict[str, Any]:
    return {
        "identity": asdict(record.identity),
        "text": record.text,
        "files": [
            {**asdict(owned.file), "actions": _render_actions(owned.file.actions), "before": owned.before}
            for owned in record.files
        ],
        "waits": record.waits,
        "previous": _render_in_force(record.previous) if record.previous is not None else None,
    }


def _parse_in_force(row: dict[str, Any]) -> AppliedConfig:
    """Raises ValueError, KeyError, TypeError for what this bedplate would not have written, as after an edit by hand."""
    record = AppliedConfig(
        identity=_parse_identity(_typed(row, "identity", dict)),
        text=_typed(row, "text", str),
        files=tuple(_parse_owned(entry) for entry in _typed(row, "files", list)),
        waits=_typed(row, "waits", bool),
        previous=_parse_in_force(_typed(row, "previous", dict)) if row["previous"] is not None else None,
    )
    digest = hashlib.sha256(record.text.encode()).hexdigest()
    if digest != record.identity.sha256:
        raise ValueError(f"text has the sha256 {digest[:12]}, expected {record.identity.sha256[:12]}")
    return record


def _parse_identity(row: dict[str, Any]) -> ConfigIdentity:
    for key in ("number", "sequence"):
        _typed(row, key, int)
    for key in ("at", "who", "source", "sha256", "key"):
        _typed(row, key, str)
    return ConfigIdentity(**row)


def _parse_owned(row: dict[str, Any]) -> OwnedFile:
    if not isinstance(row, dict):
        raise TypeError(f"files: got {type(row).__name__}, expected an object")
    for key, kind in (("text", str), ("table", str), ("kernel", bool), ("mode", int), ("actions", list)):
        _typed(row, key, kind)
    path = _typed(row, "path", str)
    if not path.startswith("/") or os.path.normpath(path) != path:
        raise ValueError(f"path: got {path!r}, expected a whole path without . and ..")
    before = _typed(row, "before", str) if row["before"] is not None else None
    fields = {key: value for key, value in row.items() if key != "before"}
    return OwnedFile(file=RenderedFile(**{**fields, "actions": _parse_actions(row)}), before=before)


def _typed(row: dict[str, Any], key: str, kind: type) -> Any:
    """The value of a key, of exactly this type: True is no number. Raises KeyError, TypeError."""
    if type(row[key]) is not kind:
        raise TypeError(f"{key}: got {type(row[key]).__name__}, expected {kind.__name__}")
    return row[key]


def _render_actions(actions: tuple[UnitAction, ...]) -> list[str]:
    return [str(action) for action in actions]


def _parse_actions(row: Mapping[str, Any]) -> tuple[UnitAction, ...]:
    words = [str(text).partition(" ") for text in row["actions"]]
    return tuple(UnitAction(verb=UnitVerb(verb), unit=unit) for verb, _, unit in words)
