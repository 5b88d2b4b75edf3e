"""One holder at a time: flock on a file of the state directory, with the holder's verb and process id written in it.

The cache has a file of its own, since several state directories may share it; who holds both took the state's first. The
kernel drops the lock when its holder ends, however it ends, so a stale lock cannot exist: a file left by a killed process
locks nothing. bedplate never removes the files, since two could then lock two files of one name; and each looks its file up
again once it is locked, in case somebody else did.

`wait_lock` and `try_lock` are the two calls below all locks of bedplate; the model store, tuning and serving have files of
their own, which they lock with them.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from bedplate.act.paths import Paths
from bedplate.errors import BusyError
from bedplate.model.progress import Progress

_POLL_S = 0.2


@contextmanager
def hold_lock(paths: Paths, verb: str, *, wait_s: float = 0) -> Iterator[None]:
    """Hold the lock of everything that changes cache or state; raises BusyError naming the holder's verb, process and start.

    wait_s: how long to wait for another holder before that, for verbs that several programs may run at once.

    Programs started inside the block do not inherit the lock (the descriptor closes on exec).
    """
    path = paths.state / "lock"
    with _hold_now(path, f"`bedplate {verb}`", lambda holder: f"{path}: held by {holder}", wait_s):
        yield


@contextmanager
def hold_cache(paths: Paths, progress: Progress, *, what: str) -> Iterator[None]:
    """Hold the cache, where several state directories build in the same places; waits for its holder, and says so.

    what: what is done in the cache meanwhile, for those who wait ("the build of an image"). Not to be taken twice by one
    process: the second would wait for the first.
    """
    path, told = paths.cache / "lock", False
    while True:
        descriptor = _open(path)
        try:
            while not try_lock(descriptor):
                if not told:
                    holder, _ = _read_holder(descriptor)
                    progress.note(f"{paths.cache}: used by {holder}: waiting for it to end")
                    told = True
                time.sleep(_POLL_S)
            if _is_at(path, descriptor):
                _write_holder(descriptor, what)
                yield
                return
        finally:
            os.close(descriptor)


@contextmanager
def hold_cache_now(paths: Paths, *, what: str) -> Iterator[None]:
    """Hold the cache like `hold_cache`, but raise BusyError naming the holder where that would wait."""
    with _hold_now(paths.cache / "lock", what, lambda holder: f"{paths.cache}: used by {holder}"):
        yield


@contextmanager
def _hold_now(path: Path, what: str, explain: Callable[[str], str], wait_s: float = 0) -> Iterator[None]:
    end = time.monotonic() + wait_s
    while True:
        descriptor = _open(path)
        try:
            while not try_lock(descriptor):
                if time.monotonic() < end:
                    time.sleep(_POLL_S)
                    continue
                holder, pid = _read_holder(descriptor)
                raise BusyError(
                    explain(holder), hint=f"Wait for it to end, or end it with: kill -INT {pid}" if pid else None
                )
            if _is_at(path, descriptor):
                _write_holder(descriptor, what)
                yield
                return
        finally:
            os.close(descriptor)


def _open(path: Path) -> int:
    path.parent.mkdir(parents=True, exist_ok=True)
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def wait_lock(descriptor: int) -> None:
    """Take an exclusive flock(2), and wait for its holder. It ends when the descriptor is closed, or with the process."""
    fcntl.flock(descriptor, fcntl.LOCK_EX)


def try_lock(descriptor: int) -> bool:
    """Take an exclusive flock(2) where that needs no waiting; False where somebody else has it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _write_holder(descriptor: int, what: str) -> None:
    text = json.dumps({"what": what, "pid": os.getpid(), "since": time.strftime("%H:%M:%S")})
    with contextlib.suppress(OSError):  # held without the text, too: on a full disk `down` and `clean` are the way out
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, text.encode(), 0)


def _read_holder(descriptor: int) -> tuple[str, int | None]:
    try:
        holder = json.loads(os.pread(descriptor, 4096, 0))
        return f"{holder['what']} (process {holder['pid']}, since {holder['since']})", int(holder["pid"])
    except (ValueError, KeyError, TypeError):  # between its flock and its write
        return "another bedplate process", None
