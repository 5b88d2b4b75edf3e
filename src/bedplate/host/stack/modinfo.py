"""What a kernel module's file says of itself: version, the kernel that it was built for, and the firmware that it names.

A module is an ELF file with "key=value" texts in the section .modinfo, packed or not: .ko, .ko.xz, .ko.zst, .ko.gz.
Sources: modinfo(8), Documentation/kbuild/modules.rst, include/linux/moduleparam.h.
"""

from __future__ import annotations

import io
import lzma
import zlib
from dataclasses import dataclass

from bedplate.errors import ReadError
from bedplate.host.root.root import Root
from bedplate.host.root.zstd import open_zstd
from bedplate.host.stack.elf import ReadRange, find_sections
from bedplate.model.facts.reading import Reading, Unknown, known, missing

_PACKED_LIMIT = 64 << 20  # bytes; NVIDIA's module is 4 MB with xz, 23 MB plain
_PLAIN_LIMIT = 256 << 20  # bytes; with its debug data it has 247 MB
_XZ_MEMORY = 128 << 20  # bytes
_SECTION_LIMIT = 1 << 20  # bytes; amdgpu names some 700 files
_MODINFO = b".modinfo"
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Modinfo:
    """The texts of .modinfo that are read."""

    version: str
    """ "" where the module has none."""
    vermagic: str
    """Its first word, the release of the kernel."""
    firmware: tuple[str, ...]


def read_modinfo(root: Root, where: str) -> Reading[Modinfo]:
    """The .modinfo of a module's file. MALFORMED for a file that is no module, or whose packing cannot be undone here."""
    opened = root.open_ranges(where)
    if opened.value is None:
        return missing(opened.unknown or Unknown.ABSENT, where, opened.text)
    with opened.value as ranges:
        if where.endswith(".ko"):
            return _parse(where, ranges.read)
        packed = ranges.read(0, _PACKED_LIMIT + 1)
    if len(packed) > _PACKED_LIMIT:
        return missing(Unknown.MALFORMED, where, f"is longer than {_PACKED_LIMIT} bytes")
    try:
        plain = _unpack(where, packed)
    except (lzma.LZMAError, zlib.error, ValueError, EOFError, MemoryError, ReadError) as error:
        return missing(Unknown.MALFORMED, where, str(error)[:80])
    return _parse(where, lambda offset, size: plain[offset : offset + size])


def parse_modinfo(section: bytes) -> Modinfo:
    """b"version=550.163.01\\0vermagic=6.12.118 SMP\\0firmware=nvidia/a.bin\\0" as values."""
    values: dict[str, list[str]] = {}
    for entry in section.split(b"\0"):
        key, equals, value = entry.decode("utf-8", errors="replace").partition("=")
        if equals:
            values.setdefault(key, []).append(value)
    vermagic = values.get("vermagic", [""])[0].split()
    return Modinfo(
        version=values.get("version", [""])[0].strip(),
        vermagic=vermagic[0] if vermagic else "",
        firmware=tuple(sorted(set(values.get("firmware", [])))),
    )


def _parse(where: str, read: ReadRange) -> Reading[Modinfo]:
    section = find_sections(read, frozenset((_MODINFO,))).get(_MODINFO)
    if section is None:
        return missing(Unknown.MALFORMED, where, "has no section .modinfo")
    if section.size > _SECTION_LIMIT:
        return missing(Unknown.MALFORMED, where, f".modinfo is longer than {_SECTION_LIMIT} bytes")
    return known(parse_modinfo(read(section.offset, section.size)), where, ".modinfo")


def _unpack(where: str, packed: bytes) -> bytes:
    """The module, by the ending of its name. Raises what the decompressor raises, ValueError past the bound."""
    if where.endswith(".xz"):
        machine = lzma.LZMADecompressor(memlimit=_XZ_MEMORY)
        plain = machine.decompress(packed, _PLAIN_LIMIT)
        if not machine.eof:
            raise ValueError("is cut off, or too long when it is unpacked")
        return plain
    if where.endswith(".gz"):
        inflate = zlib.decompressobj(wbits=31)
        plain = inflate.decompress(packed, _PLAIN_LIMIT)
        if not inflate.eof:
            raise ValueError("is cut off, or too long when it is unpacked")
        return plain
    parts, size = [], 0
    for chunk in open_zstd(io.BytesIO(packed), _CHUNK):
        size += len(chunk)
        if size > _PLAIN_LIMIT:
            raise ValueError("is too long when it is unpacked")
        parts.append(chunk)
    return b"".join(parts)
