"""Take memory back from control groups: memory.reclaim of Documentation/admin-guide/cgroup-v2.rst (Linux 5.19)."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Sequence

from bedplate.host.root.root import Root
from bedplate.model.room import Reclaim
from bedplate.model.units import MIB

_STEP_BYTES = 64 * MIB  # a write blocks until it is done: small steps keep the time limit
LIMIT_S = 20.0  # to be had before a model loads; what takes longer is not room but a disk that swaps


def reclaim(root: Root, asked: Sequence[Reclaim], *, limit_s: float = LIMIT_S) -> int:
    """Bytes by which the groups became smaller. Ends early when a group has no more to give, or when the time is over.

    A kernel without memory.reclaim gives 0. Raises OSError when the kernel refuses for another reason.
    """
    deadline = time.monotonic() + limit_s
    freed = 0
    for request in asked:
        directory = root.at(f"/sys/fs/cgroup/{request.group}")
        before = _current(root, request.group)
        left = request.size_bytes
        try:
            while left > 0 and time.monotonic() < deadline:
                step = min(left, _STEP_BYTES)
                descriptor = os.open(directory / "memory.reclaim", os.O_WRONLY | os.O_CLOEXEC)
                try:
                    os.write(descriptor, str(step).encode())
                finally:
                    os.close(descriptor)
                left -= step
        except FileNotFoundError:
            return freed
        except OSError as error:
            if error.errno != errno.EAGAIN:  # EAGAIN: less than was asked for could be reclaimed
                raise
        freed += max(0, before - _current(root, request.group))
    return freed


def _current(root: Root, group: str) -> int:
    text = root.read(f"/sys/fs/cgroup/{group}/memory.current").value
    return int(text) if text is not None and text.isdigit() else 0
