"""The PCI tree from /sys/bus/pci/devices (Documentation/ABI/testing/sysfs-bus-pci).

Parents come from where the links lead (/sys/devices/pci0000:15/0000:15:01.0/0000:16:00.0); in a recording whose links were
made directories, from the bus numbers of the bridges. Capabilities lie behind the first 64 bytes of `config`, which need
root: ACS is DENIED then. Only bridges are read past 256 bytes: 4 kB of a device are 1024 cycles on its bus.
"""

from __future__ import annotations

import re
from dataclasses import replace

from bedplate.host.kernel.attributes import parse_int, read_cpu_list, read_int, read_node
from bedplate.host.kernel.pciconfig import CONVENTIONAL, HEADER, Config, parse_config
from bedplate.host.kernel.pciids import read_pci_names
from bedplate.host.kernel.pcitree import CLASS_BRIDGE, NO_LINK, finish_tree, parents_by_bus, parse_address
from bedplate.host.root.root import Root
from bedplate.model.facts.pci import Acs, Link, PciDevice, PciKind
from bedplate.model.facts.reading import Reading, Unknown, known, missing

DEVICES = "/sys/bus/pci/devices"
_SPEED = re.compile(r"(\d{1,3}(?:\.\d)?) ?GT/s", re.ASCII)
_NO_WIDTH = (0, 255)  # a link that is down, and PCIE_LNK_WIDTH_UNKNOWN
_EXTENDED = 4096  # bytes of configuration space of a PCI Express device
_MEMORY_BAR = 0x200  # IORESOURCE_MEM


def read_pci(root: Root) -> tuple[PciDevice, ...]:
    """All PCI devices by address; () on a machine without PCI, or where a recording has no /sys/bus/pci."""
    where = {address: f"{DEVICES}/{name}" for name in root.listdir(DEVICES) if (address := parse_address(name))}
    secondary: dict[str, int] = {}
    group_types: dict[int, Reading[str]] = {}
    devices = [_read_device(root, address, place, secondary, group_types) for address, place in where.items()]
    by_bus = parents_by_bus(where, secondary)
    names = read_pci_names(root, {(device.vendor, device.device) for device in devices})
    return finish_tree(
        replace(
            device,
            parent=device.parent or by_bus.get(device.address),
            name=names.get((device.vendor, device.device), ""),
        )
        for device in devices
    )


def parse_speed(text: str | None) -> float | None:
    """GT/s of "32.0 GT/s PCIe", "8 GT/s" or "Speed 8GT/s (ok)"; None for "Unknown" and for nothing."""
    match = _SPEED.search(text or "")
    return float(match[1]) if match else None


def parse_resource(text: str) -> tuple[int, ...]:
    """Sizes of the memory BARs of a `resource` file: lines of start, end and flags; the first six are the BARs."""
    sizes: list[int] = []
    for line in text.splitlines()[:6]:
        numbers = [parse_int(word) for word in line.split()]
        if len(numbers) == 3 and (flags := numbers[2]) is not None and flags & _MEMORY_BAR:
            start, end = numbers[0], numbers[1]
            if start is not None and end is not None and end > start:
                sizes.append(end - start + 1)
    return tuple(sizes)


def _read_device(
    root: Root, address: str, link: str, secondary: dict[str, int], group_types: dict[int, Reading[str]]
) -> PciDevice:
    where = root.resolve(link) or link
    class_code = parse_int(root.read(f"{where}/class").value or "") or 0
    is_bridge = class_code >> 8 == CLASS_BRIDGE
    raw = root.read_bytes(f"{where}/config", _EXTENDED if is_bridge else CONVENTIONAL)
    config = parse_config(raw.value) if raw.value is not None else None
    if config is not None and config.secondary is not None:
        secondary[address] = config.secondary
    express = config.express if config is not None else None
    group = _read_group(root, where)
    if group.value is not None and group.value not in group_types:
        group_types[group.value] = root.read(f"/sys/kernel/iommu_groups/{group.value}/type")
    return PciDevice(
        address=address,
        parent=_parent_of(where, address),
        kind=express.kind if express is not None else PciKind.BRIDGE if is_bridge else PciKind.ENDPOINT,
        class_code=class_code or (config.class_code if config is not None else 0),
        # A virtual function has no numbers in its configuration space: `config` is None then.
        vendor=config.vendor if config is not None else read_int(root, f"{where}/vendor").value or 0,
        device=config.device if config is not None else read_int(root, f"{where}/device").value or 0,
        name="",
        driver=_read_driver(root, where),
        numa_node=read_node(root, f"{where}/numa_node"),
        local_cpus=read_cpu_list(root, f"{where}/local_cpulist", mask=f"{where}/local_cpus") or (),
        link=_read_link(root, where, config),
        acs=_acs(f"{where}/config", raw, config, is_bridge=is_bridge),
        iommu_group=group,
        iommu_type=group_types[group.value]
        if group.value is not None
        else missing(group.unknown or Unknown.ABSENT, f"{where}/iommu_group", group.text),
        max_payload_bytes=express.max_payload_bytes if express is not None else None,
        max_read_request_bytes=express.max_read_request_bytes if express is not None else None,
        relaxed_ordering=express.relaxed_ordering if express is not None else None,
        bars_bytes=parse_resource(root.read(f"{where}/resource").value or ""),
    )


def _parent_of(where: str, address: str) -> str | None:
    """The device above in the path; a "pci0000:15" between them is a host bridge or a VMD's bus."""
    for name in reversed(where.split("/")[:-1]):
        if (above := parse_address(name)) is not None:
            return above if above != address else None
        if not name.startswith("pci"):
            return None
    return None


def _read_driver(root: Root, where: str) -> Reading[str]:
    target = root.readlink(f"{where}/driver")
    if target is not None:
        return known(target.rsplit("/", 1)[-1], f"{where}/driver")
    return missing(root.absent, f"{where}/driver")


def _read_group(root: Root, where: str) -> Reading[int]:
    target = root.readlink(f"{where}/iommu_group")
    if target is None:
        return missing(root.absent, f"{where}/iommu_group")
    number = parse_int(target.rsplit("/", 1)[-1])
    if number is None:
        return missing(Unknown.MALFORMED, f"{where}/iommu_group", target)
    return known(number, f"{where}/iommu_group")


def _read_link(root: Root, where: str, config: Config | None) -> Link:
    """From the capability where it is readable, else from the four files that everybody may read (Linux 4.13)."""
    if config is not None and config.express is not None:
        one = config.express
        now, most = (one.speed_gts, one.width), (one.max_speed_gts, one.max_width)
    elif config is not None and not config.has_capabilities:
        return NO_LINK
    else:
        most = _read_speed(root, f"{where}/max_link_speed", f"{where}/max_link_width")
        now = _read_speed(root, f"{where}/current_link_speed", f"{where}/current_link_width")
    return replace(NO_LINK, speed_gts=now[0], width=now[1], max_speed_gts=most[0], max_width=most[1])


def _read_speed(root: Root, speed: str, width: str) -> tuple[float | None, int | None]:
    lanes = parse_int(root.read(width).value or "")
    if lanes is None or lanes in _NO_WIDTH:  # a link that is down still names a speed
        return None, None
    return parse_speed(root.read(speed).value), lanes


def _acs(where: str, raw: Reading[bytes], config: Config | None, *, is_bridge: bool) -> Reading[Acs]:
    if raw.value is None:
        return missing(raw.unknown or Unknown.ABSENT, where, raw.text)
    if config is None:
        return missing(Unknown.MALFORMED, where, f"{len(raw.value)} bytes, vendor {raw.value[:2].hex() or 'none'}")
    if config.acs is not None:
        return known(config.acs, where, "ACSCtl")
    if not config.has_capabilities:
        return missing(Unknown.ABSENT, where, "the device has no capabilities")
    if len(raw.value) <= HEADER:
        return missing(Unknown.DENIED, where, f"only the first {len(raw.value)} bytes are readable")
    if not is_bridge:
        return missing(Unknown.ABSENT, where, "read of ports only")
    if config.express is not None and len(raw.value) <= CONVENTIONAL:
        return missing(Unknown.HIDDEN, where, "the platform gives no extended configuration space")
    return missing(Unknown.ABSENT, where, "the port has no ACS capability")
