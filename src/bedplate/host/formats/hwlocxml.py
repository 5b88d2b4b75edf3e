"""A machine from hwloc's XML export (`lstopo machine.xml`), versions 2 and 3: CPUs, caches, NUMA nodes, the PCI tree.

Source: hwloc manual, "Importing and exporting topologies from/to XML files"; hwloc2.dtd. hwloc says where a device hangs by
the object above its host bridge; link speeds are rates in GB/s and are left out. Version 1 put NUMA nodes elsewhere: it is
refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from bedplate.errors import ReadError
from bedplate.host.accel.blank import make_accelerator
from bedplate.host.kernel.attributes import parse_int
from bedplate.host.kernel.pcitree import finish_tree, make_device, parse_address
from bedplate.host.root.cpu_lists import CpuSets
from bedplate.host.root.xmlfile import Element, parse_xml
from bedplate.model.facts.cpu import Cache, CoreKind, LogicalCpu, NumaNode, NumaTopology
from bedplate.model.facts.pci import Accelerator, NetworkDevice, PciDevice
from bedplate.model.facts.reading import Reading, Unknown, known, missing

SOURCE = "hwloc XML"
_CACHE = re.compile(r"L([1-5])i?Cache", re.ASCII)
_KINDS = {"0": "Unified", "1": "Data", "2": "Instruction"}
_PCI_TYPE = re.compile(r"([0-9a-f]{4}) \[([0-9a-f]{4}):([0-9a-f]{4})\]", re.ASCII)
_INTERFACE = re.compile(r"(?:eth|en|ib|hfi|wl)\w{1,14}", re.ASCII)
_NODES_MOST = 1024  # NUMA nodes of a matrix; CONFIG_NODES_SHIFT is at most 10
_DISPLAY = (0x0300, 0x0302, 0x0380)
_MAKERS = {0x10DE: "nvidia", 0x1002: "amd", 0x8086: "intel"}


@dataclass(frozen=True, slots=True, kw_only=True)
class HwlocTopology:
    """The part of HostFacts that an hwloc export holds; `model_name` and `architecture` are "" where it does not say."""

    model_name: str
    architecture: str
    cpus: tuple[LogicalCpu, ...]
    caches: tuple[Cache, ...]
    numa: NumaTopology
    pci: tuple[PciDevice, ...]
    accelerators: tuple[Accelerator, ...]
    network: tuple[NetworkDevice, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Enclosing:
    """What the objects above say."""

    package: int | None = None
    die: int | None = None
    core: int | None = None
    siblings: tuple[int, ...] = ()
    cpus: tuple[int, ...] = ()
    nodes: tuple[int, ...] = ()
    bridge: str | None = None


@dataclass(slots=True)
class _HwlocParts:
    cpus: list[LogicalCpu] = field(default_factory=list)
    caches: list[Cache] = field(default_factory=list)
    nodes: list[NumaNode] = field(default_factory=list)
    pci: list[PciDevice] = field(default_factory=list)
    devices: list[tuple[Element, PciDevice]] = field(default_factory=list)
    """(operating-system device, the PCI device that it hangs at)."""
    infos: dict[str, str] = field(default_factory=dict)
    sets: CpuSets = field(default_factory=CpuSets)


def parse_hwloc(text: str) -> HwlocTopology:
    """The topology of an export. Raises ReadError when it is no such XML, or of version 1."""
    topology = parse_xml(text)
    machine = topology.find("object")
    if topology.tag != "topology" or machine is None or machine.get("type") != "Machine":
        raise ReadError(f"the XML is a {topology.tag[:40]}, not a topology of hwloc")
    if not topology.get("version", "").startswith(("2.", "3.")):
        raise ReadError(f"the topology is of version {topology.get('version', '1')[:20]}; export it with hwloc 2 or newer")
    found = _HwlocParts()
    _walk(machine, _Enclosing(), found)
    nodes = sorted(found.nodes, key=lambda node: node.node)
    rows = _distances(topology, [node.node for node in nodes])
    node_of = {cpu: node.node for node in nodes for cpu in node.cpus}
    pci = finish_tree(found.pci)
    return HwlocTopology(
        model_name=found.infos.get("CPUModel", ""),
        architecture=found.infos.get("Architecture", ""),
        cpus=tuple(replace(cpu, node=node_of.get(cpu.cpu)) for cpu in sorted(found.cpus, key=lambda cpu: cpu.cpu)),
        caches=tuple(sorted(found.caches, key=lambda cache: (cache.level, cache.kind, cache.cpus))),
        numa=NumaTopology(nodes=tuple(replace(node, distances=rows.get(node.node, ())) for node in nodes), source=SOURCE),
        pci=pci,
        accelerators=_accelerators(pci, found.devices),
        network=tuple(sorted(_network(found.devices), key=lambda device: device.name)),
    )


def _walk(element: Element, place: _Enclosing, found: _HwlocParts) -> None:
    """Depth is bounded by the reader of XML."""
    kind = element.get("type", "")
    number = parse_int(element.get("os_index", ""))
    cpus = _set(element, "cpuset", found.sets)
    if cpus is not None:
        place = replace(place, cpus=cpus, nodes=_set(element, "nodeset", found.sets) or ())
    device: PciDevice | None = None
    if kind == "Machine" or kind == "Package":
        for info in element.findall("info"):
            found.infos.setdefault(info.get("name", ""), info.get("value", ""))
    if kind == "Package":
        place = replace(place, package=number)
    elif kind == "Die":
        place = replace(place, die=number)
    elif kind == "Core":
        place = replace(place, core=number, siblings=place.cpus)
    elif kind == "PU" and number is not None:
        found.cpus.append(_cpu(number, place))
    elif kind == "NUMANode" and number is not None:
        memory = parse_int(element.get("local_memory", ""))
        found.nodes.append(
            NumaNode(node=number, cpus=place.cpus, mem_bytes=memory, free_bytes=None, distances=(), huge_pages=())
        )
    elif (match := _CACHE.fullmatch(kind)) is not None:
        size = parse_int(element.get("cache_size", "")) or 0
        name = _KINDS.get(element.get("cache_type", ""), "Unified")
        found.caches.append(Cache(level=int(match[1]), kind=name, size_bytes=size, cpus=place.cpus))
    elif kind in ("Bridge", "PCIDev"):
        device = _pci(element, place)
        if device is not None:
            found.pci.append(device)
            place = replace(place, bridge=device.address)
    for child in element.findall("object"):
        if child.get("type") == "OSDev" and device is not None:
            found.devices.append((child, device))
        _walk(child, place, found)


def _set(element: Element, name: str, sets: CpuSets) -> tuple[int, ...] | None:
    text = element.get(name)
    return sets.parse_mask(text) if text is not None else None


def _cpu(number: int, place: _Enclosing) -> LogicalCpu:
    return LogicalCpu(
        cpu=number,
        online=True,
        package=place.package,
        core=place.core,
        die=place.die,
        node=None,
        siblings=place.siblings or (number,),
        kind=CoreKind.UNIFORM,
        max_khz=None,
    )


def _pci(element: Element, place: _Enclosing) -> PciDevice | None:
    """A device or a bridge between two buses; None for a host bridge, which has no address."""
    address = parse_address(element.get("pci_busid", ""))
    numbers = _PCI_TYPE.match(element.get("pci_type", ""))
    if address is None or numbers is None:
        return None
    infos = {info.get("name", ""): info.get("value", "") for info in element.findall("info")}
    node: Reading[int] = (
        known(place.nodes[0], SOURCE)
        if len(place.nodes) == 1
        else missing(Unknown.HIDDEN, SOURCE, f"below {len(place.nodes)} nodes")
    )
    return replace(
        make_device(address, class_code=int(numbers[1], 16) << 8, source=SOURCE),
        parent=place.bridge,
        vendor=int(numbers[2], 16),
        device=int(numbers[3], 16),
        name=" ".join(word for word in (infos.get("PCIVendor", ""), infos.get("PCIDevice", "")) if word)[:160],
        numa_node=node,
        local_cpus=place.cpus,
    )


def _accelerators(pci: tuple[PciDevice, ...], devices: list[tuple[Element, PciDevice]]) -> tuple[Accelerator, ...]:
    models = {
        device.address: info.get("value", "")
        for element, device in devices
        for info in element.findall("info")
        if info.get("name") == "GPUModel"
    }
    makers = [
        device
        for device in pci
        if device.class_code >> 16 == 0x12 or (device.class_code >> 8 in _DISPLAY and device.vendor in _MAKERS)
    ]
    return tuple(
        make_accelerator(
            vendor=_MAKERS.get(device.vendor, f"{device.vendor:04x}"),
            index=index,
            name=models.get(device.address) or device.name,
            address=device.address,
            why=Unknown.NOT_RECORDED,
            source=SOURCE,
        )
        for index, device in enumerate(makers)
    )


def _network(devices: list[tuple[Element, PciDevice]]) -> Iterator[NetworkDevice]:
    by_address: dict[str, list[str]] = {}
    for element, device in devices:
        if element.get("name", "").startswith(("mlx", "hfi1_", "bnxt_re", "qib")):
            by_address.setdefault(device.address, []).append(element.get("name", ""))
    names = {address: tuple(sorted(found)) for address, found in by_address.items()}
    for element, device in devices:
        name = element.get("name", "")
        if device.class_code >> 16 == 0x02 and _INTERFACE.fullmatch(name):
            rdma = names.get(device.address, ())
            yield NetworkDevice(
                name=name,
                driver=missing(Unknown.NOT_RECORDED, SOURCE),
                address=device.address,
                speed_mbps=missing(Unknown.NOT_RECORDED, SOURCE),
                operstate="",
                numa_node=device.numa_node,
                rx_queues=0,
                tx_queues=0,
                irqs=(),
                rdma=rdma,
            )


def _distances(topology: Element, nodes: list[int]) -> dict[int, tuple[int, ...]]:
    """Rows of the latency matrix between NUMA nodes, in the order of the nodes; {} without one."""
    for matrix in topology.findall("distances2"):
        if (
            matrix.get("type") != "NUMANode"
            or matrix.get("indexing") != "os"
            or "Latency" not in matrix.get("name", "Latency")
        ):
            continue
        names = [parse_int(word) for part in matrix.findall("indexes") for word in (part.text or "").split()]
        values = [parse_int(word) for part in matrix.findall("u64values") for word in (part.text or "").split()]
        size = len(names)
        if (
            size > _NODES_MOST
            or sorted(name for name in names if name is not None) != nodes
            or len(values) != size * size
            or None in values
        ):
            continue
        at = {name: place for place, name in enumerate(names)}
        return {a: tuple(values[at[a] * size + at[b]] or 0 for b in nodes) for a in nodes}
    return {}
