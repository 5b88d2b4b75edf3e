"""A recorded machine as a `Root`: a directory, a tar (plain, gz, bz2, xz, zst) or a ttar, read safely into memory.

A recording may come from anybody. Links are followed inside it only; an archive is never unpacked to a disk; what is past
a bound is refused by a ReadError. Sizes are bounded after decompression, so a bomb ends at the bound.

A recording that bedplate made has MANIFEST.json beside the tree root/ and says of each path that was asked whether it was
absent or denied. Others (hwloc-gather-topology) hold what their maker took: what they lack is NOT_RECORDED, never ABSENT.
"""

from __future__ import annotations

import errno
import io
import os
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from bedplate.errors import NoMachineError, ReadError
from bedplate.host.root.jsontext import parse_json
from bedplate.host.root.pipe import read_pipe
from bedplate.host.root.ranges import FileRanges
from bedplate.host.root.root import TEXT_LIMIT, Root
from bedplate.host.root.tar import Member, MemberKind, Read, is_tar, read_tar, read_ttar
from bedplate.host.root.zstd import ZSTD_MAGIC, open_zstd
from bedplate.model.facts.reading import Reading, Unknown, known, missing

MANIFEST = "MANIFEST.json"
TREE = "root"
SCHEMA = 1
ARCHIVE_LIMIT = 256 << 20  # bytes after decompression
CONTENT_LIMIT = (
    64 << 20
)  # bytes of the files that are kept, with their names; a server with 8 GPUs and 200 CPUs has some 10 MB
DIRECTORIES_LIMIT = 100_000  # a whole /sys of such a server has some 30 000
_MANIFEST_LIMIT = 32 << 20  # bytes
_XZ_MEMORY = 128 << 20  # bytes; xz -9 needs 65 MB to decompress
_CHUNK = 1 << 18
_BLOCK, _USTAR_AT = 512, 257  # bytes; of a tar header (tar(5)) and its magic
_ROW = 64  # bytes that a member costs beside its name and content, at the least
EXPECTED = "Give what bedplate record made, or a directory or archive (tar; gzip, bzip2, xz, zstd) of /proc and /sys."
# What may stand at the top of a machine; one other directory there is the archive's own name and is left out.
_DEEPEST = 4  # directories above proc and sys, or above the files of a directory of texts
_LISTED = 500  # directories of a level that are looked into, and files of one
_KERNEL = {"proc", "sys"}
_TOP = {"bin", "boot", "cgroup", "dev", "etc", "lib", "opt", "proc", "run", "sys", "usr", "var"}


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a recording says besides the files that it holds. Paths are absolute and without links."""

    bedplate: str = ""
    """Version that made it."""
    recorded: str = ""
    """When, as it was told; "" when it was not."""
    lacking: Unknown = Unknown.ABSENT
    """What a link that is not there means: NOT_RECORDED in the recording of a recording."""
    absent: frozenset[str] = frozenset()
    denied: frozenset[str] = frozenset()
    malformed: dict[str, str] = field(default_factory=dict)
    not_recorded: frozenset[str] = frozenset()
    """What the recording that this one was made from did not say either."""
    names: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Whole listings: a name that is not in one was not there."""
    denied_names: frozenset[str] = frozenset()
    """Directories that could not be listed."""


@dataclass(frozen=True, slots=True, eq=False)
class MemoryTree(Root):
    """Files of an archive by their path on the machine."""

    files: dict[str, bytes] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    children: dict[str, set[str]] = field(default_factory=dict)
    """Names by directory; each directory has its row."""

    @property
    def is_live(self) -> bool:
        return False

    def at(self, where: str) -> Path:
        raise ReadError(f"{where}: is in a recording, not on this machine")

    def read_bytes(self, where: str, limit: int = TEXT_LIMIT) -> Reading[bytes]:
        path = self._find(where)
        if path is None:
            return missing(Unknown.MALFORMED, where, os.strerror(errno.ELOOP))
        data = self.files.get(path)
        if data is not None:
            return known(data[:limit], where, "bytes")
        if path in self.children:
            return missing(Unknown.MALFORMED, where, "is not a regular file")
        return missing(self.absent, where)

    def open_ranges(self, where: str) -> Reading[FileRanges]:
        whole = self.read_bytes(where, CONTENT_LIMIT)
        if whole.value is None:
            return missing(whole.unknown or Unknown.ABSENT, where, whole.text)
        return known(FileRanges(data=whole.value), where, "ranges")

    def names(self, where: str) -> Reading[tuple[str, ...]]:
        path = self._find(where)
        if path is None:
            return missing(Unknown.MALFORMED, where, os.strerror(errno.ELOOP))
        found = self.children.get(path)
        if found is None:
            return missing(self.absent, where)
        return known(tuple(sorted(found)), where, f"{len(found)} names")

    def readlink(self, where: str) -> str | None:
        parent, _, name = where.rstrip("/").rpartition("/")
        directory = self._find(parent or "/")
        return None if directory is None else self.links.get(f"{directory.rstrip('/')}/{name}")

    def resolve(self, where: str) -> str | None:
        path = self._find(where)
        return path if path is not None and (path in self.files or path in self.children) else None

    def _find(self, where: str) -> str | None:
        try:
            return self.follow(where)
        except OSError:
            return None

    def _link_of(self, where: str) -> str | None:
        return self.links.get(where)


@dataclass(frozen=True, slots=True, eq=False)
class Recording(Root):
    """A tree that bedplate recorded, with its manifest: what is in neither was not asked for."""

    tree: Root = field(default_factory=MemoryTree)
    manifest: Manifest = field(default_factory=Manifest)

    @property
    def is_live(self) -> bool:
        return False

    def at(self, where: str) -> Path:
        raise ReadError(f"{where}: is in a recording, not on this machine")

    def read_bytes(self, where: str, limit: int = TEXT_LIMIT) -> Reading[bytes]:
        reading = self.tree.read_bytes(where, limit)
        if reading.value is not None:
            return reading
        path = self._find(where)
        if path in self.manifest.denied:
            return missing(Unknown.DENIED, where, os.strerror(errno.EACCES))
        if path in self.manifest.malformed:
            return missing(Unknown.MALFORMED, where, self.manifest.malformed[path])
        return missing(self._why(path), where) if reading.unknown is Unknown.NOT_RECORDED else reading

    def open_ranges(self, where: str) -> Reading[FileRanges]:
        return self.tree.open_ranges(where)

    def names(self, where: str) -> Reading[tuple[str, ...]]:
        path = self._find(where)
        found = self.manifest.names.get(path)
        if found is not None:
            return known(found, where, f"{len(found)} names")
        if path in self.manifest.denied_names:
            return missing(Unknown.DENIED, where, os.strerror(errno.EACCES))
        if path in self.manifest.malformed:
            return missing(Unknown.MALFORMED, where, self.manifest.malformed[path])
        return missing(self._why(path), where)

    def readlink(self, where: str) -> str | None:
        return self.tree.readlink(where)

    def resolve(self, where: str) -> str | None:
        # What was asked for and denied is there all the same.
        path = self._find(where)
        there = path in self.manifest.denied or path in self.manifest.malformed or path in self.manifest.names
        return path if there or path in self.manifest.denied_names else self.tree.resolve(where)

    def _why(self, path: str) -> Unknown:
        """ABSENT when that was recorded, of the path or of a directory above it, or where a whole listing lacks it."""
        here = path
        while here != "/":
            if here in self.manifest.not_recorded:
                return Unknown.NOT_RECORDED
            parent, _, name = here.rpartition("/")
            parent = parent or "/"
            if here in self.manifest.absent or name not in self.manifest.names.get(parent, (name,)):
                return Unknown.ABSENT
            here = parent
        return Unknown.NOT_RECORDED

    def _find(self, where: str) -> str:
        try:
            return self.tree.follow(where)
        except OSError:
            return where


def open_recording(path: Path, data: bytes | None = None, *, expected: str = EXPECTED) -> Root:
    """The machine that a directory or an archive holds, or an archive that came through a pipe (`data`, or read here).

    Raises ReadError when it is no recording (its hint is then `expected`), damaged or an attack.
    """
    data = read_pipe(path) if data is None else data
    try:
        if path.is_dir():
            return _open_directory(path)
        with path.open("rb") if data is None else io.BytesIO(data) as file:
            return _with_manifest(*_gather(_members(file, expected), path.name))
    except OSError as error:
        raise ReadError(f"{path}: cannot read: {error.strerror or error}") from error
    except ReadError as error:
        raise type(error)(f"{path}: {error.message}", hint=error.hint or expected) from error.__cause__


def _open_directory(path: Path) -> Root:
    top = Root(path, absent=Unknown.NOT_RECORDED)
    manifest = top.read_bytes("/" + MANIFEST, _MANIFEST_LIMIT).value
    if manifest is not None and top.resolve("/" + TREE) is not None:
        return _with_manifest(Root(path / TREE, absent=Unknown.NOT_RECORDED), manifest)
    names = top.names("/").value or ()
    if _TOP & set(names):
        return top
    inside = _find_directory(top, names)
    if inside is None:
        raise NoMachineError("is not a recording of a machine: it has neither proc nor sys")
    return Root(path / inside, absent=Unknown.NOT_RECORDED)


def _find_directory(top: Root, names: Sequence[str]) -> str | None:
    """The directory, at most _DEEPEST below, that has proc or sys; None for none. Raises ReadError for several."""
    level = [f"/{name}" for name in names]
    for _ in range(_DEEPEST):
        listed = {where: top.names(where).value or () for where in level[:_LISTED]}
        found = [where for where, inner in listed.items() if _KERNEL & set(inner)]
        if len(found) > 1:
            raise _several(found)
        if found:
            return found[0].lstrip("/")
        level = [f"{where}/{name}" for where, inner in listed.items() for name in inner]
    return None


def _several(found: Sequence[str]) -> ReadError:
    """More than one machine in one input: which is meant cannot be told."""
    names = ", ".join(where.strip("/") for where in found[:3])
    return ReadError(f"holds {len(found)} machines ({names})", hint="Give the directory or an archive of one of them.")


def _with_manifest(tree: Root, raw: bytes | None) -> Root:
    if raw is None:
        return tree
    manifest = parse_manifest(raw)
    return Recording(path=tree.path, absent=manifest.lacking, tree=tree, manifest=manifest)


def _gather(members: Iterator[Member], name: str) -> tuple[MemoryTree, bytes | None]:
    """The tree, without the one directory that all is in, and the manifest where bedplate made the archive."""
    files: dict[str, bytes] = {}
    links: dict[str, str] = {}
    directories: set[str] = set()
    held = 0
    for member in members:
        held += len(member.data) + len(member.name) + len(member.target) + _ROW
        if held > CONTENT_LIMIT:
            raise ReadError(f"the files of the archive and their names take more than {CONTENT_LIMIT >> 20} MiB")
        for table in (files, links):
            table.pop(member.name, None)  # as tar does: the last of two members with one name counts
        if member.kind is MemberKind.FILE:
            files[member.name] = member.data
        elif member.kind is MemberKind.LINK:
            links[member.name] = member.target
        elif member.kind is MemberKind.DIRECTORY:
            directories.add(member.name)
        elif member.target in files:
            files[member.name] = files[member.target]
    manifest = files.pop(MANIFEST, None)
    tops = {path.split("/", 1)[0] for table in (files, links, directories) for path in table if path}
    if manifest is not None and tops != {TREE}:
        raise ReadError(f"has a {MANIFEST} and no tree {TREE}/ beside it")
    top = TREE if manifest is not None else "" if tops & _TOP else _find_top([*files, *links, *directories])
    cut = len(top)
    if top:
        for table in (files, links):
            for path in [path for path in table if not path.startswith(f"{top}/")]:
                del table[path]
        directories = {path for path in directories if path == top or path.startswith(f"{top}/")}

    tree = MemoryTree(path=Path(name), absent=Unknown.NOT_RECORDED, children={"/": set()})
    tree.files.update(("/" + path[cut:].lstrip("/"), data) for path, data in files.items())
    tree.links.update(("/" + path[cut:].lstrip("/"), target) for path, target in links.items())
    for directory in directories:
        tree.children.setdefault("/" + directory[cut:].lstrip("/"), set())
    for path in [*tree.files, *tree.links, *tree.children]:
        while path != "/":
            parent, _, last = path.rpartition("/")
            path = parent or "/"
            row = tree.children.setdefault(path, set())
            if last in row:  # then all above stand in their rows too
                break
            row.add(last)
        if len(tree.children) > DIRECTORIES_LIMIT:
            raise ReadError(f"the names of the archive make more than {DIRECTORIES_LIMIT} directories")
    return tree, manifest


def _find_top(paths: Sequence[str]) -> str:
    """The directory of an archive that has proc or sys, at most _DEEPEST below its top.

    Raises NoMachineError for none, ReadError for several.
    """
    found: dict[int, set[str]] = {}
    for path in paths:
        parts = path.split("/")
        depth = next((place for place, part in enumerate(parts[: _DEEPEST + 1]) if part in _KERNEL), None)
        if depth:
            found.setdefault(depth, set()).add("/".join(parts[:depth]))
    if not found:
        raise NoMachineError("is not a recording of a machine: it has neither proc nor sys")
    nearest = sorted(found[min(found)])
    if len(nearest) > 1:
        raise _several(nearest)
    return nearest[0]


def read_contents(path: Path, data: bytes | None = None) -> Iterator[tuple[str, bytes]]:
    """Files of a directory, to a depth of _DEEPEST, or of an archive: (name, content), by name, to a bound in all.

    Links are not followed. Raises ReadError for what is neither, and past CONTENT_LIMIT.
    """
    held = 0
    for name, content in _contents(path, data):
        held += len(content) + len(name) + _ROW
        if held > CONTENT_LIMIT:
            raise ReadError(f"{path}: its files take more than {CONTENT_LIMIT >> 20} MiB")
        yield name, content


def _contents(path: Path, data: bytes | None) -> Iterator[tuple[str, bytes]]:
    try:
        if data is None and path.is_dir():
            for where in sorted(_files_below(path, _DEEPEST)):
                yield str(where.relative_to(path)), where.read_bytes()
            return
        with path.open("rb") if data is None else io.BytesIO(data) as file:
            files = {member.name: member.data for member in _members(file, EXPECTED) if member.kind is MemberKind.FILE}
        yield from sorted(files.items())
    except OSError as error:
        raise ReadError(f"{path}: cannot read: {error.strerror or error}") from error


def _files_below(path: Path, depth: int) -> Iterator[Path]:
    for entry in sorted(path.iterdir())[:_LISTED]:
        if entry.is_symlink():
            continue
        if entry.is_file() and entry.stat().st_size <= CONTENT_LIMIT:
            yield entry
        elif entry.is_dir() and depth:
            yield from _files_below(entry, depth - 1)


def parse_manifest(raw: bytes) -> Manifest:
    """MANIFEST.json of a recording. Raises ReadError when it is not what bedplate writes."""
    table = parse_json(raw, f"{MANIFEST}:")
    if not isinstance(table, dict) or table.get("schema") != SCHEMA:
        got = table.get("schema") if isinstance(table, dict) else None
        raise ReadError(
            f"{MANIFEST}: schema is {str(got)[:40]!r}, expected {SCHEMA}", hint="Read it with the bedplate that made it."
        )
    malformed, names = table.get("malformed", {}), table.get("names", {})
    if not isinstance(malformed, dict) or not isinstance(names, dict):
        raise ReadError(f"{MANIFEST}: malformed and names: expected objects")
    return Manifest(
        bedplate=str(table.get("bedplate", ""))[:80],
        recorded=str(table.get("recorded", ""))[:80],
        lacking=Unknown.NOT_RECORDED if table.get("lacking") == Unknown.NOT_RECORDED else Unknown.ABSENT,
        absent=frozenset(_texts(table, "absent")),
        denied=frozenset(_texts(table, "denied")),
        denied_names=frozenset(_texts(table, "denied_names")),
        not_recorded=frozenset(_texts(table, "not_recorded")),
        malformed={path: str(text)[:200] for path, text in malformed.items()},
        names={path: _texts(names, path) for path in names},
    )


def _texts(table: dict[str, Any], key: str) -> tuple[str, ...]:
    value = table.get(key, [])
    if not isinstance(value, list) or not all(isinstance(entry, str) for entry in value):
        raise ReadError(f"{MANIFEST}: {key[:80]}: expected a list of strings")
    return tuple(value)


def _members(file: BinaryIO, expected: str) -> Iterator[Member]:
    read = _exactly(decompress(file))
    head = read(_BLOCK)
    rest = head

    def again(size: int) -> bytes:
        nonlocal rest
        if not rest:
            return read(size)
        taken, rest = rest[:size], rest[size:]
        return taken + read(size - len(taken)) if len(taken) < size else taken

    if is_tar(head):
        return read_tar(again)
    if b"ttar" in head.split(b"\n", 1)[0]:
        return read_ttar(again)
    if not head:
        file.seek(0)
        packed = file.read(1)
        raise ReadError("the archive is truncated, or nothing is packed in it" if packed else "is empty", hint=expected)
    if len(head) < _BLOCK and head[_USTAR_AT:].startswith(b"ustar"):
        raise ReadError("the archive is truncated: its first header ends early", hint=expected)
    raise ReadError("is not a recording of a machine: neither a directory, a tar nor a ttar", hint=expected)


def decompress(file: BinaryIO) -> Iterator[bytes]:
    """Chunks of the archive whatever it was packed with, told by its first bytes, not by its name."""
    magic = file.read(6)
    file.seek(0)
    if magic.startswith(b"\x1f\x8b"):
        return _unpack(file, lambda: _Inflate())
    if magic.startswith(b"BZh"):
        import bz2

        return _unpack(file, bz2.BZ2Decompressor)
    if magic == b"\xfd7zXZ\0":
        import lzma

        return _unpack(file, lambda: lzma.LZMADecompressor(format=lzma.FORMAT_XZ, memlimit=_XZ_MEMORY))
    if magic.startswith(ZSTD_MAGIC):
        return _guard(open_zstd(file, _CHUNK))
    return iter(lambda: file.read(_CHUNK), b"")


class _Inflate:
    """zlib with the interface of bz2's and lzma's decompressors."""

    def __init__(self) -> None:
        self._zlib = zlib.decompressobj(wbits=31)  # 31: a gzip header and trailer

    def decompress(self, data: bytes, max_length: int) -> bytes:
        return self._zlib.decompress(self._zlib.unconsumed_tail + data, max_length)

    @property
    def needs_input(self) -> bool:
        return not self._zlib.unconsumed_tail

    @property
    def eof(self) -> bool:
        return self._zlib.eof

    @property
    def unused_data(self) -> bytes:
        return self._zlib.unused_data


def _unpack(file: BinaryIO, make: Callable[[], Any]) -> Iterator[bytes]:
    """One or more streams behind each other, a chunk at a time, so that a bomb never expands ahead of its reader."""
    return _guard(_unpacked(file, make))


def _unpacked(file: BinaryIO, make: Callable[[], Any]) -> Iterator[bytes]:
    machine, data = make(), b""
    while True:
        if machine.eof:
            data = machine.unused_data.lstrip(b"\0") or file.read(_CHUNK).lstrip(b"\0")
            if not data:
                return
            machine = make()
        elif machine.needs_input:
            data = file.read(_CHUNK)
            if not data:
                raise ReadError("the archive is truncated: its compressed data end early")
        else:
            data = b""
        chunk = machine.decompress(data, _CHUNK)
        if chunk:
            yield chunk


def _guard(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """What a decompressor says of damaged data, as a ReadError."""
    import lzma

    try:
        yield from chunks
    except (zlib.error, lzma.LZMAError, EOFError, ValueError, MemoryError) as error:
        raise ReadError(f"the archive is damaged: {error}") from error
    except OSError as error:  # bz2 says so; a file that cannot be read has its number
        if error.errno is not None:
            raise
        raise ReadError(f"the archive is damaged: {error}") from error


def _exactly(chunks: Iterator[bytes]) -> Read:
    """A reader of so many bytes over chunks that counts them against the bound of the archive."""
    waiting, place, total = b"", 0, 0

    def read(size: int) -> bytes:
        nonlocal waiting, place, total
        if len(waiting) - place < size:
            parts = [waiting[place:]]
            have = len(parts[0])
            while have < size and (chunk := next(chunks, b"")):
                parts.append(chunk)
                have += len(chunk)
                total += len(chunk)
                if total > ARCHIVE_LIMIT:
                    raise ReadError(f"the archive holds more than {ARCHIVE_LIMIT >> 20} MiB")
            waiting, place = b"".join(parts), 0
        taken = waiting[place : place + size]
        place += len(taken)
        return taken

    return read
