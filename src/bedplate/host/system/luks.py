"""The header of a LUKS2 volume: its tokens. Source: LUKS2 On-Disk Format Specification 1.1.2, sections 2.1 and 2.2.

There are two copies, each a binary header of 4096 bytes and a JSON area that ends at the first NUL. Numbers are big endian:
magic at 0, version at 6, size of the copy at 8, sequence number at 16, name of the checksum at 72, place of the copy at 256,
checksum at 448 (over the whole copy, with zeros in its own 64 bytes). The copy is read that libcryptsetup would read
(LUKS2_disk_hdr_read): of those whose checksum is right the one of the higher sequence number, else the first. Nothing is
repaired here; libcryptsetup does that when it opens the volume for writing.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import BinaryIO

from bedplate.errors import ReadError

_BINARY_BYTES = 4096
_SIZES = tuple(0x4000 << number for number in range(9))  # bytes, 16 KiB to 4 MiB: the only ones that are allowed
_CHECKSUM = slice(448, 512)
_CHECKSUMS = {"sha1", "sha224", "sha256", "sha384", "sha512"}  # cryptsetup writes sha256


class Copy(StrEnum):
    """One of the two copies of a header."""

    FIRST = "first"
    SECOND = "second"

    @property
    def magic(self) -> bytes:
        """The six bytes that this copy begins with: "LUKS", in the second copy "SKUL", and two bytes 0xBA 0xBE."""
        return b"LUKS\xba\xbe" if self is Copy.FIRST else b"SKUL\xba\xbe"


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """One token: where the passphrase of some key slots comes from; `type` says by what means, "systemd-tpm2"."""

    id: int
    type: str
    keyslots: tuple[str, ...]
    body: dict[str, object]
    """Everything in it, these too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LuksHeader:
    """The copy of a header that libcryptsetup would use, with its tokens, and what is wrong with the other copy."""

    tokens: tuple[Token, ...]
    """By id."""
    copy: Copy
    """Which was read."""
    sequence: int
    """Grows by one with each change of the header."""
    size_bytes: int
    problem: str
    """What is wrong with the copy that was not read, "the first copy is damaged: its checksum is wrong"; else ""."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Damage:
    why: str
    """A clause: "its checksum is wrong"."""
    has_magic: bool = True
    """Whether it begins as a copy does; else something else lies there."""


def is_luks(volume: BinaryIO, *, offset: int = 0) -> bool:
    """Whether a LUKS volume seems to begin at offset: by the magic of its first copy, or of a second where one may lie."""
    for copy, place in ((Copy.FIRST, 0), *((Copy.SECOND, size) for size in _SIZES)):
        with suppress(OSError):  # a bad sector there; the other copy may be whole
            volume.seek(offset + place)
            if volume.read(len(copy.magic)) == copy.magic:
                return True
    return False


def read_luks_header(volume: BinaryIO, *, offset: int = 0, name: str) -> LuksHeader:
    """The newest whole copy of the header of a volume that begins at offset. Raises ReadError when there is none."""
    first = _read_copy(volume, offset, Copy.FIRST, 0)
    places = _SIZES if isinstance(first, _Damage) else (first.size_bytes,)
    seconds = [_read_copy(volume, offset, Copy.SECOND, place) for place in places]
    second = next((found for found in seconds if isinstance(found, LuksHeader)), None) or next(
        (found for found in seconds if isinstance(found, _Damage) and found.has_magic), seconds[0]
    )
    if isinstance(first, _Damage):
        if isinstance(second, _Damage):
            both = f"the first copy: {first.why}; the second copy: {second.why}"
            raise ReadError(f"{name}: expected the header of a LUKS2 volume; {both}")
        return replace(second, problem=f"the first copy is damaged: {first.why}")
    if isinstance(second, _Damage):
        return replace(first, problem=f"the second copy is damaged: {second.why}")
    old, new = (first, second) if second.sequence > first.sequence else (second, first)
    if old.sequence == new.sequence:
        return first
    return replace(new, problem=f"the {old.copy} copy is older: its sequence number is {old.sequence}, not {new.sequence}")


def _read_copy(volume: BinaryIO, offset: int, copy: Copy, place: int) -> LuksHeader | _Damage:
    """The copy that begins so many bytes after the volume's begin, when all of it is as it was written."""
    try:
        volume.seek(offset + place)
        binary = volume.read(_BINARY_BYTES)
        if binary[:8] != copy.magic + b"\0\2":
            return _Damage(why=f"got {binary[:8]!r}, expected {copy.magic!r} of version 2", has_magic=False)
        size = int.from_bytes(binary[8:16], "big")
        if size not in _SIZES:
            return _Damage(why=f"its size is {size} bytes, which the specification does not allow")
        whole = binary + volume.read(size - _BINARY_BYTES)
    except OSError as error:
        return _Damage(why=error.strerror or str(error), has_magic=False)
    if len(whole) < size:
        return _Damage(why=f"it is cut off after {len(whole)} of {size} bytes")
    algorithm = whole[72:104].split(b"\0", 1)[0].decode("ascii", "replace")
    if algorithm not in _CHECKSUMS:
        return _Damage(why=f"its checksum is made by {algorithm!r}, which is not known")
    digest = hashlib.new(algorithm, whole[: _CHECKSUM.start] + bytes(64) + whole[_CHECKSUM.stop :]).digest()
    if whole[_CHECKSUM][: len(digest)] != digest:
        return _Damage(why="its checksum is wrong")
    own_place = int.from_bytes(whole[256:264], "big")
    if own_place != place:
        return _Damage(why=f"its header belongs at {own_place}, but is at {place}")
    try:
        tokens = parse_luks_tokens(whole[_BINARY_BYTES:])
    except ReadError as error:
        return _Damage(why=error.message)
    return LuksHeader(tokens=tokens, copy=copy, sequence=int.from_bytes(whole[16:24], "big"), size_bytes=size, problem="")


def parse_luks_tokens(area: bytes) -> tuple[Token, ...]:
    """Tokens of a JSON area: b'{"tokens":{"0":{"type":"systemd-tpm2","keyslots":["0"]}}}\\0...'. Raises ReadError."""
    try:
        rows = json.loads(area.split(b"\0", 1)[0])["tokens"]
        return tuple(
            Token(id=int(number), type=str(row["type"]), keyslots=tuple(str(slot) for slot in row["keyslots"]), body=row)
            for number, row in sorted(rows.items(), key=lambda item: int(item[0]))
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ReadError(f"its JSON area is damaged: {type(error).__name__}: {error}") from error
