"""Files that are whole or not there, whatever ends the process: written beside, synced, renamed, and the directory synced.

A file that was being written when the machine stopped is left under `unfinished(path)`, never under its own name.
"""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path

from bedplate.act import files
from bedplate.act.files import sync_directory, write_all
from bedplate.errors import BedplateError

__all__ = [
    "before",
    "bring_before",
    "keep_aside",
    "keep_before",
    "make_directories",
    "no_space",
    "remove_if_empty",
    "remove_whole",
    "reserve",
    "sync_directory",
    "unfinished",
    "write_all",
    "write_whole",
]


def unfinished(path: Path) -> Path:
    """Where a file stands until it is whole. A name that begins with a dot is read by no configuration directory."""
    return path.with_name(f".{path.name}.unfinished")


def before(path: Path) -> Path:
    """Where the text before stands while a transaction changes or removes a file; likewise hidden."""
    return path.with_name(f".{path.name}.before")


def write_whole(path: Path, text: str, *, mode: int = 0o644) -> None:
    """Put the text under its name all at once, on the disk when this returns. The directory must be there."""
    files.write_whole(path, text, sync=True, mode=mode, beside=unfinished(path))


def keep_before(path: Path) -> None:
    """Give the file a second name, so that `bring_before` needs no new page of the disk; a file system without links has
    none. Raises OSError when the disk is full."""
    beside = before(path)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(beside)  # noqa: PTH108
    try:
        os.link(path, beside, follow_symlinks=False)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        return
    sync_directory(path.parent)


def bring_before(path: Path, text: str) -> bool:
    """Whether the file is again what `keep_before` kept, which must have this text."""
    beside = before(path)
    try:
        if beside.read_text(errors="surrogateescape") != text:
            return False
        os.replace(beside, path)  # noqa: PTH105
    except (FileNotFoundError, NotADirectoryError):
        return False
    sync_directory(path.parent)
    return True


def reserve(path: Path, size: int) -> None:
    """A file of at least this size, of zeros where it grows, whose pages are on the disk. Raises OSError when it is full;
    then a file that was not there before is not there."""
    was_there = path.exists()
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        try:
            if size > os.fstat(descriptor).st_size:
                os.posix_fallocate(descriptor, 0, size)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except BaseException:
        if not was_there:
            os.unlink(path)  # noqa: PTH108
        raise
    sync_directory(path.parent)


def keep_aside(path: Path) -> Path:
    """Move a file out of the way, under a name of its own beside it, and give that: nothing of it is lost."""
    number = 1
    while (aside := path.with_name(f"{path.name}.abandoned-{number}")).exists():
        number += 1
    os.replace(path, aside)  # noqa: PTH105
    sync_directory(path.parent)
    return aside


def remove_whole(path: Path) -> None:
    """Take a file away, and what was left unfinished of it; neither need be there."""
    for file in (unfinished(path), path):
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            os.unlink(file)  # noqa: PTH108 (calls of os: the tests stop the process at each of them)
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        sync_directory(path.parent)


def make_directories(path: Path, top: Path) -> None:
    """A directory below top and those on the way to it, each synced into its parent."""
    missing = []
    while path != top and not path.is_dir():
        missing.append(path)
        path = path.parent
    for directory in reversed(missing):
        with contextlib.suppress(FileExistsError):
            os.mkdir(directory, 0o755)  # noqa: PTH102
        sync_directory(directory.parent)


def remove_if_empty(path: Path) -> bool:
    """Whether the directory is gone; one that holds something, or may not be removed, stays."""
    try:
        os.rmdir(path)  # noqa: PTH106
    except FileNotFoundError:
        return True
    except OSError:
        return False
    sync_directory(path.parent)
    return True


def no_space(path: Path, error: OSError) -> BedplateError:
    """The error to raise when a file of a transaction cannot be written; of a full disk, with the hint to free space."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    return BedplateError(
        f"{path}: cannot be written: {error.strerror}",
        hint=f"Free some space on the file system of {path.parent}." if full else None,
    )
