"""The two copies of a LUKS2 header as cryptsetup writes them. Source: LUKS2 On-Disk Format Specification 1.1.2, 2.1."""

from __future__ import annotations

import hashlib
import json

FIRST, SECOND = b"LUKS\xba\xbe", b"SKUL\xba\xbe"
SIZE = 16384  # bytes of a copy, JSON area and all


def make_copy(
    tokens: object, *, second: bool = False, size: int = SIZE, sequence: int = 4, version: int = 2, algorithm: str = "sha256"
) -> bytes:
    """One copy, with its checksum."""
    magic = SECOND if second else FIRST
    binary = bytearray(magic + version.to_bytes(2, "big") + size.to_bytes(8, "big") + sequence.to_bytes(8, "big"))
    binary += bytes(4096 - len(binary))
    binary[72:104] = algorithm.encode().ljust(32, b"\0")
    binary[256:264] = (size if second else 0).to_bytes(8, "big")
    area = json.dumps({"tokens": tokens}).encode()
    written = size if 4096 < size <= 4 << 20 else SIZE
    return with_checksum(bytes(binary) + area.ljust(written - len(binary), b"\0"))


def with_checksum(copy: bytes) -> bytes:
    """The copy with the checksum of what stands in it now: over all of it, with zeros for the checksum itself."""
    digest = hashlib.sha256(copy[:448] + bytes(64) + copy[512:]).digest()
    return copy[:448] + digest.ljust(64, b"\0") + copy[512:]


def make_volume(tokens: object, *, size: int = SIZE, version: int = 2) -> bytes:
    """A volume with both copies, and no more."""
    return b"".join(make_copy(tokens, second=second, size=size, version=version) for second in (False, True))
