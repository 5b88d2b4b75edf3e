"""For which GPUs a binary holds code, read from its sections: nothing is loaded, and no GPU is needed.

CUDA: the section .nv_fatbin (or __nv_relfatbin) holds fatbins, each a header of 16 bytes (magic 0xBA55ED50, header size,
size) and entries (kind 1 PTX, 2 machine code; header size, size, architecture as 80 for sm_80). HIP: .hip_fatbin holds
bundles "__CLANG_OFFLOAD_BUNDLE__" with an id such as hipv4-amdgcn-amd-amdhsa--gfx942 for each entry, or packed ones
("CCOB"). Sources: CUDA Binary Utilities, public descriptions of the fatbin format, clang's page of its offload bundler.
"""

from __future__ import annotations

import io
import re
import struct
import zlib
from collections.abc import Callable, Iterator

from bedplate.errors import ReadError
from bedplate.host.root.root import Root
from bedplate.host.root.zstd import open_zstd
from bedplate.host.stack.elf import ElfSection, ReadRange, find_sections
from bedplate.model.facts.stack import DeviceCode

_SECTIONS = frozenset((b".nv_fatbin", b"__nv_relfatbin", b".hip_fatbin"))
_FATBIN = struct.Struct("<IHHQ")
_ENTRY = struct.Struct("<HHIQIIHHI")
_MAGIC = 0xBA55ED50
_PTX, _MACHINE_CODE = 1, 2
_PIECES = 8192  # fatbins of one file that are walked through; PyTorch's library has some thousands
_WHOLE = 16  # of the first fatbins, and then of each sixteenth, all entries are looked at; of the others the first one
_ENTRIES = 64  # of one fatbin
_BUNDLE = b"__CLANG_OFFLOAD_BUNDLE__"
_PACKED = b"CCOB"
_BUNDLE_HEAD = 1 << 16  # bytes; ids stand at the beginning
_PACKED_MOST = 64 << 20  # bytes of a packed bundle that are read
_TARGET = re.compile(rb"amdgcn-amd-amdhsa-(?:[\w.-]{0,40}-)?(gfx[0-9a-f]{3,5})")


SeenCode = dict[tuple[str, tuple[tuple[bytes, ElfSection], ...]], tuple[set[str], set[str]]]
"""What was found in files that were read already, by the last name and the places and sizes of the sections."""


def read_code(root: Root, where: str, seen: SeenCode | None = None) -> DeviceCode | None:
    """The architectures in a file; None where it has no section of GPU code, or cannot be read.

    `seen` is filled, and spares the second reading of a file of the same name whose sections have the same places and sizes:
    it is the same build in another environment.
    """
    opened = root.open_ranges(where)
    if opened.value is None:
        return None
    with opened.value as ranges:
        sections = find_sections(ranges.read, _SECTIONS)
        if not sections:
            return None
        key = (where.rpartition("/")[2], tuple(sorted(sections.items())))
        known = seen.get(key) if seen is not None else None
        machine, portable = known if known is not None else _read_sections(ranges.read, sections)
    if seen is not None:
        seen[key] = (machine, portable)
    return DeviceCode(path=where, architectures=_in_order(machine), intermediate=_in_order(portable))


def _read_sections(read: ReadRange, sections: dict[bytes, ElfSection]) -> tuple[set[str], set[str]]:
    """(architectures of machine code, those of PTX)."""
    machine: set[str] = set()
    portable: set[str] = set()
    for name, section in sections.items():
        if name == b".hip_fatbin":
            machine |= _read_bundles(read, section)
        else:
            for kind, architecture in _read_fatbins(read, section):
                (machine if kind == _MACHINE_CODE else portable).add(f"sm_{architecture}")
    return machine, portable


def _read_fatbins(read: ReadRange, section: ElfSection) -> set[tuple[int, int]]:
    """(kind, architecture) of the entries of a section's fatbins.

    The compiler writes one fatbin for each source file, and files that are compiled alike stand together: so each fatbin is
    visited, and some of them are looked at from end to end.
    """
    found: set[tuple[int, int]] = set()
    at, end = section.offset, section.offset + section.size
    for number in range(_PIECES):
        head = read(at, _FATBIN.size + _ENTRY.size)
        if len(head) < _FATBIN.size + _ENTRY.size:
            break
        magic, _, header_size, size = _FATBIN.unpack_from(head)
        if magic != _MAGIC or header_size < _FATBIN.size or size > end - at:
            break
        first, last = at + header_size, at + header_size + size
        if number < _WHOLE or number % _WHOLE == 0 or header_size != _FATBIN.size:
            found |= set(_read_entries(read, first, last))
        else:
            kind, _, _, _, _, _, _, _, architecture = _ENTRY.unpack_from(head, _FATBIN.size)
            if _is_entry(kind, architecture):
                found.add((kind, architecture))
        at = last + -last % 8  # each fatbin begins at a multiple of eight bytes
    return found


def _read_entries(read: ReadRange, first: int, last: int) -> Iterator[tuple[int, int]]:
    at = first
    for _ in range(_ENTRIES):
        row = read(at, _ENTRY.size)
        if at + _ENTRY.size > last or len(row) < _ENTRY.size:
            return
        kind, _, header_size, size, _, _, _, _, architecture = _ENTRY.unpack(row)
        if not _is_entry(kind, architecture) or header_size < _ENTRY.size:
            return
        yield kind, architecture
        at += header_size + size


def _is_entry(kind: int, architecture: int) -> bool:
    return kind in (_PTX, _MACHINE_CODE) and 10 <= architecture < 1000


def _read_bundles(read: ReadRange, section: ElfSection) -> set[str]:
    """Architectures of the first bundle of a section: each of them has all that the compiler was asked for."""
    head = read(section.offset, min(section.size, _BUNDLE_HEAD))
    if head.startswith(_PACKED):
        head = _unpack_bundle(head, lambda size: read(section.offset, min(section.size, size)))
    if not head.startswith(_BUNDLE) or len(head) < len(_BUNDLE) + 8:
        return set()
    (count,) = struct.unpack_from("<Q", head, len(_BUNDLE))
    at, found = len(_BUNDLE) + 8, set[str]()
    for _ in range(min(count, _ENTRIES)):
        if at + 24 > len(head):
            break
        _, _, length = struct.unpack_from("<QQQ", head, at)
        target = _TARGET.search(head[at + 24 : at + 24 + min(length, 256)])
        if target is not None:
            found.add(target[1].decode())
        at += 24 + length
    return found


def _unpack_bundle(head: bytes, read: Callable[[int], bytes]) -> bytes:
    """The beginning of a packed bundle; b"" where it cannot be unpacked here.

    The header: magic, version and method (0 zlib, 1 zstd), each of two bytes; the file's size from version 2 on and the
    unpacked size, of four bytes each, of eight from version 3 on; eight bytes of a digest.
    """
    if len(head) < 32:
        return b""
    version, method = struct.unpack_from("<HH", head, 4)
    start = {1: 20, 2: 24, 3: 32}.get(version)
    if start is None:
        return b""
    size = _PACKED_MOST if version == 1 else struct.unpack_from("<I" if version == 2 else "<Q", head, 8)[0]
    data = read(min(size, _PACKED_MOST))[start:]
    try:
        if method == 0:
            return zlib.decompressobj().decompress(data, _BUNDLE_HEAD)
        return next(open_zstd(io.BytesIO(data), _BUNDLE_HEAD), b"")
    except (zlib.error, ValueError, ReadError, MemoryError):
        return b""


def _in_order(names: set[str]) -> tuple[str, ...]:
    """sm_90 before sm_100."""
    return tuple(sorted(names, key=lambda name: (len(name), name)))
