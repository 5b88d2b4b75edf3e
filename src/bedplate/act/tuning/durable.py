"""Files that are whole or not there, whatever ends the process: written beside, synced, renamed, and the directory synced.

A file that was being written when the machine stopped is left under `unfinished(path)`, never under its own name.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def unfinished(path: Path) -> Path:
    """Where a file stands until it is whole. A name that begins with a dot is read by no configuration directory."""
    return path.with_name(f".{path.name}.unfinished")


def write_whole(path: Path, text: str, *, mode: int = 0o644) -> None:
    """Put the text under its name all at once, on the disk when this returns. The directory must be there."""
    beside = unfinished(path)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(beside)  # noqa: PTH108 (calls of os: the tests stop the process at each of them)
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    try:
        write_all(descriptor, text.encode())
        os.fchmod(descriptor, mode)  # whatever the umask is
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    os.replace(beside, path)  # noqa: PTH105
    sync_directory(path.parent)


def remove_whole(path: Path) -> None:
    """Take a file away, and what was left unfinished of it; neither need be there."""
    for one in (unfinished(path), path):
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            os.unlink(one)  # noqa: PTH108
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        sync_directory(path.parent)


def write_all(descriptor: int, data: bytes) -> None:
    """All bytes, in as few calls as the kernel takes."""
    left = memoryview(data)
    while left:
        left = left[os.write(descriptor, left) :]


def sync_directory(path: Path) -> None:
    """Names in a directory are on the disk when this returns."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_directories(path: Path, top: Path) -> None:
    """A directory below top and those on the way to it, each synced into its parent."""
    missing = []
    while path != top and not path.is_dir():
        missing.append(path)
        path = path.parent
    for one in reversed(missing):
        with contextlib.suppress(FileExistsError):
            os.mkdir(one, 0o755)  # noqa: PTH102
        sync_directory(one.parent)


def remove_if_empty(path: Path) -> bool:
    """Whether the directory is gone; one that holds something, or is not ours to remove, stays."""
    try:
        os.rmdir(path)  # noqa: PTH106
    except FileNotFoundError:
        return True
    except OSError:
        return False
    sync_directory(path.parent)
    return True
