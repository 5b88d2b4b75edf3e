"""Where a transaction writes: this boot only, below /run, or for all boots, below /etc. And the lock over both."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bedplate.act.tuning.durable import make_directories, remove_if_empty
from bedplate.errors import BusyError, PreflightError, UsageError
from bedplate.host.root import Root

RUNTIME_STATE = "/run/bedplate/tune"
PERSISTENT_STATE = "/var/lib/bedplate/tune"
_LOCK = "/run/bedplate/tune.lock"
_POLL_S = 0.2  # of a lock that is waited for
_LABEL_FIRST = "tune"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Paths without a root are as on the machine; `at` puts them below it."""

    top: Path
    """"/", or the tree of a test."""
    persist: bool
    state: str
    """Directory of the journal. Another one than the usual is a transaction of its own over the first (prove's arms): its
    drop-ins sort after, so that they win while they are there."""

    @property
    def root(self) -> Root:
        return Root(self.top)

    @property
    def units(self) -> str:
        """Where generated units and drop-ins go."""
        return "/etc/systemd/system" if self.persist else "/run/systemd/system"

    @property
    def is_usual(self) -> bool:
        """Whether it is the machine's own transaction; only that one keeps a log."""
        return self.state in (RUNTIME_STATE, PERSISTENT_STATE)

    @property
    def stem(self) -> str:
        """First part of the names of generated files."""
        label = self.state.rpartition("/")[2]
        return "80-bedplate" if label == _LABEL_FIRST else f"85-bedplate-{label}"

    @property
    def journal(self) -> Path:
        return self.at(f"{self.state}/journal")

    @property
    def applied(self) -> Path:
        return self.at(f"{self.state}/applied.json")

    @property
    def log(self) -> Path:
        return self.at(f"{self.state}/log")

    def at(self, where: str) -> Path:
        return self.top / where.lstrip("/")


def make_place(top: Path = Path("/"), *, persist: bool = False, state: str | None = None) -> Place:
    """The place of a mode. Raises UsageError for a state directory that is not an absolute path."""
    where = state if state is not None else PERSISTENT_STATE if persist else RUNTIME_STATE
    if not where.startswith("/") or ".." in where.split("/"):
        raise UsageError(f"{where!r}: the directory of the journal must be an absolute path")
    return Place(top=top, persist=persist, state=where.rstrip("/"))


@contextlib.contextmanager
def hold_tune_lock(top: Path, *, wait_s: float = 0.0) -> Iterator[None]:
    """One at a time on this host, whatever the mode; raises BusyError naming the holder when it still holds after wait_s.

    The lock file is taken away at the end, so that nothing is left behind. Two holders of two files of one name cannot be:
    who got a lock looks whether the name still means the file that it locked.
    """
    path = top / _LOCK.lstrip("/")
    descriptor = _take_within(path, top, wait_s)
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        yield
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)  # noqa: PTH108
        os.close(descriptor)
        remove_if_empty(path.parent)


def _take_within(path: Path, top: Path, wait_s: float) -> int:
    deadline = time.monotonic() + wait_s
    while True:
        try:
            return _take(path, top)
        except BusyError:
            if time.monotonic() >= deadline:
                raise
        time.sleep(_POLL_S)


def _take(path: Path, top: Path) -> int:
    while True:
        try:
            make_directories(path.parent, top)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        except FileNotFoundError:
            continue  # another holder has just tidied up
        except PermissionError as error:
            raise PreflightError(f"{path}: {error.strerror}: tuning needs root", hint="Run it with sudo.") from error
        except OSError as error:
            raise PreflightError(f"{path}: cannot take the lock: {error.strerror}") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.stat(path, follow_symlinks=False).st_ino == os.fstat(descriptor).st_ino:  # noqa: PTH116
                return descriptor
        except BlockingIOError as error:
            holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip() or "another"
            os.close(descriptor)
            raise BusyError(f"{path}: held by process {holder}", hint="Wait for it to end.") from error
        except FileNotFoundError:
            pass
        os.close(descriptor)
