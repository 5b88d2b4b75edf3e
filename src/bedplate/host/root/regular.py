"""Opening what must be a regular file: a FIFO would block, a device acts when it is read, and a name may change meanwhile.

Some devices act when they are opened: a watchdog begins to count, and resets the machine. So a name is looked at before it
is opened, and what was opened once more, since a name may mean something else a moment later.
"""

from __future__ import annotations

import errno
import os
import stat
from io import FileIO
from pathlib import Path

from bedplate.errors import ModelRefused


def open_descriptor(path: str | Path) -> int | None:
    """A descriptor of the regular file, wherever links lead; None for anything else, which is not opened. Raises OSError."""
    if not stat.S_ISREG(os.stat(path).st_mode):  # noqa: PTH116 (a Path costs more than the call)
        return None
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    try:
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            return descriptor
    except BaseException:
        os.close(descriptor)
        raise
    os.close(descriptor)
    return None


def open_regular(path: Path, *, within: tuple[Path, ...] = ()) -> FileIO:
    """The file, unbuffered, wherever links lead; with `within` only where it lies below one of these real directories.

    Raises ModelRefused for what is no regular file or lies elsewhere, OSError as open(2) does.
    """
    descriptor = open_descriptor(path)
    if descriptor is None:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        raise ModelRefused(f"{path}: not a regular file")
    try:
        status = os.fstat(descriptor)
        if within:
            # Of the open file itself: no exchange of a link between a check and the open makes it another one.
            lies = Path(os.readlink(f"/proc/self/fd/{descriptor}"))  # noqa: PTH115 (no path of a file system)
            if not any(lies.is_relative_to(directory) for directory in within):
                raise ModelRefused(
                    f"{path}: is a link that leads to {lies}, outside of {' and '.join(map(str, within))}",
                    hint="Remove the link, or put a copy of the file in its place if it belongs to the model.",
                )
            if status.st_nlink > 1 and not status.st_mode & stat.S_IROTH:
                raise ModelRefused(
                    f"{path}: is one of {status.st_nlink} hard links to a file that is not world-readable",
                    hint="Put a copy of the file in its place if it belongs to the model.",
                )
        return FileIO(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise
