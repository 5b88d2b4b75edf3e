"""One holder at a time: flock on a file of the state directory, with the holder's verb and process id written in it.

The kernel drops the lock when its holder ends, however it ends, so a stale lock cannot exist: a file left by a killed
process locks nothing. The file is never removed; removing it would let two holders lock two files of one name.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

from bedplate.act.paths import Paths
from bedplate.errors import BusyError


@contextmanager
def hold_lock(paths: Paths, verb: str) -> Iterator[None]:
    """Hold the lock of everything that changes cache or state; raises BusyError naming the holder's verb, process and start.

    Programs started inside the block do not inherit the lock (the descriptor closes on exec).
    """
    path = paths.state / "lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder, pid = _read_holder(descriptor)
            raise BusyError(
                f"{path}: held by {holder}", hint=f"Wait for it to end, or end it with: kill -INT {pid}" if pid else None
            ) from error
        os.ftruncate(descriptor, 0)
        text = json.dumps({"verb": verb, "pid": os.getpid(), "since": time.strftime("%H:%M:%S")})
        os.pwrite(descriptor, text.encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _read_holder(descriptor: int) -> tuple[str, int | None]:
    try:
        holder = json.loads(os.pread(descriptor, 4096, 0))
        return f"`bedplate {holder['verb']}` (process {holder['pid']}, since {holder['since']})", int(holder["pid"])
    except (ValueError, KeyError, TypeError):  # between its flock and its write
        return "another bedplate process", None
