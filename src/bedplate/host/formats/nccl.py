"""A machine from the topology file of NCCL or RCCL: NUMA nodes, the PCI tree, accelerators and how they meet, and NICs.

Written with NCCL_TOPO_DUMP_FILE, read with NCCL_TOPO_FILE (NCCL User Guide, Environment Variables; graph/topo.cc and
xml.cc). link_speed and link_width are the most that device and port can do together, not what was trained. Addresses such
as ffff:ff:01.0 are switches that the author of a file for a virtual machine made up.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from bedplate.errors import ReadError
from bedplate.host.accel.blank import make_accelerator
from bedplate.host.kernel.attributes import parse_int
from bedplate.host.kernel.pci import parse_speed
from bedplate.host.kernel.pcitree import CLASS_BRIDGE, finish_tree, make_device, parse_address
from bedplate.host.root.cpu_lists import CpuSets
from bedplate.host.root.xmlfile import Element, parse_xml
from bedplate.model.facts.cpu import NumaNode, NumaTopology
from bedplate.model.facts.pci import Accelerator, NetworkDevice, PciDevice, PciKind
from bedplate.model.facts.reading import Reading, Unknown, known, missing

SOURCE = "NCCL topology"
_MAKERS = {0x10DE: "nvidia", 0x1002: "amd", 0x8086: "intel"}
_MADE_UP = (0, 0xFFFF)
_ACCELERATORS = (0x0300, 0x0302, 0x0380, 0x1200)
_NVSWITCH = "0x068000"
_FASTEST_MBPS = 3_200_000  # Mb/s; four times the fastest port of 2026


@dataclass(frozen=True, slots=True, kw_only=True)
class NcclTopology:
    """The part of HostFacts that a topology file of NCCL or RCCL holds; the order of `pci` is that of the addresses."""

    architecture: str
    numa: NumaTopology
    pci: tuple[PciDevice, ...]
    accelerators: tuple[Accelerator, ...]
    """In the order of `dev` where that is said, else of their addresses."""
    network: tuple[NetworkDevice, ...]


@dataclass(slots=True)
class _NcclParts:
    """What is collected while the tree is walked."""

    pci: list[PciDevice] = field(default_factory=list)
    gpus: list[tuple[str, Element, Element | None]] = field(default_factory=list)
    """(address, its pci element, its gpu element)."""
    network: list[NetworkDevice] = field(default_factory=list)


def parse_nccl(text: str) -> NcclTopology:
    """The topology of a file. Raises ReadError when it is no such XML."""
    system = parse_xml(text)
    if system.tag != "system" or not system.findall("cpu"):
        raise ReadError(f"the XML is a {system.tag[:40]}, not a system of cpus as NCCL writes it")
    found, sets = _NcclParts(), CpuSets()
    nodes: dict[int, NumaNode] = {}
    for cpu in system.findall("cpu"):
        number = parse_int(cpu.get("numaid", ""))
        node: Reading[int] = (
            known(number, SOURCE, f"numaid={number}")
            if number is not None and number >= 0
            else missing(Unknown.HIDDEN, SOURCE, cpu.get("numaid", "")[:80])
        )
        cpus = sets.parse_mask(cpu.get("affinity", ""))
        if node.value is not None:
            nodes[node.value] = NumaNode(
                node=node.value, cpus=cpus, mem_bytes=None, free_bytes=None, distances=(), huge_pages=()
            )
        _walk(cpu, None, node, cpus, found)
    # NCCL goes up two levels at a time: it leaves root ports and downstream ports out, and a bridge of its file is a switch.
    pci = tuple(
        replace(device, kind=PciKind.SWITCH_UPSTREAM) if device.class_code >> 8 == CLASS_BRIDGE else device
        for device in finish_tree(found.pci)
    )
    return NcclTopology(
        architecture=system.findall("cpu")[0].get("arch", ""),
        numa=NumaTopology(nodes=tuple(nodes[number] for number in sorted(nodes)), source=SOURCE),
        pci=pci,
        accelerators=_accelerators(found.gpus),
        network=tuple(sorted(found.network, key=lambda device: device.name)),
    )


def _walk(element: Element, parent: str | None, node: Reading[int], cpus: tuple[int, ...], found: _NcclParts) -> None:
    """Depth is bounded by the reader of XML."""
    for child in element.findall("pci"):
        address = parse_address(child.get("busid", ""))
        if address is None:
            raise ReadError(f"busid {child.get('busid', '')[:80]!r} is not a PCI address")
        class_code = _hex(child, "class")
        device = make_device(address, class_code=class_code, source=SOURCE)
        found.pci.append(
            replace(
                device,
                parent=parent,
                vendor=_hex(child, "vendor"),
                device=_hex(child, "device"),
                numa_node=node,
                local_cpus=cpus,
                link=replace(
                    device.link,
                    max_speed_gts=parse_speed(child.get("link_speed")),
                    max_width=parse_int(child.get("link_width", "")) or None,
                ),
            )
        )
        gpu = child.find("gpu")
        if gpu is not None or class_code >> 8 in _ACCELERATORS:
            found.gpus.append((address, child, gpu))
        found.network += _network(child, address, class_code, node)
        _walk(child, address, node, cpus, found)


def _network(pci: Element, address: str, class_code: int, node: Reading[int]) -> Iterator[NetworkDevice]:
    nets = pci.findall("nic/net")
    if not nets and class_code >> 16 == 0x02:
        nets = [Element("net", name=address)]
    for net in nets:
        name = net.get("name", address)
        guid = parse_int(net.get("guid", "")) if net.get("guid", "").startswith("0x") else None
        yield NetworkDevice(
            name=name,
            driver=missing(Unknown.NOT_RECORDED, SOURCE),
            address=address,
            speed_mbps=_speed(net.get("speed", "")),
            operstate="",
            numa_node=node,
            rx_queues=0,
            tx_queues=0,
            irqs=(),
            rdma=(name,) if guid else (),
        )


def _speed(text: str) -> Reading[int]:
    """Mb/s of a port. Plugins of some fabrics write kb/s into the field: a speed that no port has is taken for that."""
    speed = parse_int(text)
    if not speed:
        return missing(Unknown.NOT_RECORDED, SOURCE)
    if speed <= _FASTEST_MBPS:
        return known(speed, SOURCE, text)
    thousandth = speed // 1000
    return known(thousandth, SOURCE, text) if thousandth <= _FASTEST_MBPS else missing(Unknown.MALFORMED, SOURCE, text[:80])


def _accelerators(gpus: list[tuple[str, Element, Element | None]]) -> tuple[Accelerator, ...]:
    ordered = sorted(gpus, key=lambda gpu: (_dev(gpu[2]), gpu[0]))
    index = {address: place for place, (address, _, _) in enumerate(ordered)}
    switched = {
        address for address, _, gpu in ordered if any(link.get("tclass") == _NVSWITCH for link in _links(gpu, "nvlink"))
    }
    found: list[Accelerator] = []
    for address, pci, gpu in ordered:
        peers: dict[int, str] = {}
        for tag, how in (("nvlink", "NVLink"), ("xgmi", "XGMI")):
            for link in _links(gpu, tag):
                other = index.get(parse_address(link.get("target", "")) or "")
                if other is not None:
                    peers[other] = how
        if address in switched:
            peers |= {index[other]: "NVLink" for other in switched if other != address}
        links = sum(parse_int(link.get("count", "")) or 0 for link in _links(gpu, "nvlink"))
        blank = make_accelerator(
            vendor=_vendor(pci, gpu),
            index=index[address],
            name=_name(gpu),
            address=address,
            why=Unknown.NOT_RECORDED,
            source=SOURCE,
        )
        active = known(links, SOURCE) if links else blank.nvlinks_active
        found.append(replace(blank, nvlinks_active=active, peers=tuple(sorted(peers.items()))))
    return tuple(found)


def _links(gpu: Element | None, tag: str) -> list[Element]:
    return gpu.findall(tag) if gpu is not None else []


def _dev(gpu: Element | None) -> int:
    number = parse_int(gpu.get("dev", "")) if gpu is not None else None
    return number if number is not None else 0


def _vendor(pci: Element, gpu: Element | None) -> str:
    """By the number where it is said; else RCCL's files are known by `gcn` and by AMD's classes, and NCCL is NVIDIA's."""
    number = _hex(pci, "vendor")
    if number not in _MADE_UP:
        return _MAKERS.get(number, f"{number:04x}")
    if (gpu is not None and gpu.get("gcn") is not None) or _hex(pci, "class") >> 8 in (0x0380, 0x1200):
        return "amd"
    return "nvidia"


def _name(gpu: Element | None) -> str:
    """The architecture is all that is said: "gfx942", "gfx908", "sm_90"."""
    if gpu is None:
        return ""
    gcn, sm = gpu.get("gcn", ""), gpu.get("sm", "")
    if gcn:
        return gcn[:20] if gcn.startswith("gfx") else f"gfx{gcn[:10]}"
    return f"sm_{sm[:4]}" if sm else ""


def _hex(element: Element, name: str) -> int:
    return parse_int(element.get(name, "")) or 0
