"""Where a transaction writes: this boot only, below /run, or for all boots, below /etc. And the lock over both."""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bedplate.act.durable import make_directories, remove_if_empty
from bedplate.act.lock import try_lock
from bedplate.errors import BusyError, PreflightError, UsageError
from bedplate.host.root.root import Root

RUNTIME_STATE = "/run/bedplate/tune"
PERSISTENT_STATE = "/var/lib/bedplate/tune"
_LOCK = "/run/bedplate/tune.lock"
_NAME_BYTES = 16  # of the holder's id in the lock file, padded: a second holder's needs no page more
_POLL_S = 0.2  # of a lock that is waited for
_TRIES = 100  # each is lost only to a holder that tidies up in that very moment
_LABEL_FIRST = "tune"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """One transaction's directories and its mode. Paths without a root are as on the machine; `at` puts them below it."""

    top: Path
    """"/", or the tree of a test."""
    persist: bool
    state: str
    """Directory of the journal. Another one than the usual is a transaction of its own over the first (prove's arms): its
    drop-ins sort after, so that they win while they are there."""

    @property
    def root(self) -> Root:
        """Readers of the machine, or of the tree of a test."""
        return Root(self.top)

    @property
    def units(self) -> str:
        """Directory of generated units and drop-ins, as on the machine: systemd forgets that below /run at a boot."""
        return "/etc/systemd/system" if self.persist else "/run/systemd/system"

    @property
    def is_usual(self) -> bool:
        """Whether it is the machine's own transaction; only that one keeps a log."""
        return self.state in (RUNTIME_STATE, PERSISTENT_STATE)

    @property
    def stem(self) -> str:
        """First part of the names of generated files: "80-bedplate"; of an arm 85, so that its files are read after them."""
        label = self.state.rpartition("/")[2]
        return "80-bedplate" if label == _LABEL_FIRST else f"85-bedplate-{label}"

    @property
    def journal(self) -> Path:
        """File of the transaction that runs or was interrupted; not there between transactions."""
        return self.at(f"{self.state}/journal")

    @property
    def reserve(self) -> Path:
        """Space on the disk for the journal of an undo, taken when a plan is applied."""
        return self.at(f"{self.state}/reserve")

    @property
    def applied(self) -> Path:
        """File that says what is in force by this place. It appears, changes and goes at a commit, all at once."""
        return self.at(f"{self.state}/applied.json")

    @property
    def log(self) -> Path:
        """File with a line of JSON for everything that was done, undone and recovered; only usual places have one."""
        return self.at(f"{self.state}/log")

    def at(self, where: str) -> Path:
        """Where a path of the machine lies below `top`: "/etc/a" -> top/etc/a. Links in it are not resolved."""
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

    The lock file is taken away at the end unless something is applied: what takes it back then needs no new file on a full
    disk. Two holders of two files of one name cannot be: who got a lock looks whether the name still means the file that it
    locked.
    """
    path = top / _LOCK.lstrip("/")
    descriptor = _take_within(path, top, wait_s)
    try:
        with contextlib.suppress(OSError):  # a full disk: the holder has no name then
            os.pwrite(descriptor, str(os.getpid()).encode().ljust(_NAME_BYTES), 0)
        yield
    finally:
        places = [make_place(top, persist=persist) for persist in (False, True)]
        if not any(file.exists() for place in places for file in (place.applied, place.journal)):
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
    if not top.is_dir():
        raise UsageError(f"{top}: no such directory")
    for _ in range(_TRIES):
        try:
            make_directories(path.parent, top)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        except FileNotFoundError:
            continue  # another holder has just tidied up
        except PermissionError as error:
            raise PreflightError(f"{path}: {error.strerror}: tuning needs root", hint="Run it with sudo.") from error
        except OSError as error:
            hint = "Free some space there." if error.errno in (errno.ENOSPC, errno.EDQUOT) else None
            raise PreflightError(f"{path}: cannot take the lock: {error.strerror}", hint=hint) from error
        if not try_lock(descriptor):
            holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip() or "another"
            os.close(descriptor)
            raise BusyError(f"{path}: held by process {holder}", hint="Wait for it to end.")
        with contextlib.suppress(FileNotFoundError):
            if os.stat(path, follow_symlinks=False).st_ino == os.fstat(descriptor).st_ino:  # noqa: PTH116
                return descriptor
        os.close(descriptor)
    raise PreflightError(
        f"{path}: cannot take the lock: the file disappears as soon as it is created",
        hint=f"Check that {path.parent} and the directories above it exist and are not dangling links.",
    )
