"""Sections of an ELF file by their names, read a piece at a time: a library of gigabytes costs a few small reads.

Source: System V ABI, ELF-64 Object File Format. Only 64-bit little-endian files are read, which is what x86_64, aarch64 and
riscv64 have; anything else has no sections here.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass

ReadRange = Callable[[int, int], bytes]
"""(offset, size) -> bytes; fewer at the end of the file."""

_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_SECTIONS = 65_000  # a kernel module of a GPU has some 200, one that is built with a section a function thousands
_NAMES_LIMIT = 4 << 20  # bytes
_NOBITS = 8  # sh_type of a section without bytes in the file


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class ElfSection:
    """Where a section's bytes are in the file."""

    offset: int
    size: int


def find_sections(read: ReadRange, names: frozenset[bytes]) -> dict[bytes, ElfSection]:
    """The named sections that the file has; {} for a file that is no ELF file of the read kind, or is cut off."""
    head = read(0, _HEADER.size)
    if len(head) < _HEADER.size or head[:6] != b"\x7fELF\x02\x01":
        return {}
    _, _, _, _, _, _, table_at, _, _, _, _, entry_size, count, names_index = _HEADER.unpack(head)
    if entry_size != _SECTION.size or not 0 < count <= _SECTIONS or names_index >= count:
        return {}
    table = read(table_at, count * _SECTION.size)
    if len(table) < count * _SECTION.size:
        return {}
    rows = list(_SECTION.iter_unpack(table))
    texts = read(rows[names_index][4], min(rows[names_index][5], _NAMES_LIMIT))
    found: dict[bytes, ElfSection] = {}
    for name_at, kind, _, _, offset, size, *_ in rows:
        if kind == _NOBITS:
            continue
        for name in names:  # compared where it stands: names without an end would each be a copy of the whole table
            if texts.startswith(name + b"\0", name_at):
                found.setdefault(name, ElfSection(offset=offset, size=size))
    return found
