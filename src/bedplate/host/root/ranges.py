"""Pieces of one file that stays open while they are read: of a library of gigabytes, only what is asked for is read."""

from __future__ import annotations

import os
from types import TracebackType


class FileRanges:
    """A regular file of a machine, or of an archive, to read pieces of; it is closed at the end of its `with`."""

    def __init__(self, *, descriptor: int | None = None, data: bytes = b"") -> None:
        self._descriptor = descriptor
        self._data = data

    def read(self, offset: int, size: int) -> bytes:
        """Up to `size` bytes from `offset`; fewer, or none, at the end. b"" too where the disk fails to give them."""
        if self._descriptor is None:
            return self._data[offset : offset + size]
        try:
            return os.pread(self._descriptor, size, offset)
        except (OSError, OverflowError):
            return b""

    def __enter__(self) -> FileRanges:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
