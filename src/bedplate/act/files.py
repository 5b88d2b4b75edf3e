"""The one way to write a whole file: beside the target, then renamed over it, so that the name never means half a file.

`write_whole` is for files of bedplate's own (state, caches, generated configuration), `write_report` for a file that the
user named. They differ in what they do with a name that is no regular file: renaming over it would replace a device node or
a symbolic link, and for root that can be the host's own /dev/null.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import secrets
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

_CHUNK_BYTES = 1 << 20
_MOST_LINKS = 40  # the kernel's own bound, path_resolution(7)
_KINDS = {
    stat.S_IFDIR: (errno.EISDIR, "is a directory"),
    stat.S_IFLNK: (errno.ELOOP, "is a symbolic link, which bedplate does not follow"),
    stat.S_IFBLK: (errno.EINVAL, "is a block device"),
    stat.S_IFSOCK: (errno.ENXIO, "is a socket"),
    stat.S_IFIFO: (errno.EINVAL, "is a pipe"),
    stat.S_IFCHR: (errno.EINVAL, "is a character device"),
}


def write_whole(path: Path, data: str | bytes, *, sync: bool, mode: int = 0o644, beside: Path | None = None) -> None:
    """Put the data under the name all at once, with exactly this mode; the directory must be there.

    sync: file and name are on the disk when this returns. beside: where the file stands until it is whole, for callers
    that hold a lock and clean up after a kill; by default a name that nobody else has. Raises OSError with the path; a
    target that is no regular file is refused, a symbolic link too: nobody has a reason to put one there, and following it
    would let whoever can write to the directory choose the file that is overwritten.
    """
    with naming(path):
        kind = _kind(path)
        if kind is not None and kind != stat.S_IFREG:
            raise _refusal(path, kind)
        _replace(path, _bytes(data), mode=mode, exact=True, sync=sync, beside=beside or _beside(path))


def write_report(path: Path, data: str | bytes, *, mode: int | None = None) -> None:
    """Write a file that the user named: a regular file all at once or not at all; into a device, a pipe or /dev/stdout.

    A symbolic link is followed, and the file that it leads to is replaced, as `>` of a shell would; the kernel's rules for
    links of other users hold (fs.protected_symlinks). mode: None keeps that of the file that is there, else takes 0666
    less the umask. Raises OSError with the path: also for a block device, a socket, a directory, a link that leads nowhere
    and a pipe that nobody reads.
    """
    with naming(path):
        own = _own_descriptor(path)
        if own is not None:  # opened again, a redirected file would be written from its beginning
            _write_into(os.dup(own), _bytes(data))
            return
        kind = _kind(path)
        target = path
        if kind in (stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO):
            try:
                descriptor = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
            except OSError as error:
                raise _explain_open(error, path, kind) from error
            behind = stat.S_IFMT(os.fstat(descriptor).st_mode)
            if behind in (stat.S_IFCHR, stat.S_IFIFO):
                os.set_blocking(descriptor, True)
                _write_into(descriptor, _bytes(data))
                return
            kind, target = behind, Path(f"/proc/self/fd/{descriptor}").readlink()
            there = os.fstat(descriptor)
            os.close(descriptor)
            if kind == stat.S_IFREG and not os.path.samestat(there, target.lstat()):
                raise OSError(errno.ESTALE, "was replaced while it was being checked", str(path))
        if kind is not None and kind != stat.S_IFREG:
            raise _refusal(path, kind)
        if mode is None and kind is not None:
            mode = stat.S_IMODE(target.lstat().st_mode)
        _replace(
            target,
            _bytes(data),
            mode=0o666 if mode is None else mode,
            exact=mode is not None,
            sync=True,
            beside=_beside(target),
        )


def check_report(path: Path) -> None:
    """Raise the OSError of `write_report` for what can be known before: a missing or locked directory, a name that is taken
    by a directory. For a report that is made for minutes before it is written. What is no plain file is left to the end."""
    with naming(path):
        kind = _kind(path)
        if _own_descriptor(path) is not None or kind in (stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO):
            return
        if kind is not None and kind != stat.S_IFREG:
            raise _refusal(path, kind)
        if not path.parent.is_dir():
            raise OSError(errno.ENOENT, f"{path.parent} is not a directory", str(path))
        if not os.access(path.parent, os.W_OK | os.X_OK):
            raise OSError(errno.EACCES, f"{path.parent} cannot be written", str(path))


def digest_file(path: Path, *, on_read: Callable[[int], None] | None = None) -> str:
    """SHA-256 of a whole file, 64 hexadecimal digits. on_read: called with the bytes read so far. Raises OSError."""
    digest = hashlib.sha256()
    done = 0
    with path.open("rb", buffering=0) as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
            done += len(chunk)
            if on_read is not None:
                on_read(done)
    return digest.hexdigest()


def write_all(descriptor: int, data: bytes) -> None:
    """All bytes, in as few calls as the kernel takes."""
    left = memoryview(data)
    while left:
        left = left[os.write(descriptor, left) :]


def sync_directory(path: Path) -> None:
    """Names in a directory are on the disk when this returns."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _replace(path: Path, data: bytes, *, mode: int, exact: bool, sync: bool, beside: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(beside)  # noqa: PTH108 (calls of os: the tests stop the process at each of them)
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    try:
        try:
            write_all(descriptor, data)
            if exact:
                os.fchmod(descriptor, mode)  # whatever the umask is
            if sync:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(beside, path)  # noqa: PTH105
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(beside)  # noqa: PTH108
        raise
    if sync:
        sync_directory(path.parent)


def _beside(path: Path) -> Path:
    """A name in the directory of path that nobody else has, hidden, and short enough whatever path is called."""
    return path.with_name(f".{secrets.token_hex(8)}.unfinished")


def _bytes(data: str | bytes) -> bytes:
    return data.encode() if isinstance(data, str) else data


def _kind(path: Path) -> int | None:
    try:
        return stat.S_IFMT(path.lstat().st_mode)
    except FileNotFoundError:
        return None


def _refusal(path: Path, kind: int) -> OSError:
    number, text = _KINDS[kind]
    return OSError(number, text, str(path))


def _explain_open(error: OSError, path: Path, kind: int) -> OSError:
    if error.errno == errno.ENXIO and kind == stat.S_IFIFO:
        return OSError(errno.ENXIO, "is a pipe that no process reads", str(path))
    if error.errno == errno.ENOENT and kind == stat.S_IFLNK:
        return OSError(errno.ENOENT, "is a dangling symbolic link", str(path))
    return error


def _own_descriptor(path: Path) -> int | None:
    """The number behind /dev/stdout, /dev/fd/3 or a link to one of them; None for any other name."""
    for _ in range(_MOST_LINKS):
        parent = os.path.realpath(path.parent)
        if re.fullmatch(rf"/proc/{os.getpid()}(/task/\d+)?/fd", parent) and path.name.isdecimal():
            return int(path.name)
        here = Path(parent) / path.name
        if not here.is_symlink():
            return None
        path = Path(parent) / here.readlink()
    return None


def _write_into(descriptor: int, data: bytes) -> None:
    try:
        write_all(descriptor, data)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Put the path into an OSError that names no file: those of write(2) and fsync(2) do not."""
    try:
        yield
    except OSError as error:
        if error.filename is None or str(error.filename).endswith(".unfinished"):
            error.filename = str(path)
        error.filename2 = None
        raise
