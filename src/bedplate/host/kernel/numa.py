"""NUMA nodes from /sys/devices/system/node (Documentation/ABI/stable/sysfs-devices-node)."""

from __future__ import annotations

import re

from bedplate.host.kernel.attributes import parse_int, read_cpu_list
from bedplate.host.kernel.huge_pages import read_huge_pages
from bedplate.host.root.root import Root
from bedplate.model.facts.cpu import NumaNode, NumaTopology

NODES = "/sys/devices/system/node"
_NODE = re.compile(r"node(\d{1,5})", re.ASCII)
_KB = re.compile(r"^Node \d+ (MemTotal|MemFree): +(\d{1,15}) kB", re.ASCII | re.MULTILINE)


def read_numa(root: Root) -> NumaTopology:
    """Online NUMA nodes with their online CPUs; `nodes == ()` when the kernel has no NUMA or a recording does not hold it.

    Older kernels list offline CPUs too; they are left out. A node without CPUs is memory-only (CXL, HBM); a node whose CPUs
    are all offline looks the same.
    """
    numbers = set(list_nodes(root))
    online = read_cpu_list(root, f"{NODES}/online")  # None too when malformed: every node whose directory is there, then
    if online is not None:
        numbers &= set(online)
    cpus = read_cpu_list(root, "/sys/devices/system/cpu/online")
    here = frozenset(cpus) if cpus is not None else None
    return NumaTopology(nodes=tuple(_read_node(root, number, here) for number in sorted(numbers)), source=NODES)


def list_nodes(root: Root) -> list[int]:
    """Numbers of the nodes whose directories are there, online or not, in order; [] without NUMA."""
    return sorted(int(match[1]) for name in root.listdir(NODES) if (match := _NODE.fullmatch(name)))


def read_node_cpus(root: Root, number: int) -> tuple[int, ...]:
    """CPUs of a node, on older kernels offline ones too; () for a node without CPUs, or whose list cannot be read."""
    where = f"{NODES}/node{number}"
    return read_cpu_list(root, f"{where}/cpulist", mask=f"{where}/cpumap") or ()


def _read_node(root: Root, number: int, online: frozenset[int] | None) -> NumaNode:
    where = f"{NODES}/node{number}"
    memory = {key: int(kib) << 10 for key, kib in _KB.findall(root.read(f"{where}/meminfo").value or "")}
    distances = tuple(parse_int(word) for word in (root.read(f"{where}/distance").value or "").split())
    return NumaNode(
        node=number,
        cpus=tuple(cpu for cpu in read_node_cpus(root, number) if online is None or cpu in online),
        mem_bytes=memory.get("MemTotal"),
        free_bytes=memory.get("MemFree"),
        distances=tuple(distance for distance in distances if distance is not None),
        huge_pages=read_huge_pages(root, f"{where}/hugepages"),
    )
