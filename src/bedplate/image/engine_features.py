"""What a build of an engine can load, read out of its own library when its layer is made, and kept beside the layer.

llama.cpp has its architectures in a table of (number, name) that the compiler puts into the library: LLM_ARCH_NAMES of
src/llama-arch.cpp, 0 "clip", 1 "llama" ... and "(unknown)" at its end. In the file it is an array of sixteen bytes a row
whose second half the dynamic linker fills in, and the relocations (ELF64, R_X86_64_RELATIVE) say with what. Reading it is
exact and runs nothing; a list that was typed off would be of another version.
"""

from __future__ import annotations

import re
import struct
from pathlib import Path

from bedplate.host.root.root import Root
from bedplate.host.stack.code import read_code
from bedplate.image.packages import Lock
from bedplate.model.facts.stack import DeviceCode
from bedplate.model.layer import GpuCode

_GPU_APIS = ("cuda", "hip", "vulkan")
_CUDA_RUNTIME = re.compile(r"libcudart\d+")
_DRIVER_LIBRARY = re.compile(r"\blibcuda1 \(>= [^)]{1,64}\)|\blibcuda\.so\.1 \(>= [^)]{1,64}\)")
_ROW = 16
_FIRST, _LAST = {b"clip", b"llama"}, b"(unknown)"
_LEAST_ROWS = 20
_SHT_RELA, _PT_LOAD, _R_RELATIVE = 4, 1, 8  # elf.h, psABI of x86-64 and, as 1027, of aarch64
_R_RELATIVE_ARM = 1027
_MOST_NAME = 64


def read_architectures(library: Path) -> tuple[str, ...]:
    """Names of the architectures that a libllama.so knows, sorted; () where the table is not found, so that nothing is
    refused by it."""
    data = library.read_bytes()
    try:
        relocated = _relocations(data)
        runs = _runs(data, relocated)
    except (struct.error, IndexError):
        return ()
    for names in runs:
        if names[-1] == _LAST and set(names[:4]) >= _FIRST and len(names) >= _LEAST_ROWS:
            return tuple(sorted(name.decode() for name in names[:-1]))
    return ()


def find_architectures(tree: Path) -> tuple[str, ...]:
    """Of the unpacked tree of a layer; () for an engine that has no such table."""
    for library in sorted(tree.glob("usr/lib/*/libllama.so.*")):
        if library.is_file() and not library.is_symlink() and (found := read_architectures(library)):
            return found
    return ()


def _relocations(data: bytes) -> dict[int, int]:
    """Address -> the address that the dynamic linker writes there."""
    if data[:6] != b"\x7fELF\x02\x01":  # 64 bits, little-endian
        return {}
    offset, size, count = struct.unpack_from("<Q", data, 0x28)[0], *struct.unpack_from("<HH", data, 0x3A)
    found: dict[int, int] = {}
    for index in range(count):
        kind, _, _, begin, length = struct.unpack_from("<IQQQQ", data, offset + index * size + 4)
        if kind != _SHT_RELA:
            continue
        for where in range(begin, begin + length, 24):
            address, info, addend = struct.unpack_from("<QQq", data, where)
            if info & 0xFFFFFFFF in (_R_RELATIVE, _R_RELATIVE_ARM):
                found[address] = addend
    return found


def _runs(data: bytes, relocated: dict[int, int]) -> list[list[bytes]]:
    """The names of each unbroken array of rows (number, name)."""
    segments = _segments(data)
    runs: list[list[bytes]] = []
    for begin in sorted(relocated):
        if begin - _ROW in relocated:
            continue
        names: list[bytes] = []
        address = begin
        while address in relocated and (name := _name_at(data, segments, relocated[address])) is not None:
            names.append(name)
            address += _ROW
        if names:
            runs.append(names)
    return runs


def _segments(data: bytes) -> list[tuple[int, int, int]]:
    """(address, offset in the file, bytes) of what is loaded."""
    offset, size, count = struct.unpack_from("<Q", data, 0x20)[0], *struct.unpack_from("<HH", data, 0x36)
    found = []
    for index in range(count):
        kind, _, begin, address, _, length = struct.unpack_from("<IIQQQQ", data, offset + index * size)
        if kind == _PT_LOAD:
            found.append((address, begin, length))
    return found


def _name_at(data: bytes, segments: list[tuple[int, int, int]], address: int) -> bytes | None:
    for begin, offset, length in segments:
        if begin <= address < begin + length:
            where = offset + address - begin
            end = data.find(b"\0", where, where + _MOST_NAME)
            name = data[where:end] if end > where else b""
            return name if re.fullmatch(rb"[A-Za-z0-9_.-]+|\(unknown\)", name) else None
    return None


def find_gpu_code(name: str, tree: Path, lock: Lock) -> GpuCode:
    """The GPU back ends in the unpacked tree of the layer `name`, read from their files, and what they ask of a driver.

    Only ggml's back ends count: the libraries of CUDA and ROCm beside them hold code for more GPUs than the engine can use.
    """
    root = Root(tree)
    apis: list[str] = []
    binaries: list[DeviceCode] = []
    for library in sorted(tree.glob("usr/lib/*/ggml/backends*/libggml-*.so")):
        api = library.name.removeprefix("libggml-").removesuffix(".so")
        if api not in _GPU_APIS:
            continue
        apis.append(api)
        code = read_code(root, f"/{library.relative_to(tree)}")
        binaries += [code] if code is not None else []
    depends = (re.search(r"^Depends: (.*)$", package.stanza, re.MULTILINE) for package in lock.packages)
    floors = {floor for line in depends if line is not None for floor in _DRIVER_LIBRARY.findall(line[1])}
    versions = (re.match(r"\d+\.\d+", package.version) for package in lock.packages if _CUDA_RUNTIME.fullmatch(package.name))
    return GpuCode(
        layer=name,
        apis=tuple(apis),
        binaries=tuple(binaries),
        driver_floors=tuple(sorted(floors)),
        toolkit=next((f"CUDA {version[0]}" for version in versions if version is not None), ""),
    )
