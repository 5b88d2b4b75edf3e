"""PCI configuration space: the header, the PCI Express capability and Access Control Services, from its bytes.

Source: PCI Express Base Specification 6.0, 7.5.1 (headers), 7.5.3 (PCI Express capability), 7.7.11 (ACS). Without privilege
the kernel gives the first 64 bytes only; the capabilities lie behind them.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from bedplate.model.facts.pci import Acs, PciKind

HEADER = 64  # bytes that everybody may read
CONVENTIONAL = 256  # bytes of conventional space; extended capabilities, ACS among them, come after
_EXPRESS, _ACS = 0x10, 0x000D
_STATUS_CAPABILITIES = 0x10
_KINDS = {4: PciKind.ROOT_PORT, 5: PciKind.SWITCH_UPSTREAM, 6: PciKind.SWITCH_DOWNSTREAM}
_SPEEDS = {1: 2.5, 2: 5.0, 3: 8.0, 4: 16.0, 5: 32.0, 6: 64.0}  # GT/s; 7.5.3.18
_NO_LINK = (9, 10)  # integrated in the root complex


@dataclass(frozen=True, slots=True, kw_only=True)
class Express:
    """The PCI Express capability. Speeds are None where the device has no link, or the link is down."""

    kind: PciKind
    relaxed_ordering: bool
    max_payload_bytes: int | None
    max_read_request_bytes: int | None
    speed_gts: float | None
    width: int | None
    max_speed_gts: float | None
    max_width: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """What a device says of itself in its configuration space.

    `express` and `acs` are None where it lacks the capability, or the bytes end before it (64 without privilege).
    """

    vendor: int
    device: int
    class_code: int
    secondary: int | None
    """The bus behind a bridge; None for what is no bridge."""
    has_capabilities: bool
    """Whether the header points to a list of capabilities, readable or not."""
    express: Express | None
    acs: Acs | None


def parse_config(data: bytes) -> Config | None:
    """What the readable part of a configuration space says; None when it is no header or all ones (the device is gone)."""
    if len(data) < HEADER or data[:4] in (b"\xff\xff\xff\xff", b"\0\0\0\0"):
        return None
    vendor, device, _, status = struct.unpack_from("<HHHH", data)
    is_bridge = data[0x0E] & 0x7F == 1
    express = _find(data, _EXPRESS) if status & _STATUS_CAPABILITIES else None
    return Config(
        vendor=vendor,
        device=device,
        class_code=int.from_bytes(data[9:12], "little"),
        secondary=data[0x19] if is_bridge and data[0x19] else None,
        has_capabilities=bool(status & _STATUS_CAPABILITIES),
        express=_parse_express(data, express, is_bridge=is_bridge) if express is not None else None,
        acs=_parse_acs(data),
    )


def _find(data: bytes, wanted: int) -> int | None:
    """Offset of a conventional capability. A list that loops (a broken device, a made-up recording) is walked once."""
    where, seen = data[0x34] & 0xFC, set[int]()
    while HEADER <= where <= min(len(data), CONVENTIONAL) - 2 and where not in seen:
        if data[where] == wanted:
            return where
        seen.add(where)
        where = data[where + 1] & 0xFC
    return None


def _parse_express(data: bytes, where: int, *, is_bridge: bool) -> Express | None:
    if where + 0x14 > len(data):
        return None
    flags, control, link, state = (struct.unpack_from("<H", data, where + at)[0] for at in (0x02, 0x08, 0x0C, 0x12))
    kind = (flags >> 4) & 0xF
    payload, request = (control >> 5) & 7, (control >> 12) & 7  # 6 and 7 are reserved
    has_link = kind not in _NO_LINK
    width = (state >> 4) & 0x3F if has_link else 0
    return Express(
        kind=_KINDS.get(kind, PciKind.BRIDGE if is_bridge else PciKind.ENDPOINT),
        relaxed_ordering=bool(control & 0x10),
        max_payload_bytes=128 << payload if payload < 6 else None,
        max_read_request_bytes=128 << request if request < 6 else None,
        speed_gts=_SPEEDS.get(state & 0xF) if width else None,
        width=width or None,
        max_speed_gts=_SPEEDS.get(link & 0xF) if has_link else None,
        max_width=(link >> 4) & 0x3F or None if has_link else None,
    )


def _parse_acs(data: bytes) -> Acs | None:
    where, seen = CONVENTIONAL, set[int]()
    while where not in seen and CONVENTIONAL <= where <= len(data) - 8:
        (head,) = struct.unpack_from("<I", data, where)
        if head in (0, 0xFFFF_FFFF):
            return None
        if head & 0xFFFF == _ACS:
            (control,) = struct.unpack_from("<H", data, where + 6)
            return Acs(
                source_validation=bool(control & 0x01),
                request_redirect=bool(control & 0x04),
                completion_redirect=bool(control & 0x08),
                upstream_forwarding=bool(control & 0x10),
                egress_control=bool(control & 0x20),
                direct_translated=bool(control & 0x40),
            )
        seen.add(where)
        where = (head >> 20) & 0xFFC
    return None
