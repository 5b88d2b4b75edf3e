"""The machine as it is drawn: packages, NUMA nodes, switches and what hangs below them, for the terminal and the map.

Bridges that only lead from one place to the next are not drawn; what is wrong with them is marked on the link they make.
A device whose NUMA node the platform does not say stands apart, unless the machine has one node only.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum

from bedplate.model.audit_report import AuditReport
from bedplate.model.facts.cpu import NumaNode
from bedplate.model.facts.host import HostFacts
from bedplate.model.facts.pci import Accelerator, BlockDevice, NetworkDevice, PciDevice, PciKind
from bedplate.model.facts.reading import Unknown
from bedplate.model.units import render_size
from bedplate.model.wording import plural, render_cpus
from bedplate.report.format import clean, disk, link_words, memory, rate, short_address

_MERGED_FROM = 4  # like devices below one port are drawn as one from here on
_NVIDIA = 0x10DE
_FORMS = (
    " Corporation",
    " Technologies",
    " Technology Inc",
    " Inc. and subsidiaries",
    " Inc.",
    ", Inc",
    " Co Ltd",
    " / LSI",
)
_VIRTUAL_BLOCKS = ("loop", "dm", "md", "zram")
_DISKS = (0x0104, 0x0108)  # RAID and NVMe; other controllers are drawn when a disk is seen behind them
_LINK = "link."  # findings about the speed or width of a link
_DEEPEST = 32  # bridges above each other; a loop in a hostile recording ends here


class DeviceKind(StrEnum):
    """How a device is drawn and labelled: by what people look for in a machine, not by its PCI class."""

    GPU = "GPU"
    NIC = "NIC"
    DISK = "disk"
    FABRIC = "fabric"
    OTHER = "other"


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkView:
    """The way from a port to what hangs in it."""

    text: str
    """ "32 GT/s x16"; "" when not known."""
    marks: tuple[int, ...] = ()
    """Numbers of the findings about the link or the ports that make it."""
    bad: bool = False
    """One of them is about its speed or width."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceView:
    """One box of the drawn tree: a device, or several like ones below the same port."""

    kind: DeviceKind
    label: str
    """ "GPU 0", "eth0", "NVMe"."""
    name: str
    address: str
    """As lspci shows it; "" when it is not on PCI."""
    details: tuple[str, ...]
    link: LinkView
    marks: tuple[int, ...]
    count: int = 1
    """How many like it this stands for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Branch:
    """A switch, or a port with more than one thing below it."""

    label: str
    """ "switch", "root port", "bridge"."""
    name: str
    address: str
    link: LinkView
    marks: tuple[int, ...]
    devices: tuple[DeviceView, ...]
    branches: tuple[Branch, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeView:
    """One NUMA node as it is drawn; with "no NUMA" for a title it is the whole machine. `marks` are numbers of findings."""

    title: str
    details: tuple[str, ...]
    marks: tuple[int, ...]
    devices: tuple[DeviceView, ...]
    branches: tuple[Branch, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageView:
    """The nodes of one socket, or of those that share a node; `title` is "" where CPUs and their package are not known."""

    title: str
    details: tuple[str, ...]
    nodes: tuple[NodeView, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineView:
    """A machine as tree, map and page draw it: sockets, nodes, bridges, devices, each with the numbers of its findings."""

    packages: tuple[PackageView, ...]
    apart: tuple[NodeView, ...]
    """Devices whose node is not known, one view for each reason."""


def make_machine(report: AuditReport) -> MachineView:
    """The tree of a report's machine with the findings' numbers where they belong."""
    builder = _Builder(report)
    at: dict[int | None, tuple[list[DeviceView], list[Branch]]] = {}
    apart: dict[str, tuple[list[DeviceView], list[Branch]]] = {}
    facts = report.facts
    said = {node.node for node in facts.numa.nodes}
    only = next(iter(said)) if len(said) == 1 else None
    for node, why, devices, branches in builder.trees():
        if node is None and (only is not None or (not said and _knows_cpus(facts))):
            node, why = only, ""
        into = apart.setdefault(why, ([], [])) if why else at.setdefault(node, ([], []))
        into[0].extend(devices)
        into[1].extend(branches)
    views: dict[int | None, NodeView] = {}
    known = {node.node: node for node in facts.numa.nodes}
    for number in sorted({*known, *(number for number in at if number is not None)}):
        views[number] = _node(number, known.get(number), builder, at.get(number, ([], [])))
    if not views and (None in at or _knows_cpus(facts)):
        views[None] = _bare_node(facts, at.get(None, ([], [])))
    return MachineView(
        packages=_packages(facts, views),
        apart=tuple(
            NodeView(
                title="NUMA node unknown",
                details=(why,),
                marks=(),
                devices=_merge(found[0]),
                branches=tuple(found[1]),
            )
            for why, found in sorted(apart.items())
        ),
    )


def headline(facts: HostFacts) -> tuple[str, ...]:
    """The machine in a few words: accelerators, processors, memory, system."""
    parts: list[str] = []
    models: dict[str, int] = {}
    for accelerator in facts.accelerators:
        models[accelerator.name or "accelerator"] = models.get(accelerator.name or "accelerator", 0) + 1
    parts += [f"{count} x {clean(name)}" if count > 1 else clean(name) for name, count in models.items()]
    if not facts.accelerators:
        looked = bool(facts.pci) or facts.origin == "live"
        parts.append("no accelerator" if looked else "accelerators not recorded")
    packages = {cpu.package for cpu in facts.cpu.cpus if cpu.online and cpu.package is not None}
    if facts.cpu.model_name.value:
        model = clean(facts.cpu.model_name.value)
        parts.append(f"{len(packages)} x {model}" if len(packages) > 1 else model)
    if facts.cpu.online:
        cores = plural(facts.cpu.cores, "core")
        cpus = plural(len(facts.cpu.online), "CPU")
        parts.append(cpus if facts.cpu.cores == len(facts.cpu.online) else f"{cores}, {cpus}")
    if facts.memory.total_bytes:
        parts.append(memory(facts.memory.total_bytes))
    return tuple(parts)


def _knows_cpus(facts: HostFacts) -> bool:
    return bool(facts.cpu.online)


def _packages(facts: HostFacts, views: dict[int | None, NodeView]) -> tuple[PackageView, ...]:
    """Nodes under the packages that their CPUs are in; a node that spans packages is drawn under all their numbers."""
    package_of = {cpu.cpu: cpu.package for cpu in facts.cpu.cpus if cpu.online and cpu.package is not None}
    cpus_of = {node.node: node.cpus for node in facts.numa.nodes}
    groups: dict[tuple[int, ...], list[NodeView]] = {}
    for number, view in views.items():
        cpus = facts.cpu.online if number is None else cpus_of.get(number, ())
        groups.setdefault(tuple(sorted({package_of[cpu] for cpu in cpus if cpu in package_of})), []).append(view)
    model = clean(facts.cpu.model_name.value or "")
    made: list[PackageView] = []
    for numbers, nodes in sorted(groups.items(), key=lambda item: (not item[0], item[0])):
        mine = [cpu for cpu in facts.cpu.cpus if cpu.online and cpu.package in numbers]
        cores = len({cpu.siblings for cpu in mine})
        title = f"package{'s' if len(numbers) > 1 else ''} {render_cpus(numbers)}" if numbers else ""
        details = tuple(part for part in (model, f"{plural(cores, 'core')}, {plural(len(mine), 'CPU')}") if part)
        made.append(PackageView(title=title, details=details if numbers else (), nodes=tuple(nodes)))
    return tuple(made)


def _node(number: int, facts: NumaNode | None, builder: _Builder, found: tuple[list[DeviceView], list[Branch]]) -> NodeView:
    details: list[str] = []
    if facts is not None:
        if facts.mem_bytes:
            free = f", {memory(facts.free_bytes)} free" if facts.free_bytes is not None else ""
            details.append(memory(facts.mem_bytes) + free)
        details.append(f"CPUs {render_cpus(facts.cpus)}" if facts.cpus else "no CPUs: memory only")
        if len(facts.distances) > 1:
            details.append(f"distances {' '.join(map(str, facts.distances))}")
        details += [
            f"{pages.total} huge pages of {memory(pages.size_bytes)}, {pages.free} free"
            for pages in facts.huge_pages
            if pages.total
        ]
    return NodeView(
        title=f"NUMA node {number}",
        details=tuple(details),
        marks=builder.places.get(f"node {number}", ()),
        devices=_merge(found[0]),
        branches=tuple(found[1]),
    )


def _bare_node(facts: HostFacts, found: tuple[list[DeviceView], list[Branch]]) -> NodeView:
    """A kernel without NUMA support: all is in one place."""
    details = [memory(facts.memory.total_bytes)] if facts.memory.total_bytes else []
    if facts.cpu.online:
        details.append(f"CPUs {render_cpus(facts.cpu.online)}")
    return NodeView(title="no NUMA", details=tuple(details), marks=(), devices=_merge(found[0]), branches=tuple(found[1]))


class _Builder:
    """Turns the flat list of PCI devices into drawn trees."""

    def __init__(self, report: AuditReport) -> None:
        facts = report.facts
        self.report = report
        self.places = report.by_place
        self._pci = {device.address: device for device in facts.pci}
        self._children: dict[str | None, list[PciDevice]] = {}
        for device in facts.pci:
            parent = device.parent if device.parent in self._pci and device.parent != device.address else None
            self._children.setdefault(parent, []).append(device)
        self._accelerators = {
            accelerator.address: accelerator for accelerator in facts.accelerators if accelerator.address is not None
        }
        self._networks: dict[str, list[NetworkDevice]] = {}
        for network in facts.network:
            if network.address is not None:
                self._networks.setdefault(network.address, []).append(network)
        self._blocks: dict[str, list[BlockDevice]] = {}
        for block in facts.blocks:
            if block.address is not None and block.transport not in _VIRTUAL_BLOCKS:
                self._blocks.setdefault(block.address, []).append(block)

    def trees(self) -> Iterable[tuple[int | None, str, list[DeviceView], list[Branch]]]:
        """(node, why it is not known or "", devices, branches) of each top of the PCI tree, and of what is not on PCI."""
        for top in self._children.get(None, []):
            devices, branches, seen, stray = self._below(top, (), 0)
            if stray:
                devices = [*devices, _stray(top, stray)]
            if devices or branches:
                node, why = self._place([*seen, top])
                yield node, why, devices, branches
        for accelerator in self.report.facts.accelerators:
            if accelerator.address is None or accelerator.address not in self._pci:
                why = "not on PCI" if accelerator.address is None else "PCI was not recorded"
                node = accelerator.numa_node.value
                yield node, "" if node is not None else why, [self._gpu(accelerator, None, ())], []
        for block in self.report.facts.blocks:
            if block.transport not in _VIRTUAL_BLOCKS and (block.address is None or block.address not in self._pci):
                yield block.numa_node.value, _why_not(block.numa_node.unknown), [self._block((block,), None, ())], []
        for network in self.report.facts.network:
            if (network.address is None and network.driver.value is not None) or (
                network.address is not None and network.address not in self._pci
            ):
                yield network.numa_node.value, _why_not(network.numa_node.unknown), [self._nic((network,), None, ())], []

    def _below(
        self, one: PciDevice, via: tuple[int, ...], depth: int
    ) -> tuple[list[DeviceView], list[Branch], list[PciDevice], tuple[int, ...]]:
        """(devices, branches, the PCI devices among them, marks that found no place) of one device and all below it."""
        if depth > _DEEPEST:
            return [], [], [], ()
        marks = self.places.get(one.address, ())
        if one.kind is PciKind.ENDPOINT:
            view = self._endpoint(one, via)
            return ([view], [], [one], ()) if view is not None else ([], [], [], _joined(via, marks))
        devices: list[DeviceView] = []
        branches: list[Branch] = []
        seen: list[PciDevice] = []
        stray: tuple[int, ...] = ()
        for child in self._children.get(one.address, []):
            more, inner, found, left = self._below(child, (), depth + 1)
            devices += more
            branches += inner
            seen += found
            stray = _joined(stray, left)
        if not devices and not branches:
            return [], [], [], _joined(stray, via, marks)
        devices = list(_merge(devices))
        leads_through = one.kind is PciKind.SWITCH_DOWNSTREAM or len(devices) + len(branches) == 1
        if leads_through and one.kind is not PciKind.SWITCH_UPSTREAM:
            up = _joined(via, marks)
            devices = [replace(each, link=self._with(each.link, up)) for each in devices]
            branches = [replace(each, link=self._with(each.link, up)) for each in branches]
            return devices, branches, seen, stray
        of_link, own = self._split(marks)
        branch = Branch(
            label="switch" if one.kind is PciKind.SWITCH_UPSTREAM else one.kind.value.replace("-", " "),
            name=_short_name(DeviceKind.OTHER, clean(one.name)),
            address=short_address(one.address),
            link=self._link(one, _joined(via, of_link)),
            marks=_joined(own, stray),
            devices=tuple(devices),
            branches=tuple(branches),
        )
        return [], [branch], seen, ()

    def _place(self, those: list[PciDevice]) -> tuple[int | None, str]:
        for device in those:
            if device.numa_node.value is not None:
                return device.numa_node.value, ""
        return None, _why_not(those[0].numa_node.unknown)

    def _endpoint(self, one: PciDevice, via: tuple[int, ...]) -> DeviceView | None:
        base = one.class_code >> 16
        if one.address in self._accelerators:
            return self._gpu(self._accelerators[one.address], one, via)
        if base == 0x02 or one.address in self._networks:
            return self._nic(tuple(self._networks.get(one.address, ())), one, via)
        if one.class_code >> 8 in _DISKS or one.address in self._blocks:
            return self._block(tuple(self._blocks.get(one.address, ())), one, via)
        if one.vendor == _NVIDIA and one.class_code >> 8 == 0x0680:
            return self._device(DeviceKind.FABRIC, "NVSwitch", one.name, (), one, via)
        if self.places.get(one.address):
            return self._device(DeviceKind.OTHER, "device", one.name, (), one, via)
        return None

    def _gpu(self, gpu: Accelerator, one: PciDevice | None, via: tuple[int, ...]) -> DeviceView:
        details = ((memory(gpu.memory_bytes.value),) if gpu.memory_bytes.value else ()) + _divided(gpu)
        address = gpu.address or ""
        places = (f"gpu {gpu.index}", f"GPU {gpu.index}", *(() if gpu.address else (f"{gpu.vendor} {gpu.index}",)))
        marks = tuple(mark for place in places for mark in self.places.get(place, ()))
        name = gpu.name or (one.name if one is not None else gpu.vendor)
        return self._device(DeviceKind.GPU, f"GPU {gpu.index}", name, details, one, via, address=address, marks=marks)

    def _nic(self, those: tuple[NetworkDevice, ...], one: PciDevice | None, via: tuple[int, ...]) -> DeviceView:
        details: list[str] = []
        for network in those:
            details += network.rdma
            if network.speed_mbps.value is not None and network.speed_mbps.value > 0:
                details.append(rate(network.speed_mbps.value))
            if network.operstate == "down":
                details.append("down")
        drivers = {network.driver.value for network in those if network.driver.value}
        name = one.name if one is not None and one.name else " ".join(sorted(drivers))
        names = [network.name for network in those if network.name != network.address]
        label = " ".join(names) or "NIC"
        marks = tuple(mark for network in those for mark in self.places.get(network.name, ()))
        return self._device(DeviceKind.NIC, label, name, tuple(dict.fromkeys(details)), one, via, marks=marks)

    def _block(self, those: tuple[BlockDevice, ...], one: PciDevice | None, via: tuple[int, ...]) -> DeviceView:
        details: list[str] = []
        for block in those:
            details.append(disk(block.size_bytes))
            if block.rotational.value:
                details.append("rotational")
            details += block.mounts[:2]
        nvme = one is not None and one.class_code >> 8 == 0x0108
        label = " ".join(block.name for block in those[:4]) or ("NVMe" if nvme else "storage")
        if len(those) > 4:
            label += f" +{len(those) - 4}"
        models = dict.fromkeys(block.model for block in those if block.model)
        name = ", ".join(models) or (one.name if one is not None else "")
        places = [place for block in those for place in (block.name, *block.mounts)]
        marks = tuple(mark for place in places for mark in self.places.get(place, ()))
        return self._device(DeviceKind.DISK, label, name, tuple(dict.fromkeys(details)), one, via, marks=marks)

    def _device(
        self,
        kind: DeviceKind,
        label: str,
        name: str,
        details: tuple[str, ...],
        one: PciDevice | None,
        via: tuple[int, ...],
        *,
        address: str = "",
        marks: tuple[int, ...] = (),
    ) -> DeviceView:
        address = one.address if one is not None else address
        of_link, own = self._split(self.places.get(address, ()) if address else ())
        return DeviceView(
            kind=kind,
            label=clean(label),
            name=_short_name(kind, clean(name)),
            address=clean(short_address(address)),
            details=tuple(clean(part) for part in details),
            link=self._link(one, _joined(via, of_link)),
            marks=_joined(own, marks),
        )

    def _link(self, one: PciDevice | None, marks: tuple[int, ...]) -> LinkView:
        bad = any(self.report.finding(mark).id.startswith(_LINK) for mark in marks)
        return LinkView(text=link_words(one.link) if one is not None else "", marks=marks, bad=bad)

    def _with(self, link: LinkView, marks: tuple[int, ...]) -> LinkView:
        """A link with the findings about the port that it hangs in."""
        bad = link.bad or any(self.report.finding(mark).id.startswith(_LINK) for mark in marks)
        return replace(link, marks=_joined(link.marks, marks), bad=bad)

    def _split(self, marks: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """(findings about a link, all others)."""
        of_link = tuple(mark for mark in marks if self.report.finding(mark).id.startswith(_LINK))
        return of_link, tuple(mark for mark in marks if mark not in of_link)


def _divided(gpu: Accelerator) -> tuple[str, ...]:
    """Into what a GPU is divided: its MIG instances, or the partitions of an AMD card."""
    words: list[str] = []
    if gpu.mig.value is True and gpu.mig_bytes.value is not None:
        sizes = [render_size(size) for size in gpu.mig_bytes.value]
        words.append(f"MIG: {plural(len(sizes), 'instance')}{', ' if sizes else ''}{' and '.join(sizes)}")
    elif gpu.mig.value is True:
        words.append("MIG enabled")
    words += [reading.value for reading in (gpu.compute_partition, gpu.memory_partition) if reading.value is not None]
    if gpu.failure.value is not None:
        words.append(gpu.failure.value)
    return tuple(words)


def _stray(top: PciDevice, marks: tuple[int, ...]) -> DeviceView:
    """Findings about bridges below which nothing is drawn."""
    return DeviceView(
        kind=DeviceKind.OTHER,
        label=top.kind.value.replace("-", " "),
        name=clean(top.name),
        address=short_address(top.address),
        details=(),
        link=LinkView(text=""),
        marks=marks,
    )


def _merge(devices: Iterable[DeviceView]) -> tuple[DeviceView, ...]:
    """Functions of one adapter as one device, and many like devices without findings as one."""
    made: list[DeviceView] = []
    for device in devices:
        last = made[-1] if made else None
        if (
            last is not None
            and last.kind is device.kind is DeviceKind.NIC
            and _slot(last) == _slot(device)
            and last.name == device.name
        ):
            count = last.count + device.count
            others = [part for part in (*last.details, *device.details) if not part.endswith(" ports")]
            made[-1] = replace(
                last,
                label=last.label if device.label == last.label else f"{last.label} {device.label}",
                details=(f"{count} ports", *dict.fromkeys(others)),
                marks=_joined(last.marks, device.marks),
                link=replace(
                    last.link, marks=_joined(last.link.marks, device.link.marks), bad=last.link.bad or device.link.bad
                ),
                count=count,
            )
        else:
            made.append(device)
    like: dict[tuple[object, ...], list[DeviceView]] = {}
    for device in made:
        key = (
            (device.kind, device.name, device.link, device.marks)
            if device.kind in (DeviceKind.NIC, DeviceKind.DISK)
            else (device.address, device.label)
        )
        like.setdefault(key, []).append(device)
    final: list[DeviceView] = []
    for those in like.values():
        if len(those) < _MERGED_FROM or those[0].kind not in (DeviceKind.NIC, DeviceKind.DISK):
            final += those
            continue
        details = those[0].details if len({device.details for device in those}) == 1 else ()
        count = sum(device.count for device in those)
        label = f"{count} {'NICs' if those[0].kind is DeviceKind.NIC else 'disks'}"
        address = f"{those[0].address} to {those[-1].address}" if those[0].address else ""
        final.append(
            replace(those[0], label=label, details=details, address=address, count=sum(device.count for device in those))
        )
    order = list(DeviceKind)
    return tuple(sorted(final, key=lambda device: order.index(device.kind)))


def _short_name(kind: DeviceKind, name: str) -> str:
    """A name of pci.ids without the legal form of its maker: "Mellanox Technologies MT2910 Family [ConnectX-7]" is
    "Mellanox ConnectX-7"."""
    for form in _FORMS:
        name = name.replace(form, "", 1)
    head, bracket, brand = name.partition(" [")
    if kind in (DeviceKind.NIC, DeviceKind.GPU) and bracket and brand.endswith("]"):
        maker = head.split(" ")[0]
        return f"{maker} {brand[:-1]}" if maker != brand.split(" ")[0] else brand[:-1]
    return name


def _slot(one: DeviceView) -> str:
    return one.address.rpartition(".")[0] or one.label


def _joined(*marks: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(sorted({number for those in marks for number in those}))


def _why_not(unknown: Unknown | None) -> str:
    return {
        None: "",
        Unknown.HIDDEN: "the platform does not report it (numa_node -1)",
        Unknown.DENIED: "permission denied",
        Unknown.MALFORMED: "unreadable numa_node",
        Unknown.NOT_RECORDED: "not recorded",
        Unknown.ABSENT: "this kernel or device has no numa_node",
    }[unknown]
