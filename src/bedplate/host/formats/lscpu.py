"""Processors from the text of `lscpu` (util-linux), also where it stands in an environment report.

It has no line a CPU: which threads are siblings is taken from Linux' usual numbering (first threads of all cores, then the
second ones) where the NUMA nodes agree with it; without that each CPU counts as a core.
"""

from __future__ import annotations

import re
from dataclasses import replace

from bedplate.errors import ReadError
from bedplate.host.formats.section import Section
from bedplate.host.formats.unrecorded import empty_facts
from bedplate.host.kernel.attributes import parse_int
from bedplate.host.root.cpu_lists import CPU_LIMIT, CpuSets
from bedplate.model.facts.cpu import CoreKind, LogicalCpu, NumaNode, NumaTopology
from bedplate.model.facts.host import HostFacts
from bedplate.model.facts.reading import Reading, known

SOURCE = "lscpu"
BEGINS = re.compile(
    r"(?:Architecture: {2,40}(?:x86_64|aarch64|ppc64le|riscv64|s390x)|CPU op-mode\(s\): {2,40}\d"
    r"|Byte Order: {2,40}(?:Little|Big) "
    r"|CPU\(s\): {2,40}\d|On-line CPU\(s\) list: {2,40}\d|Thread\(s\) per core: {2,40}\d|Model name: {2,40}\S)"
)
CONTINUES = re.compile(
    r" {0,4}(?:[A-Z][A-Za-z0-9() /-]{1,40}|L\d[di]? cache|CPU\(s\) scaling MHz|NUMA node\d{1,3} CPU\(s\)|BogoMIPS):(?: |$)"
)
_NODE = re.compile(r"NUMA node(\d{1,4}) CPU\(s\)", re.ASCII)
_BARE = {"full": "virtual machine", "para": "virtual machine"}


def parse_lscpu(section: Section) -> HostFacts:
    """Model, architecture, CPUs, nodes with their CPUs, and whether a hypervisor is said. Raises ReadError without any."""
    values: dict[str, str] = {}
    for line in section.text.split("\n"):
        key, colon, value = line.partition(":")
        if colon:
            values.setdefault(key.strip(), value.strip()[:20_000])
    sets = CpuSets()
    count = parse_int(values.get("CPU(s)", "")) or 0
    nodes = {int(match[1]): sets.parse_list(text) for key, text in values.items() if (match := _NODE.fullmatch(key))}
    online = sets.parse_list(values.get("On-line CPU(s) list", "")) or tuple(range(min(count, CPU_LIMIT)))
    facts = empty_facts(section.file)
    if not online and "Architecture" not in values and "Model name" not in values:
        raise ReadError("the text of lscpu names neither CPUs nor an architecture")
    name = values.get("Model name")
    virtual = facts.os.virtualisation
    if "Hypervisor vendor" in values:
        virtual = known(values["Hypervisor vendor"].lower(), f"{SOURCE}: Hypervisor vendor")
    elif values.get("Virtualization type") in _BARE:
        virtual = known(_BARE[values["Virtualization type"]], f"{SOURCE}: Virtualization type")
    model: Reading[str] = known(name, f"{SOURCE}: Model name") if name else facts.cpu.model_name
    return replace(
        facts,
        cpu=replace(
            facts.cpu,
            model_name=model,
            architecture=values.get("Architecture", ""),
            cpus=_cpus(online, nodes, values),
            flags=tuple(values.get("Flags", "").split()),
        ),
        numa=NumaTopology(nodes=tuple(_numa_node(node, cpus) for node, cpus in sorted(nodes.items())), source=SOURCE),
        os=replace(facts.os, virtualisation=virtual),
    )


def _cpus(online: tuple[int, ...], nodes: dict[int, tuple[int, ...]], values: dict[str, str]) -> tuple[LogicalCpu, ...]:
    threads = parse_int(values.get("Thread(s) per core", "")) or 1
    sockets = parse_int(values.get("Socket(s)", "")) or 0
    node_of = {cpu: node for node, cpus in nodes.items() for cpu in cpus}
    order = sorted(nodes)
    step = len(online) // threads if threads > 1 and len(online) % threads == 0 else 0
    whole = step > 0 and online == tuple(range(len(online)))
    paired = whole and all(node_of.get(cpu) == node_of.get(cpu + step) for cpu in online if cpu + step < len(online))
    found: list[LogicalCpu] = []
    for cpu in online:
        node = node_of.get(cpu)
        package = 0 if sockets == 1 else None
        if package is None and sockets > 1 and node is not None and len(order) % sockets == 0:
            package = order.index(node) // (len(order) // sockets)
        found.append(
            LogicalCpu(
                cpu=cpu,
                online=True,
                package=package,
                core=None,
                die=None,
                node=node,
                siblings=tuple(range(cpu % step, len(online), step)) if paired else (cpu,),
                kind=CoreKind.UNIFORM,
                max_khz=None,
            )
        )
    return tuple(found)


def _numa_node(node: int, cpus: tuple[int, ...]) -> NumaNode:
    return NumaNode(node=node, cpus=cpus, mem_bytes=None, free_bytes=None, distances=(), huge_pages=())
