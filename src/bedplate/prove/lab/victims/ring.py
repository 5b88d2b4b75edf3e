"""Times of the steps of a process, in memory that another process reads while it runs.

A file on tmpfs, mapped by both: writing a step costs no system call and no disk, so that being watched does not make the
loop late. A count, then a ring of times (seconds of CLOCK_MONOTONIC, which all processes share).
"""

from __future__ import annotations

import mmap
import os
import struct
from pathlib import Path

SLOTS = 1 << 20  # 8 MiB of sparse file: 87 minutes at 200 steps a second
_HEAD = struct.Struct("=Qd")  # steps so far; period of one step when nothing is late, 0 until it is calibrated
_TIME = struct.Struct("=d")
_SIZE = _HEAD.size + SLOTS * _TIME.size


class StepRing:
    """One writer, any number of readers."""

    def __init__(self, path: Path, *, create: bool) -> None:
        flags = os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT | os.O_EXCL if create else 0)
        descriptor = os.open(path, flags, 0o600)
        try:
            if create:
                os.ftruncate(descriptor, _SIZE)
            self._memory = mmap.mmap(descriptor, _SIZE)
        finally:
            os.close(descriptor)
        self._count = _HEAD.unpack_from(self._memory)[0]

    def begin(self, period_s: float) -> None:
        """Say how long a step takes when nothing is late."""
        _HEAD.pack_into(self._memory, 0, self._count, period_s)

    def add(self, at_s: float) -> None:
        """One more step, fed at this time."""
        _TIME.pack_into(self._memory, _HEAD.size + self._count % SLOTS * _TIME.size, at_s)
        self._count += 1
        struct.pack_into("=Q", self._memory, 0, self._count)  # after the time: a reader never sees an empty slot

    @property
    def period_s(self) -> float:
        """0 until the writer has calibrated itself."""
        return float(_HEAD.unpack_from(self._memory)[1])

    @property
    def count(self) -> int:
        """Steps since the beginning."""
        return int(_HEAD.unpack_from(self._memory)[0])

    def since(self, first: int) -> tuple[float, ...]:
        """Times of the steps from number `first` on, oldest first; those that the ring has overwritten are left out."""
        end = self.count
        begin = max(first, end - SLOTS + 1, 0)
        return tuple(
            _TIME.unpack_from(self._memory, _HEAD.size + number % SLOTS * _TIME.size)[0] for number in range(begin, end)
        )

    def close(self) -> None:
        """Unmap the memory; the file stays, and its directory's owner removes it."""
        self._memory.close()
