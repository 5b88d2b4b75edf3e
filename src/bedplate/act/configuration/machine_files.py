"""The files that a configuration writes: which would change, write them, and put them back."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path

from bedplate.act.configuration.place import ConfigPlace
from bedplate.act.durable import make_directories, no_space, remove_if_empty, remove_whole, unfinished, write_whole
from bedplate.act.files import write_all
from bedplate.errors import BedplateError, PlanRefused
from bedplate.model.config_change import AppliedConfig, FileChange, OwnedFile, RenderedFile, UnitAction


def plan_files(
    place: ConfigPlace, files: Sequence[RenderedFile], record: AppliedConfig | None, *, undoing: bool = False
) -> tuple[tuple[FileChange, ...], tuple[OwnedFile, ...]]:
    """(What must change on the disk for these files to be all, the files that are then owned); changes nothing.

    A file that the record owns and that is not wanted any more gets the text that it had before. undoing: what the record
    says of a file's actions counts, since they belong to the change that is taken back. Raises PlanRefused for what
    is no regular text file.
    """
    owned = {entry.file.path: entry for entry in record.files} if record is not None else {}
    changes: list[FileChange] = []
    kept: list[OwnedFile] = []
    for file in files:
        if file.kernel and not place.at(file.path).exists():
            continue
        now = read_file(place, file.path)
        before = owned[file.path].before if file.path in owned else now
        kept.append(OwnedFile(file=file, before=before))
        if now != file.text:
            actions = owned[file.path].file.actions if undoing and file.path in owned else file.actions
            changes.append(_change(file, old=now, new=file.text, actions=actions))
    wanted = {file.path for file in files}
    for path, entry in owned.items():
        if path not in wanted and (now := read_file(place, path)) != entry.before:
            changes.append(_change(entry.file, old=now, new=entry.before, actions=entry.file.actions))
    return tuple(changes), tuple(kept)


def _change(file: RenderedFile, *, old: str | None, new: str | None, actions: tuple[UnitAction, ...]) -> FileChange:
    return FileChange(
        path=file.path,
        table=file.table,
        old=old,
        new=new,
        kernel=file.kernel,
        actions=actions,
        mode=file.mode,
    )


def read_file(place: ConfigPlace, path: str) -> str | None:
    """The text that is there; None for no file. Raises PlanRefused for a link, a directory and what is not UTF-8."""
    where = place.at(path)
    hint = "Nothing was changed. Remove it, or rename it."
    try:
        if where.is_symlink():
            raise PlanRefused(f"{where}: is a symbolic link, which bedplate does not follow", hint=hint)
        return where.read_bytes().decode()  # read_text() would make LF of CR LF
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise PlanRefused(f"{where}: cannot be read: {error.strerror}", hint=hint) from error
    except UnicodeDecodeError as error:
        raise PlanRefused(f"{where}: is not UTF-8 text", hint=hint) from error


def put_file(place: ConfigPlace, change: FileChange, text: str | None) -> None:
    """Give the file this text, or take it away; it is on the disk when this returns, and was read back.

    Raises BedplateError where it cannot be written, or holds something else then.
    """
    where = place.at(change.path)
    try:
        if text is None:
            remove_whole(where)
            if where.parent.name.endswith(".d"):
                remove_if_empty(where.parent)
        elif change.kernel:
            _write_kernel(where, text)
        else:
            make_directories(where.parent, place.top)
            write_whole(where, text, mode=change.mode)
    except OSError as error:
        raise no_space(where, error) from error
    if (now := read_file(place, change.path)) != text:
        raise BedplateError(f"{where}: wrote {_shown(text)}, now it holds {_shown(now)}")


def _write_kernel(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        write_all(descriptor, text.encode())
    finally:
        os.close(descriptor)


def sweep(place: ConfigPlace, changes: Sequence[FileChange]) -> None:
    """Take away what a kill left beside these files."""
    for change in changes:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            os.unlink(unfinished(place.at(change.path)))  # noqa: PTH108 (calls of os: the tests stop the process at each)


def _shown(text: str | None) -> str:
    return "no file" if text is None else repr(text[:60])
