"""The directory in which imported bundles lie: one change at a time, each bundle a whole file or not there.

A bundle is one file whatever rows it has, so that a process killed at any moment leaves the old one or the new one. What is
left beside it then has a name that begins with a dot, which no loader reads, and the next change removes it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bedplate.act.files import naming, sync_directory, write_whole
from bedplate.act.lock import try_lock
from bedplate.errors import BusyError


@contextmanager
def hold_bundles(directory: Path) -> Iterator[None]:
    """Hold the directory, which is made where it is missing. Raises BusyError where another process changes it, OSError."""
    directory.mkdir(parents=True, exist_ok=True)
    with naming(directory):
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if not try_lock(descriptor):
            raise BusyError(f"{directory}: another bedplate process changes it", hint="Wait until it has ended.")
        for left_over in directory.glob(".*.unfinished"):
            with contextlib.suppress(FileNotFoundError):
                left_over.unlink()
        yield
    finally:
        os.close(descriptor)


def put_bundle(directory: Path, name: str, text: str) -> Path:
    """Put the bundle into its place at once, on the disk when this returns. Raises OSError, and the old one stays then."""
    path = directory / f"{name}.toml"
    write_whole(path, text, sync=True)
    return path


def drop_bundle(directory: Path, name: str) -> None:
    """Remove the bundle, on the disk when this returns. Raises OSError."""
    (directory / f"{name}.toml").unlink()
    sync_directory(directory)
