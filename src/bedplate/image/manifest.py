"""What a built image is: its files and its manifest, the record that everything later compares with."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bedplate.errors import ReadError
from bedplate.image.recipe import Variant

SECTOR = 512  # bytes
# Unified sections in the order systemd-stub 257 measures them into PCR 11; .pcrsig is not measured.
# Source: systemd, src/fundamental/uki.h and docs "TPM2 PCR Measurements Made by systemd".
_MEASURED = (
    ".linux", ".osrel", ".cmdline", ".initrd", ".ucode", ".splash", ".dtb", ".uname", ".sbat", ".pcrpkey", ".profile",
    ".dtbauto", ".hwids",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """A built image: its files, all in one directory, and what of its manifest is needed to boot it."""

    version: str
    variant: Variant
    directory: Path
    raw: Path
    uki: Path
    kernel: Path
    initrd: Path
    cmdline: str
    manifest: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineLayer:
    """A built engine layer: `path` is the signed disk image that the guest mounts."""

    name: str
    version: str
    path: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Partition:
    """A row of a GPT. uuid and type are lower-case UUIDs; offset and size are of the disk image, in bytes."""

    label: str
    uuid: str
    type: str
    offset_bytes: int
    size_bytes: int


def read_image(directory: Path) -> Image:
    """The image in a directory of the state's images; raises ReadError when it is not whole.

    Whole means: the manifest can be read, and each file that it names is there with the size that it names.
    """
    manifest = directory / "manifest.json"
    hint = f"Remove it: bedplate image rm {directory.name}. The recipe's own image is made again by: bedplate image build"
    try:
        record = json.loads(manifest.read_text())
        files = {kind: (directory / file["name"], file["size_bytes"]) for kind, file in record["files"].items()}
        image = Image(
            version=record["version"],
            variant=Variant(record["variant"]),
            directory=directory,
            raw=files["raw"][0],
            uki=files["uki"][0],
            kernel=files["kernel"][0],
            initrd=files["initrd"][0],
            cmdline=record["kernel_command_line"],
            manifest=manifest,
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ReadError(f"image {directory.name}: its manifest cannot be read: {_reason(error)}", hint=hint) from error
    for file, size_bytes in files.values():
        if not file.is_file():
            raise ReadError(f"image {directory.name}: {file.name} is missing", hint=hint)
        if (got := file.stat().st_size) != size_bytes:
            raise ReadError(f"image {directory.name}: {file.name} has {got} bytes, expected {size_bytes}", hint=hint)
    return image


def _reason(error: Exception) -> str:
    if isinstance(error, OSError):
        return f"{error.filename}: {error.strerror}"
    return f"no key {error}" if isinstance(error, KeyError) else str(error)


def read_partitions(disk: Path) -> tuple[Partition, ...]:
    """Partitions of a GPT disk image with 512-byte sectors, in the table's order. Source: UEFI specification 5.3.

    Raises ReadError for a disk without a GPT; its checksums are not compared.
    """
    with disk.open("rb") as handle:
        handle.seek(SECTOR)
        header = handle.read(92)
        if header[:8] != b"EFI PART":
            raise ReadError(f"{disk}: got {header[:8]!r} in sector 1, expected a GPT header")
        start, count, size = struct.unpack_from("<QII", header, 72)
        handle.seek(start * SECTOR)
        table = handle.read(count * size)
    return tuple(_parse_entries(table, size))


def _parse_entries(table: bytes, size: int) -> Iterator[Partition]:
    for position in range(0, len(table), size):
        entry = table[position : position + size]
        if entry[:16] == bytes(16):
            continue
        first, last = struct.unpack_from("<QQ", entry, 32)
        yield Partition(
            label=entry[56:128].decode("utf-16-le").rstrip("\0"),
            uuid=_guid(entry[16:32]),
            type=_guid(entry[:16]),
            offset_bytes=first * SECTOR,
            size_bytes=(last - first + 1) * SECTOR,
        )


def _guid(raw: bytes) -> str:
    first, second, third = struct.unpack_from("<IHH", raw)
    return f"{first:08x}-{second:04x}-{third:04x}-{raw[8:10].hex()}-{raw[10:].hex()}"


def hash_range(file: Path, offset: int, size: int) -> str:
    """SHA-256, in hex, of `size` bytes of a file from `offset`; of fewer where the file ends before that."""
    digest = hashlib.sha256()
    with file.open("rb") as handle:
        handle.seek(offset)
        while size > 0 and (chunk := handle.read(min(size, 1 << 20))):
            digest.update(chunk)
            size -= len(chunk)
    return digest.hexdigest()


def read_sections(uki: Path) -> dict[str, bytes]:
    """Sections of a PE file by name, each cut to its virtual size.

    Raises ReadError. Source: Microsoft PE format, section table.
    """
    data = uki.read_bytes()
    header = struct.unpack_from("<I", data, 0x3C)[0]
    if data[header : header + 4] != b"PE\0\0":
        raise ReadError(f"{uki}: no PE header")
    count, optional = struct.unpack_from("<H12xH", data, header + 6)
    sections = {}
    for index in range(count):
        entry = header + 24 + optional + 40 * index
        name = data[entry : entry + 8].rstrip(b"\0").decode()
        virtual, _, raw, offset = struct.unpack_from("<IIII", data, entry + 8)
        sections[name] = data[offset : offset + min(virtual, raw)]
    return sections


def predict_pcr11(sections: dict[str, bytes]) -> str:
    """PCR 11 (SHA-256, hex) after systemd-stub has measured these sections and before any boot phase."""
    register = bytes(32)
    for name in _MEASURED:
        if name in sections:
            for measured in (name.encode() + b"\0", sections[name]):
                register = hashlib.sha256(register + hashlib.sha256(measured).digest()).digest()
    return register.hex()


def write_manifest(file: Path, record: dict[str, Any]) -> None:
    """Write the manifest as stable text: sorted keys, no time of writing, so that equal inputs give equal bytes."""
    file.write_text(json.dumps(record, indent=1, sort_keys=True) + "\n")
