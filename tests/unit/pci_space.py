"""PCI configuration spaces, made for a test: the header, the PCI Express capability and, for a port, ACS."""

from __future__ import annotations

import struct

ENDPOINT, ROOT_PORT, UPSTREAM, DOWNSTREAM, INTEGRATED = 0, 4, 5, 6, 9


def make_config(
    kind: int,
    *,
    size: int = 4096,
    secondary: int = 0,
    subordinate: int | None = None,
    acs: int | None = None,
    link: int = 0x105,
    status: int | None = None,
    ids: tuple[int, int] = (0x10DE, 0x2330),
    class_code: int = 0x030200,
) -> bytes:
    """A space with the PCI Express capability at 0x40 and, for a port, AER and then ACS behind 0x100.

    A secondary bus makes it a bridge, whatever class_code says; subordinate is the last bus behind it, by default that one.
    link is what the link can and status what it does, by default the same: 0x105 is 32 GT/s x16.
    """
    space = bytearray(4096)
    struct.pack_into("<HHHH", space, 0, *ids, 0, 0x10)
    space[9:12] = (0x060400 if secondary else class_code).to_bytes(3, "little")
    space[0x0E], space[0x19], space[0x34] = int(secondary > 0), secondary, 0x40
    space[0x1A] = secondary if subordinate is None else subordinate
    space[0x40] = 0x10
    struct.pack_into("<H", space, 0x42, kind << 4)
    struct.pack_into("<H", space, 0x48, 0x10 | 1 << 5 | 5 << 12)  # relaxed ordering, 256, 4096
    struct.pack_into("<H", space, 0x4C, link)
    struct.pack_into("<H", space, 0x52, link if status is None else status)
    struct.pack_into("<I", space, 0x100, 0x0001 | 1 << 16 | 0x150 << 20)
    if acs is not None:
        struct.pack_into("<I", space, 0x150, 0x000D | 1 << 16)
        struct.pack_into("<H", space, 0x156, acs)
    return bytes(space[:size])
