"""What the beginnings of files that are not there yet say of a model, by the readers of whole files.

A beginning is put into a sparse file of the whole file's length, under its own name. Its header then means the same as
later, and what an engine cannot serve is refused after megabytes.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, cast

from bedplate.errors import ModelRefused
from bedplate.weights.gguf import MAX_HEADER_BYTES, parse_gguf_file
from bedplate.weights.safetensors import parse_safetensors

_FIRST_BYTES = 1 << 20  # more than the header of a part of a split model, or of most safetensors
_GROWTH = 4
_MOST_BYTES = 2 * MAX_HEADER_BYTES


class _TooShort(Exception):
    """A reader wants what is behind the beginning."""


class _Beginning(io.RawIOBase):
    """The first bytes of a file that claims its whole length."""

    def __init__(self, data: bytes, size_bytes: int) -> None:
        self._data, self._size, self._position = data, size_bytes, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        self._position = offset + (0, self._position, self._size)[whence]
        return self._position

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        end = min(self._position + len(buffer), self._size)
        if end > len(self._data):
            raise _TooShort
        count = max(0, end - self._position)
        buffer[:count] = self._data[self._position : end]
        self._position += count
        return count


def need_beginning(path: Path, size_bytes: int, extend: Callable[[int], None]) -> None:
    """Have as much of a file as its header takes, or all of it: extend(n) makes the first n bytes be at the path.

    Says nothing of what is wrong with a header: that do the readers of whole files.
    """
    wanted = min(_FIRST_BYTES, size_bytes)
    while True:
        extend(wanted)
        with path.open("rb") as file:
            data = file.read(wanted)
        if wanted >= size_bytes or wanted >= _MOST_BYTES:
            return
        reader = cast(BinaryIO, _Beginning(data, size_bytes))
        try:
            if data.startswith(b"GGUF"):
                parse_gguf_file(reader, path.name)
            elif data[8:9] == b"{":
                parse_safetensors(reader, path.name)
            return
        except _TooShort:
            wanted = min(wanted * _GROWTH, size_bytes)
        except ModelRefused:
            return


def write_sparse(path: Path, beginning: Path, size_bytes: int) -> None:
    """A file of that length which begins as another one; what is behind takes no space."""
    with beginning.open("rb") as source, path.open("xb") as target:
        target.write(source.read(min(_MOST_BYTES, size_bytes)))
        target.truncate(size_bytes)
