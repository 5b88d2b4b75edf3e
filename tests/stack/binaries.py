"""Small files in the forms of the real ones: ELF files with .modinfo, .nv_fatbin or .hip_fatbin. Standard library alone."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence

_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_PROGBITS, _STRTAB = 1, 3
_RELOCATABLE, _X86_64 = 1, 62


def make_elf(sections: Mapping[str, bytes]) -> bytes:
    """A 64-bit little-endian relocatable file with these sections, as a linker lays them out: content, names, table."""
    names = b"\0"
    rows: list[tuple[int, int, int, int]] = []  # name, type, offset, size
    body = b""
    for name, content in [*sections.items(), (".shstrtab", b"")]:
        name_at = len(names)
        names += name.encode() + b"\0"
        body += bytes(-len(body) % 16)
        rows.append((name_at, _PROGBITS, _HEADER.size + len(body), len(content)))
        body += content
    rows[-1] = (rows[-1][0], _STRTAB, _HEADER.size + len(body), len(names))
    body += names
    body += bytes(-len(body) % 8)
    table = bytes(_SECTION.size) + b"".join(
        _SECTION.pack(name_at, kind, 0, 0, offset, size, 0, 0, 1, 0) for name_at, kind, offset, size in rows
    )
    ident = b"\x7fELF\x02\x01\x01" + bytes(9)
    head = _HEADER.pack(
        ident, _RELOCATABLE, _X86_64, 1, 0, 0, _HEADER.size + len(body), 0, _HEADER.size, 0, 0, _SECTION.size, len(rows) + 1,
        len(rows),
    )  # fmt: skip
    return head + body + table


def make_module(*, vermagic: str, version: str = "", firmware: Sequence[str] = ()) -> bytes:
    """A kernel module with the texts that modpost writes, between code and symbols."""
    texts = [f"version={version}"] if version else []
    texts += [f"firmware={name}" for name in firmware]
    texts += ["license=Dual MIT/GPL", "name=nvidia", f"vermagic={vermagic} SMP preempt mod_unload modversions "]
    modinfo = b"".join(text.encode() + b"\0" for text in texts)
    return make_elf({".text": bytes(range(256)) * 64, ".modinfo": modinfo, ".data": b"vermagic=not this one\0"})


def make_fatbin(machine: Sequence[int], ptx: Sequence[int] = ()) -> bytes:
    """A fatbin with an empty entry for each architecture: 80 is sm_80."""
    entries = b"".join(
        struct.pack("<HHIQIIHHI", kind, 0x101, 64, 32, 0, 0, 5, 1, architecture) + bytes(64 - 32) + bytes(32)
        for kind, those in ((2, machine), (1, ptx))
        for architecture in those
    )
    return struct.pack("<IHHQ", 0xBA55ED50, 1, 16, len(entries)) + entries


def make_cuda_library(machine: Sequence[int], ptx: Sequence[int] = (), *, pieces: int = 3) -> bytes:
    """A library with several fatbins, as nvcc writes one for each file that it compiles."""
    section = b""
    for _ in range(pieces):
        section += make_fatbin(machine, ptx)
        section += bytes(-len(section) % 8)
    return make_elf({".text": b"\xc3" * 64, ".nv_fatbin": section})


def make_bundle(architectures: Sequence[str]) -> bytes:
    """clang's bundle of offload code: the host's entry, then one for each architecture."""
    ids = [b"host-x86_64-unknown-linux-gnu-"]
    ids += [f"hipv4-amdgcn-amd-amdhsa--{architecture}".encode() for architecture in architectures]
    rows = b"".join(struct.pack("<QQQ", 4096, 0, len(name)) + name for name in ids)
    return b"__CLANG_OFFLOAD_BUNDLE__" + struct.pack("<Q", len(ids)) + rows


def make_hip_library(bundle: bytes) -> bytes:
    """A library with a section of HIP code."""
    return make_elf({".text": b"\xc3" * 64, ".hip_fatbin": bundle})
