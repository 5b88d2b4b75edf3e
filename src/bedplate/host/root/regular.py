"""Opening what must be a regular file: a FIFO would block, a device acts when it is read, and a name may change meanwhile.

What was opened is looked at, not what the name meant a moment before.
"""

from __future__ import annotations

import errno
import os
import stat
from io import FileIO
from pathlib import Path

from bedplate.errors import ModelRefused


def open_regular(path: Path, *, within: tuple[Path, ...] = ()) -> FileIO:
    """The file, unbuffered, wherever links lead; with `within` only where it lies below one of these real directories.

    Raises ModelRefused for what is no regular file or lies elsewhere, OSError as open(2) does.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    try:
        status = os.fstat(descriptor)
        if stat.S_ISDIR(status.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if not stat.S_ISREG(status.st_mode):
            raise ModelRefused(f"{path}: not a regular file")
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
