"""Partial files: each a prefix of a whole one, locked by who writes it, with a note beside it where no digest is known.

    KEY.part    the prefix; KEY is the digest of the whole file, or that of its address where the source says no digest
    KEY.json    {"validator": "...", "durable_bytes": 123}: of which version it is, and how much of it is on the disk

With a digest the whole file is checked whatever came from where, so that a prefix from another mirror goes on, too. Without
one, only the server's strong validator (ETag) says that the rest belongs to this prefix, and what a power failure may have
taken from it does not count.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bedplate.act.files import write_whole
from bedplate.act.lock import try_lock
from bedplate.act.paths import is_full
from bedplate.errors import BusyError, PreflightError
from bedplate.model.download import RemoteFile
from bedplate.model.units import render_size

FULL_HINT = (
    "Free space (bedplate model rm NAME), then give the same command: it goes on where it stopped."
    " Or move the store with BEDPLATE_STATE_DIR."
)
_KEEP_SIZE = 1  # FALLOC_FL_KEEP_SIZE of linux/falloc.h
_READ_BYTES = 1 << 20


def key_of(file: RemoteFile) -> str:
    """What the partial file of a remote one is called; never a name that a stranger chose."""
    if file.digest is not None:
        return f"{file.digest.kind}-{file.digest.value}"
    return f"address-{hashlib.sha256(file.url.encode()).hexdigest()}"


@dataclass(slots=True, kw_only=True)
class Partial:
    """An open partial file, whose lock is held until it is closed."""

    path: Path
    descriptor: int
    name: str
    """Of the whole file, for messages."""

    @property
    def size_bytes(self) -> int:
        """How much of the whole file is there."""
        return os.fstat(self.descriptor).st_size

    def write(self, view: memoryview, offset: int) -> None:
        """Put a piece where it belongs. Raises PreflightError for a full disk or quota; the prefix stays."""
        try:
            while view:
                count = os.pwrite(self.descriptor, view, offset)
                view, offset = view[count:], offset + count
        except OSError as error:
            raise self.explain(error, offset) from error

    def explain(self, error: OSError, done_bytes: int) -> Exception:
        """The error of a write, for the user where a user can do something about it."""
        if not is_full(error):
            error.filename = error.filename or str(self.path)
            return error
        return PreflightError(
            f"{self.name}: stopped after {render_size(done_bytes)}: {self.path.parent}: {error.strerror}", hint=FULL_HINT
        )

    def read(self) -> Iterator[bytes]:
        """Its bytes from the beginning, in pieces."""
        offset = 0
        while piece := os.pread(self.descriptor, _READ_BYTES, offset):
            yield piece
            offset += len(piece)

    def cut(self, size_bytes: int) -> None:
        """Drop what is behind so many bytes; of a file that has another name, too, all of it."""
        if size_bytes < self.size_bytes:
            if size_bytes == 0 or os.fstat(self.descriptor).st_nlink > 1:
                self.restart()
            else:
                os.ftruncate(self.descriptor, size_bytes)

    def restart(self) -> None:
        """Begin anew, in another file: a whole one may have got a second name meanwhile, whose content must stay."""
        self.path.with_suffix(".json").unlink(missing_ok=True)
        self.path.unlink(missing_ok=True)
        os.close(self.descriptor)
        self.descriptor = _open(self.path, self.name)

    def check_room(self, size_bytes: int) -> None:
        """Raise PreflightError unless the disk and this user's quota take the whole file.

        Asked by reserving it for a moment; where the file system cannot reserve, nothing is known.
        """
        have = self.size_bytes
        if size_bytes <= have:
            return
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.fallocate(self.descriptor, _KEEP_SIZE, ctypes.c_int64(0), ctypes.c_int64(size_bytes)) != 0:
            number = ctypes.get_errno()
            os.ftruncate(self.descriptor, have)
            if number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise PreflightError(
                    f"{self.name}: needs {render_size(size_bytes - have)} more, {self.path.parent}: {os.strerror(number)}",
                    hint=FULL_HINT,
                )
            return
        os.ftruncate(self.descriptor, have)  # gives back what lies behind the end

    def read_note(self) -> tuple[str, int]:
        """(validator, bytes that were on the disk for certain); ("", 0) without a note that can be read."""
        try:
            note = json.loads(self.path.with_suffix(".json").read_bytes()[:4096])
            validator, durable = note["validator"], note["durable_bytes"]
        except (OSError, ValueError, KeyError, TypeError):
            return "", 0
        if not isinstance(validator, str) or type(durable) is not int:
            return "", 0
        return validator, max(0, min(durable, self.size_bytes))

    def write_note(self, validator: str) -> None:
        """Bring what is there to the disk, and note of which version it is."""
        os.fsync(self.descriptor)
        note = {"validator": validator, "durable_bytes": self.size_bytes}
        write_whole(self.path.with_suffix(".json"), json.dumps(note), sync=True)


@contextlib.contextmanager
def open_partial(directory: Path, file: RemoteFile) -> Iterator[Partial]:
    """The partial file of a remote one, made where it is not there. Raises BusyError where another process writes it."""
    path = directory / f"{key_of(file)}.part"
    partial = Partial(path=path, descriptor=_open(path, file.name), name=file.name)
    try:
        yield partial
    finally:
        if partial.path.exists() and partial.size_bytes == 0:
            partial.path.unlink(missing_ok=True)
        os.close(partial.descriptor)


def remove_partial(path: Path) -> None:
    """Remove a partial file and its note; only with its lock held."""
    path.with_suffix(".json").unlink(missing_ok=True)
    path.unlink(missing_ok=True)


def _open(path: Path, name: str) -> int:
    while True:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except PermissionError:  # whole, and sealed by the store that has it under its own name: this name may go
            path.unlink()
            continue
        except OSError as error:
            if is_full(error):
                raise PreflightError(f"{path.parent}: cannot write: {error.strerror}", hint=FULL_HINT) from error
            raise
        if not try_lock(descriptor):
            os.close(descriptor)
            raise BusyError(
                f"{name}: another bedplate is fetching this file", hint="Wait for it to end; then give the command again."
            )
        try:
            if os.path.samestat(os.fstat(descriptor), path.stat()):
                return descriptor
        except FileNotFoundError:
            pass  # its last holder removed it between our open and our lock
        os.close(descriptor)
