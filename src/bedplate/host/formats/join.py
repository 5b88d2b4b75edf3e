"""Facts of several outputs as those of one machine: one GPU, not two, and what contradicts is shown.

Accelerators are the same by their PCI address, their UUID, or, where one of the two tells no address, by their number.
Where two outputs tell one fact, the later one counts, and a difference is a Conflict, unless the value is one that changes
by the second.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any, TypeVar

from bedplate.host.accel import ACCELERATORS_LIMIT, check_count
from bedplate.host.formats.unrecorded import empty_facts
from bedplate.host.kernel.pcitree import finish_tree
from bedplate.model.facts.cpu import NumaNode, NumaTopology
from bedplate.model.facts.host import Conflict, HostFacts
from bedplate.model.facts.kernel_log import KernelLog
from bedplate.model.facts.pci import Accelerator, BlockDevice, NetworkDevice, PciDevice
from bedplate.model.facts.reading import Reading, Unknown

T = TypeVar("T")
_MOMENTARY = frozenset(
    (
        *("power_draw_w", "sm_clock_mhz", "utilization_pct", "temperature_c", "available_bytes", "free_bytes"),
        *("memory_current_bytes", "periods", "throttled_periods", "throttled_s", "swap_free_bytes", "link", "failure"),
    )
)
"""Fields that change by themselves: two outputs of a machine differ in them without a contradiction."""
_NAMES = frozenset(("name", "origin", "source", "pretty_name", "model", "modules_source", "text"))
"""Words for the same thing in several programs; the longest one says most."""
_COMPARED = frozenset(("total_bytes", "mem_bytes", "vendor", "device"))
"""Fields that are no readings, and whose differences are contradictions."""
_ROUNDED_LEAST, _ROUNDED = 1 << 20, 0.02
_CONFLICTS_MOST = 200
_DERIVED = "nvidia-smi topo -m"
"""A matrix of links gives only their number between two devices: what lists them knows better."""


@dataclass(slots=True)
class SectionFacts:
    """What one output told, to be laid over what the others told of the same machine."""

    facts: HostFacts
    bus: bool = False
    """They number accelerators by their place on the bus."""


@dataclass(slots=True)
class _Joiner:
    """Collects contradictions while facts are laid over each other."""

    conflicts: dict[str, Conflict] = field(default_factory=dict)

    def values(self, before: Any, after: Any, name: str, where: str) -> Any:
        """One field of two parts: what is told, the later one where both tell it."""
        if isinstance(before, Reading) and isinstance(after, Reading):
            return self.readings(before, after, name, where)
        if is_dataclass(before) and type(before) is type(after):
            if isinstance(before, KernelLog) and isinstance(after, KernelLog):  # read as a whole, or not, as a reading is
                return before if after.unknown is not None else after
            return self.records(before, after, where, momentary=name in _MOMENTARY)
        if before is None or after is None:  # 0 is a size: the memory of a node that has none
            return before if after is None else after
        if not _is_told(after):
            return before
        if not _is_told(before) or before == after:
            return after
        if name in _NAMES:
            return max(before, after, key=lambda text: ("..." not in text, len(text)))
        if name in _COMPARED and not _is_near(before, after):
            self.note(f"{where} {name}".strip(), (str(before), "an earlier part"), (str(after), "a later part"))
        return after

    def readings(self, before: Reading[T], after: Reading[T], name: str, where: str) -> Reading[T]:
        if after.value is None or before.value is None:
            if after.value is None and before.value is None:
                return before if after.unknown is Unknown.NOT_RECORDED else after
            return before if after.value is None else after
        if before.value == after.value:
            return before
        if _DERIVED in (before.source, after.source):
            return after if before.source == _DERIVED else before
        same = _same_version(before.value, after.value) or _is_near(before.value, after.value)
        if name not in _MOMENTARY and not same:
            fact = f"{where} {name.removesuffix('_bytes').removesuffix('_w').replace('_', ' ')}".strip()
            self.note(fact, (str(before.value), before.source), (str(after.value), after.source))
        return after

    def records(self, before: T, after: T, where: str, *, momentary: bool = False) -> T:
        """Two dataclasses field by field."""
        changes: dict[str, Any] = {}
        for part in fields(before):  # type: ignore[arg-type]
            old, new = getattr(before, part.name), getattr(after, part.name)
            if old is not new and old != new:
                joined = self.values(old, new, "link" if momentary else part.name, where)
                if joined is not old:
                    changes[part.name] = joined
        return replace(before, **changes) if changes else before  # type: ignore[type-var]

    def note(self, fact: str, *values: tuple[str, str]) -> None:
        """Remember a contradiction, with what was said of the same fact before."""
        before = self.conflicts.get(fact)
        if before is None and len(self.conflicts) >= _CONFLICTS_MOST:
            return
        said = [*(before.values if before is not None else ()), *values]
        self.conflicts[fact] = Conflict(fact=fact, values=tuple(dict.fromkeys(said)))


def join_facts(parts: Sequence[SectionFacts], origin: str) -> HostFacts:
    """The facts of all parts, in their order; `conflicts` names where they contradict each other.

    Raises ReadError for more accelerators than are read of a machine.
    """
    joiner = _Joiner()
    base = empty_facts(origin)
    # Bus listings last: they number accelerators by place, and know the class and the name of a PCI device best.
    ordered = [*(part for part in parts if not part.bus), *(part for part in parts if part.bus)]
    accelerators: list[Accelerator] = []
    pci: dict[str, PciDevice] = {}
    nodes: dict[int, NumaNode] = {}
    network: dict[str, NetworkDevice] = {}
    blocks: dict[str, BlockDevice] = {}
    for part in ordered:
        facts = part.facts
        base = _join_rest(joiner, base, facts)
        accelerators = _join_accelerators(joiner, accelerators, facts.accelerators, bus=part.bus)
        check_count(len(accelerators))
        for device in facts.pci:
            _lay(joiner, pci, device.address, device, device.address)
        for node in facts.numa.nodes:
            _lay(joiner, nodes, node.node, node, f"node {node.node}")
        for interface in facts.network:
            _lay(joiner, network, interface.name, interface, interface.name)
        for block in facts.blocks:
            _lay(joiner, blocks, block.name, block, block.name)
    library = base.nvidia_library
    if library.value is not None:
        accelerators = [
            replace(accelerator, library_version=library)
            if accelerator.vendor == "nvidia" and accelerator.library_version.value is None
            else accelerator
            for accelerator in accelerators
        ]
    return replace(
        base,
        origin=origin,
        pci=finish_tree(pci.values()),
        accelerators=tuple(sorted(accelerators, key=lambda gpu: (gpu.vendor, gpu.index, gpu.address or ""))),
        numa=NumaTopology(nodes=tuple(nodes[number] for number in sorted(nodes)), source=_numa_source(ordered, origin)),
        network=tuple(network[name] for name in sorted(network)),
        blocks=tuple(blocks[name] for name in sorted(blocks)),
        conflicts=tuple(joiner.conflicts.values()),
    )


_LISTS = ("accelerators", "pci", "numa", "network", "blocks", "conflicts", "texts", "origin")
_SUMS = ("failures", "engine_notes", "problems")


def _join_rest(joiner: _Joiner, base: HostFacts, facts: HostFacts) -> HostFacts:
    """All that is no list of devices. Errors and problems of all parts stand together."""
    changes: dict[str, Any] = {}
    for part in fields(HostFacts):
        old, new = getattr(base, part.name), getattr(facts, part.name)
        if part.name in _LISTS or old == new:
            continue
        if part.name in _SUMS:
            changes[part.name] = tuple(dict.fromkeys((*old, *new)))
        elif part.name == "frameworks":
            changes[part.name] = replace(
                joiner.records(old, new, ""),
                versions=tuple(sorted({**dict(old.versions), **dict(new.versions)}.items())),
                environment=tuple(sorted({**dict(old.environment), **dict(new.environment)}.items())),
            )
        else:
            changes[part.name] = joiner.values(old, new, part.name, "")
    return replace(base, **changes)


def _lay(joiner: _Joiner, table: dict[Any, T], key: Any, row: T, where: str) -> None:
    before = table.get(key)
    table[key] = row if before is None else joiner.records(before, row, where)


def _join_accelerators(
    joiner: _Joiner, before: list[Accelerator], after: Iterable[Accelerator], *, bus: bool
) -> list[Accelerator]:
    found = list(before)
    by_address = {accelerator.address: place for place, accelerator in enumerate(found) if accelerator.address is not None}
    by_uuid = {accelerator.uuid: place for place, accelerator in enumerate(found) if accelerator.uuid}
    by_number: dict[tuple[str, int], int] = {}
    for number, accelerator in enumerate(found):
        by_number.setdefault((accelerator.vendor, accelerator.index), number)
    taken: set[int] = set()
    for accelerator in after:
        place = by_address.get(accelerator.address) if accelerator.address is not None else None
        if place is None and accelerator.uuid:
            same = by_uuid.get(accelerator.uuid)
            # People replace all UUIDs of a text by one: two GPUs of one output, or at two addresses, are two.
            if same is not None and same not in taken and _may_be_one(found[same], accelerator):
                place = same
        if place is None:
            same = by_number.get((accelerator.vendor, accelerator.index))
            if same is not None and same not in taken:
                if _may_be_one(found[same], accelerator):
                    place = same
                elif not bus:  # of two machines, or numbered anew in a container
                    joiner.note(
                        f"{accelerator.vendor} {accelerator.index} address",
                        _address_of(found[same]),
                        _address_of(accelerator),
                    )
        if place is None:
            place, index = len(found), accelerator.index
            if bus and (accelerator.vendor, index) in by_number:
                index = 1 + max(other.index for other in found if other.vendor == accelerator.vendor)
            found.append(replace(accelerator, index=index) if index != accelerator.index else accelerator)
            if len(found) > ACCELERATORS_LIMIT:
                check_count(len(found))
        else:
            index = found[place].index
            where = found[place].address or accelerator.address or f"{accelerator.vendor} {index}"
            # The vendor's name of a card says more than that of its chip in the register of PCI numbers.
            name = found[place].name or accelerator.name if bus else accelerator.name
            found[place] = joiner.records(found[place], replace(accelerator, index=index, name=name), where)
        taken.add(place)
        joined = found[place]
        if joined.address is not None:
            by_address[joined.address] = place
        if joined.uuid:
            by_uuid[joined.uuid] = place
        by_number.setdefault((joined.vendor, joined.index), place)
    return found


def _may_be_one(before: Accelerator, after: Accelerator) -> bool:
    return before.address is None or after.address is None or before.address == after.address


def _address_of(accelerator: Accelerator) -> tuple[str, str]:
    return (accelerator.address or "", accelerator.memory_bytes.source.partition(":")[0])


def _numa_source(parts: Sequence[SectionFacts], origin: str) -> str:
    return next((part.facts.numa.source for part in parts if part.facts.numa.nodes), origin)


def _is_told(value: object) -> bool:
    return not (
        value is None or value == "" or value == () or value is False or (type(value) in (int, float) and value == 0)
    )


def _is_near(before: object, after: object) -> bool:
    """Sizes that differ by rounding, or by what a kernel keeps for itself."""
    if not isinstance(before, int) or not isinstance(after, int) or min(before, after) < _ROUNDED_LEAST:
        return False
    return abs(before - after) <= _ROUNDED * max(before, after)


def _same_version(before: object, after: object) -> bool:
    """NVML leaves the last part of a version out: 590.48 and 590.48.01 are one."""
    return (
        isinstance(before, str)
        and isinstance(after, str)
        and bool(before)
        and (after.startswith(before + ".") or before.startswith(after + "."))
    )


def without_unread(facts: HostFacts, paths: Callable[[str], bool]) -> HostFacts:
    """Facts of a tree that holds a few files only: what it lacks is not recorded, and no reader is blamed for it.

    paths(path) tells whether a file, or one below it, is in the tree.
    """
    empty = empty_facts(facts.origin)
    return replace(
        facts,
        cpu=facts.cpu
        if paths("/sys/devices/system/cpu")
        else replace(
            empty.cpu,
            model_name=facts.cpu.model_name if paths("/proc/cpuinfo") else empty.cpu.model_name,
            architecture=facts.cpu.architecture,
            flags=facts.cpu.flags,
        ),
        numa=facts.numa if paths("/sys/devices/system/node") else empty.numa,
        memory=facts.memory if paths("/proc/meminfo") else empty.memory,
        cgroup=facts.cgroup if paths("/sys/fs/cgroup") else empty.cgroup,
        problems=(),
    )
