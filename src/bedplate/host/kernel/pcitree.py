"""What every reader of PCI devices needs: addresses, the tree put in order, and the port above each device.

The devices come from /sys, from `lspci`, from a topology of NCCL or of hwloc; the tree is the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TypeVar

from bedplate.model.facts.pci import Link, PciDevice, PciKind
from bedplate.model.facts.reading import Reading, Unknown, missing

T = TypeVar("T")

NO_LINK = Link(speed_gts=None, width=None, max_speed_gts=None, max_width=None, port_max_speed_gts=None, port_max_width=None)
CLASS_BRIDGE = 0x0604
_ADDRESS = re.compile(r"(?:([0-9a-fA-F]{1,8}):)?([0-9a-fA-F]{2}):([0-9a-fA-F]{2})\.([0-7])", re.ASCII)


def parse_address(text: str) -> str | None:
    """The address in one spelling: "19:00.0" and "00000000:19:00.0" -> "0000:19:00.0"; None when it is none."""
    match = _ADDRESS.fullmatch(text.strip())
    if match is None:
        return None
    return f"{int(match[1] or '0', 16):04x}:{match[2].lower()}:{match[3].lower()}.{match[4]}"


def address_key(address: str) -> tuple[int, ...]:
    """What addresses are sorted by: numbers, since domains behind an Intel VMD have five digits."""
    return tuple(int(part, 16) for part in address.replace(".", ":").split(":"))


def bus_of(address: str) -> tuple[str, int]:
    """(domain, bus) of an address as parse_address gives it: "0000:19:00.0" -> ("0000", 25)."""
    domain, bus, _ = address.split(":")
    return domain, int(bus, 16)


def make_device(address: str, *, class_code: int, source: str) -> PciDevice:
    """A PCI device of which a recording tells the place and class only, to be completed with `replace`."""

    def unknown() -> Reading[T]:
        return missing(Unknown.NOT_RECORDED, source)

    return PciDevice(
        address=address,
        parent=None,
        kind=PciKind.BRIDGE if class_code >> 8 == CLASS_BRIDGE else PciKind.ENDPOINT,
        class_code=class_code,
        vendor=0,
        device=0,
        name="",
        driver=unknown(),
        numa_node=unknown(),
        local_cpus=(),
        link=NO_LINK,
        acs=unknown(),
        iommu_group=unknown(),
        iommu_type=unknown(),
        max_payload_bytes=None,
        max_read_request_bytes=None,
        relaxed_ordering=None,
        bars_bytes=(),
    )


def parents_by_bus(addresses: Iterable[str], secondary: Mapping[str, int]) -> dict[str, str]:
    """The bridge above each device, from the secondary bus numbers of the bridges."""
    bridges = {(bus_of(bridge)[0], bus): bridge for bridge, bus in secondary.items() if bus != 0}
    return {
        address: bridge
        for address in addresses
        if (bridge := bridges.get(bus_of(address))) is not None and bridge != address
    }


def finish_tree(devices: Iterable[PciDevice]) -> tuple[PciDevice, ...]:
    """Devices by address, each once, with a tree that ends: parents that are not there or lead in a circle become None.

    The port's link is filled in. A bridge of which only the link is known (no privilege for its capabilities) gets its
    kind by its place: PCI Express bridges alternate root port, upstream port, downstream port on the way down.
    """
    known: dict[str, PciDevice] = {}
    for device in devices:
        known.setdefault(device.address, device)
    order = sorted(known, key=address_key)
    depth: dict[str, int] = {}
    for address in order:
        path: dict[str, None] = {}
        here: str | None = address
        while here is not None and here not in depth and here not in path:
            path[here] = None
            above = known[here].parent
            here = above if above in known else None
        upwards = list(path)
        if upwards and (here is None or here in path):  # the top, or a circle, which is cut at the device that closes it
            known[upwards[-1]] = replace(known[upwards[-1]], parent=None)
        start = depth.get(here, -1) if here is not None else -1
        for place, below in enumerate(reversed(upwards)):
            depth[below] = start + 1 + place
    with_bridges = {device.parent for device in known.values() if _is_express_bridge(device)}
    for address in sorted(order, key=depth.__getitem__):
        device = known[address]
        port = known[device.parent] if device.parent is not None else None
        known[address] = replace(
            device,
            kind=_kind_by_place(device, port, has_bridges=address in with_bridges),
            link=replace(
                device.link,
                port_max_speed_gts=port.link.max_speed_gts if port is not None else None,
                port_max_width=port.link.max_width if port is not None else None,
            ),
        )
    return tuple(known[address] for address in order)


def _is_express_bridge(device: PciDevice) -> bool:
    return device.class_code >> 8 == CLASS_BRIDGE and device.link.max_speed_gts is not None


def _kind_by_place(device: PciDevice, above: PciDevice | None, *, has_bridges: bool) -> PciKind:
    if device.kind is not PciKind.BRIDGE or not _is_express_bridge(device):
        return device.kind
    if above is None or above.kind is PciKind.ENDPOINT:  # below an endpoint: the root ports of an Intel VMD
        return PciKind.ROOT_PORT
    if above.kind is PciKind.SWITCH_UPSTREAM:
        return PciKind.SWITCH_DOWNSTREAM
    if above.kind in (PciKind.ROOT_PORT, PciKind.SWITCH_DOWNSTREAM) and has_bridges:
        return PciKind.SWITCH_UPSTREAM
    return device.kind
