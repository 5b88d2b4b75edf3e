"""The door to a machine's files: "/" of this host, or a directory where a machine was recorded."""

from __future__ import annotations

import errno
from dataclasses import dataclass
from pathlib import Path

from bedplate.errors import ReadError

# An attribute that the kernel lists but does not have for this device or in this mode answers with one of these.
_NOT_THERE = (errno.ENOENT, errno.ENOTDIR, errno.ENODEV, errno.ENXIO, errno.EOPNOTSUPP, errno.EINVAL)


@dataclass(frozen=True, slots=True)
class Root:
    """Paths are absolute as on the machine ("/proc/meminfo") and are looked up below `path`."""

    path: Path = Path("/")

    def at(self, where: str) -> Path:
        return self.path / where.lstrip("/")

    def read_text(self, where: str) -> str | None:
        """The text of a file without the white space at its end; None when this machine does not have it."""
        try:
            return self.at(where).read_text(encoding="utf-8", errors="surrogateescape").rstrip()
        except OSError as error:
            if error.errno in _NOT_THERE:
                return None
            raise ReadError(f"{where}: cannot read: {error.strerror}") from error

    def exists(self, where: str) -> bool:
        return self.at(where).exists()

    def listdir(self, where: str) -> tuple[str, ...]:
        """Sorted names in a directory; empty when this machine does not have it."""
        try:
            return tuple(sorted(entry.name for entry in self.at(where).iterdir()))
        except OSError as error:
            if error.errno in _NOT_THERE:
                return ()
            raise ReadError(f"{where}: cannot list: {error.strerror}") from error
