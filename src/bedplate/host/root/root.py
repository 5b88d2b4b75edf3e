"""The one door to a machine's files: "/" of this host, a directory where a machine was recorded, or an archive.

Every reader of /proc, /sys and /etc goes through a `Root`, so that a recording is read exactly as a machine is. A kind of
root gives five primitives: `read_bytes`, `open_ranges`, `names`, `readlink` and `resolve`; all else is made of them
(recording.py has the archive, host/record/record.py the root that remembers what was asked).

What it refuses: files past a bound (a text of the kernel is small; a file of gigabytes is an attack or a mistake), anything
that is not a regular file (a FIFO would block, a device may act when it is read), and, below a directory that is not "/",
links that lead out of it: they are followed as in a chroot.
"""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from bedplate.errors import ReadError
from bedplate.host.root.cpu_lists import CpuSets
from bedplate.host.root.links import Links
from bedplate.host.root.ranges import FileRanges
from bedplate.host.root.regular import open_descriptor
from bedplate.model.facts.reading import Reading, Unknown, known, missing

# An attribute that the kernel lists but does not have for this device or in this mode answers with one of these; ESRCH is a
# process that ended between two reads.
_NOT_THERE = (
    *(errno.ENOENT, errno.ENOTDIR, errno.ENODEV, errno.ENXIO, errno.EOPNOTSUPP, errno.EINVAL),
    *(errno.ESRCH, errno.ENAMETOOLONG, errno.ENOSYS),
)
_DENIED = (errno.EACCES, errno.EPERM)

# /proc/interrupts of a machine with 512 CPUs and some 2000 vectors is about 11 MB, the largest text that a reader asks for.
TEXT_LIMIT = 16 << 20  # bytes
NAMES_LIMIT = 262_144  # names in one directory; pid_max of a large machine is 4 million, processes that run are fewer
_SHOWN = 80  # characters of a malformed text
_WHOLE = Path("/")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Root:
    """Paths are absolute as on the machine ("/proc/meminfo") and are looked up below `path`."""

    path: Path = Path("/")
    absent: Unknown = Unknown.ABSENT
    """What a file that is not there means: ABSENT, or NOT_RECORDED in a recording that does not hold all."""
    _links: Links = field(default_factory=Links, init=False, repr=False, compare=False)
    """Of a recorded tree, which stays as it is while it is read."""

    @property
    def is_live(self) -> bool:
        """Whether this root is the running machine: a vendor's library, which knows no root directory, describes it."""
        return self.path == _WHOLE

    cpu_sets: CpuSets = field(default_factory=CpuSets, init=False, repr=False, compare=False)

    def at(self, where: str) -> Path:
        """The file itself, for who must write or map it; links are not looked at. Raises ReadError for an archive."""
        return self.path / where.lstrip("/")

    # -- primitives: what each kind of root does its own way

    def read_bytes(self, where: str, limit: int = TEXT_LIMIT) -> Reading[bytes]:
        """The first `limit` bytes of a regular file. Never raises for what the machine says: the reading tells why."""
        try:
            descriptor = open_descriptor(self._real(where))
        except (OSError, ValueError) as error:
            return self._unknown(where, error)
        if descriptor is None:
            return missing(Unknown.MALFORMED, where, "is not a regular file")
        try:
            return known(_read_all(descriptor, limit), where, "bytes")
        except OSError as error:
            return self._unknown(where, error)
        finally:
            os.close(descriptor)

    def open_ranges(self, where: str) -> Reading[FileRanges]:
        """A regular file to read pieces of; whoever gets a value closes it. Reasons as for `read_bytes`.

        For files that are too large to be read whole, such as a library of gigabytes; a recording does not hold them.
        """
        try:
            descriptor = open_descriptor(self._real(where))
        except (OSError, ValueError) as error:
            return self._unknown(where, error)
        if descriptor is None:
            return missing(Unknown.MALFORMED, where, "is not a regular file")
        return known(FileRanges(descriptor=descriptor), where, "ranges")

    def names(self, where: str) -> Reading[tuple[str, ...]]:
        """Sorted names in a directory, or why they are not known: ABSENT, DENIED, or MALFORMED past a bound."""
        found: list[str] = []
        try:
            with os.scandir(self._real(where)) as entries:
                for entry in entries:
                    found.append(entry.name)
                    if len(found) > NAMES_LIMIT:
                        return missing(Unknown.MALFORMED, where, f"holds more than {NAMES_LIMIT} names")
        except (OSError, ValueError) as error:
            return self._unknown(where, error)
        return known(tuple(sorted(found)), where, f"{len(found)} names")

    def readlink(self, where: str) -> str | None:
        """Target of a symbolic link as it is written; None where it is no link, is not there, or is denied."""
        parent, _, name = where.rstrip("/").rpartition("/")
        try:
            return os.readlink(f"{self._real(parent or '/')}/{name}")  # noqa: PTH115 (a Path costs more than the call)
        except (OSError, ValueError):
            return None

    def resolve(self, where: str) -> str | None:
        """The path with all links followed ("/sys/class/net/eth0" -> "/sys/devices/..."); None when it is not there."""
        if self._is_whole_machine:
            try:
                return os.path.realpath(where, strict=True)
            except (OSError, ValueError):
                return None
        try:
            path = self.follow(where)
            return path if os.path.lexists(self._below(path)) else None
        except (OSError, ValueError):
            return None

    # -- made of the primitives

    def read(self, where: str, *, limit: int = TEXT_LIMIT) -> Reading[str]:
        """The text of a file without the white space and NUL bytes at its end, or why there is none.

        ABSENT: not there, or the kernel says that this device does not have it. DENIED: this user may not. MALFORMED: longer
        than `limit` bytes, NUL bytes inside, not a regular file, or the kernel failed to answer; `text` says which. Bytes
        that are not UTF-8 stand as \\xNN. NOT_RECORDED: only a recording says so.
        """
        raw = self.read_bytes(where, limit + 1)
        if raw.value is None:
            return Reading(value=None, source=where, unknown=raw.unknown, text=raw.text)
        if len(raw.value) > limit:
            return missing(Unknown.MALFORMED, where, f"is longer than {limit} bytes")
        text = raw.value.decode("utf-8", errors="backslashreplace").rstrip("\0 \t\r\n\v\f")
        if "\0" in text:
            return missing(Unknown.MALFORMED, where, "holds NUL bytes: " + text[:_SHOWN].replace("\0", "\\0"))
        return Reading(value=text, source=where, text=text[:_SHOWN])

    def read_text(self, where: str) -> str | None:
        """The text of a file without the white space at its end; None when this machine does not have it.

        For readers without which nothing goes on: raises ReadError when it is denied or malformed. Others use `read`.
        """
        raw = self.read_bytes(where, TEXT_LIMIT + 1)
        if raw.value is not None:
            if len(raw.value) > TEXT_LIMIT:
                raise ReadError(f"{where}: is longer than {TEXT_LIMIT} bytes")
            return raw.value.decode("utf-8", errors="surrogateescape").rstrip()
        if raw.unknown in (Unknown.ABSENT, Unknown.NOT_RECORDED):
            return None
        raise ReadError(f"{where}: cannot read: {raw.text or 'Permission denied'}")

    def listdir(self, where: str) -> tuple[str, ...]:
        """Sorted names in a directory; empty when this machine does not have it, and when it is denied (see `names`)."""
        return self.names(where).value or ()

    def exists(self, where: str) -> bool:
        """Whether a file or directory is there, with links followed; False too where a directory above it is denied."""
        return self.resolve(where) is not None

    def end_of_links(self, where: str) -> str:
        """Where a chain of links leads in the end, whether or not that is there: a recording does not hold a library itself.

        A chain of more than eight links leads to the eighth.
        """
        for _ in range(8):
            target = self.readlink(where)
            if target is None:
                break
            where = target if target.startswith("/") else f"{where.rpartition('/')[0]}/{target}"
        return where

    # -- how a path is found

    @property
    def _is_whole_machine(self) -> bool:
        return self.path == _WHOLE

    def _real(self, where: str) -> str:
        """The path on this host to open; OSError for a loop of links."""
        if self._is_whole_machine:
            return where
        return self._below(self.follow(where))

    def follow(self, where: str) -> str:
        """The path without links, never above the top; OSError (ELOOP) for a loop of links. Not for the whole machine."""
        return self._links.follow(where, self._link_of)

    def _below(self, where: str) -> str:
        return f"{self.path}/{where.lstrip('/')}"

    def _link_of(self, where: str) -> str | None:
        try:
            return os.readlink(self._below(where))  # noqa: PTH115
        except OSError:
            return None

    def _unknown(self, where: str, error: OSError | ValueError) -> Reading[T]:
        if isinstance(error, ValueError):  # a NUL byte in the path
            return missing(self.absent, where)
        if error.errno in _DENIED:
            return missing(Unknown.DENIED, where, error.strerror or "")
        if error.errno in _NOT_THERE:
            return missing(self.absent, where)
        return missing(Unknown.MALFORMED, where, error.strerror or str(error))


def _read_all(descriptor: int, limit: int) -> bytes:
    """Up to limit bytes: files of /proc give a page or so at a time and say nothing of their size."""
    chunk = os.read(descriptor, min(limit, 65536))
    if len(chunk) == 0 or len(chunk) == limit:
        return chunk
    parts, size = [chunk], len(chunk)
    while size < limit and (chunk := os.read(descriptor, min(limit - size, 1 << 20))):
        parts.append(chunk)
        size += len(chunk)
    return b"".join(parts)
