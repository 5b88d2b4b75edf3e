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
from bedplate.host.root.jsontext import parse_json
from bedplate.image.recipe import Variant
from bedplate.model.layer import GpuCode

SECTOR = 512  # bytes
_MANIFEST_LIMIT = 16 << 20  # bytes
_LONGEST = 4096  # characters of one text; the kernel's command line is the longest
_LONGEST_NAME = 255  # bytes; NAME_MAX
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
    architectures: tuple[str, ...] = ()
    """Of models that this build loads, as its own library lists them; () where it has no such list."""
    gpu: GpuCode | None = None
    """Its GPU back ends and for which GPUs they hold code; None in a record that is older than this key."""


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
    hint = f"Remove it: bedplate image rm {directory.name}. To build the recipe's image again: bedplate image build"
    try:
        record = read_record(manifest)
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
    except (OSError, ReadError, ValueError, KeyError) as error:
        raise ReadError(f"image {directory.name}: its manifest cannot be read: {_reason(error)}", hint=hint) from error
    for file, size_bytes in files.values():
        if not file.is_file():
            raise ReadError(f"image {directory.name}: {file.name} is missing", hint=hint)
        if (got := file.stat().st_size) != size_bytes:
            raise ReadError(f"image {directory.name}: {file.name} has {got} bytes, expected {size_bytes}", hint=hint)
    return image


def read_record(manifest: Path) -> dict[str, Any]:
    """The whole manifest of an image, its texts, names and sizes checked where it has them; keys may be missing.

    Raises ReadError for what a build does not write: too long, of another type, a name that is a path or cannot be printed.
    """
    with manifest.open("rb") as file:
        text = file.read(_MANIFEST_LIMIT + 1)
    if len(text) > _MANIFEST_LIMIT:
        raise ReadError(f"it is longer than {_MANIFEST_LIMIT >> 20} MiB")
    record = parse_json(text, "it")
    if not isinstance(record, dict):
        raise ReadError("it is not a JSON object")
    for key in ("version", "variant", "kernel", "kernel_command_line", "id", "suite", "pcr11"):
        _check_text(record, key, key)
    _check_table(record, "inputs")
    for name in record.get("inputs", {}):
        _check_text(record["inputs"], name, f"inputs.{name[:80]}")
    _check_table(record, "files")
    for kind in record.get("files", {}):
        where = f"files.{kind[:80]}"
        _check_table(record["files"], kind, where)
        file = record["files"][kind]
        _check_text(file, "name", f"{where}.name")
        name = file.get("name", "x")
        if "/" in name or name in ("", ".", "..") or len(name.encode("utf-8", "surrogateescape")) > _LONGEST_NAME:
            raise ReadError(f"{where}.name: got {name[:80]!r}, expected the name of a file beside it")
        _check_size(file, "size_bytes", where)
        _check_size(file, "disk_bytes", where)
    for key, texts in (("packages", ("name", "version")), ("partitions", ("label", "uuid", "sha256"))):
        rows = record.get(key, [])
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise ReadError(f"{key}: expected a list of objects")
        for number, row in enumerate(rows):
            for text_key in texts:
                _check_text(row, text_key, f"{key}[{number}].{text_key}")
            _check_size(row, "size_bytes", f"{key}[{number}]")
    return record


def require_keys(record: dict[str, Any], *paths: str) -> None:
    """Raise ReadError for the first of these keys that a manifest lacks; "files.*.name" means each file."""
    for path in paths:
        here: list[Any] = [record]
        for key in path.split("."):
            found = [
                value
                for table in here
                for value in (
                    (table.values() if isinstance(table, dict) else table) if key == "*" else (table.get(key, _NOTHING),)
                )
            ]
            if any(value is _NOTHING for value in found):
                raise ReadError(f"the manifest of the image has no key {path}", hint="Build the image again.")
            here = found


_NOTHING = object()


def _check_table(table: dict[str, Any], key: str, where: str = "") -> None:
    if not isinstance(table.get(key, {}), dict):
        raise ReadError(f"{where or key}: expected an object")


def _check_text(table: dict[str, Any], key: str, where: str) -> None:
    value = table.get(key, "")
    if not isinstance(value, str) or len(value) > _LONGEST or not value.isprintable():
        raise ReadError(f"{where}: got {repr(value)[:80]}, expected printable text of at most {_LONGEST} characters")


def _check_size(table: dict[str, Any], key: str, where: str) -> None:
    value = table.get(key, 0)
    if type(value) is not int or not 0 <= value < 1 << 63:
        raise ReadError(f"{where}.{key}: got {repr(value)[:80]}, expected a number of bytes")


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
