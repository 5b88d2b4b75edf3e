"""Debian's `lstopo` on the same recording: an independent reader of the same files, as sets that can be compared."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

import pytest

CpuSet = frozenset[int]
_CACHE_KINDS = {"0": "Unified", "1": "Data", "2": "Instruction"}


@dataclass
class Oracle:
    packages: dict[int, CpuSet] = field(default_factory=dict)
    cores: set[CpuSet] = field(default_factory=set)
    pus: set[int] = field(default_factory=set)
    complete: CpuSet = frozenset()
    """Online and offline."""
    caches: set[tuple[int, str, int, CpuSet]] = field(default_factory=set)
    nodes: dict[int, tuple[CpuSet, int]] = field(default_factory=dict)
    distances: list[int] = field(default_factory=list)
    pci: dict[str, tuple[int, int, int, CpuSet]] = field(default_factory=dict)
    """Class, vendor, device, and the CPUs of the object above its host bridge."""
    parents: dict[str, str | None] = field(default_factory=dict)
    osdevs: dict[str, str] = field(default_factory=dict)
    """Name of a network, RDMA or block device -> PCI address."""


def cpus_of(mask: str) -> CpuSet:
    """ "0x00000003,,0x1" is written highest word first."""
    found: set[int] = set()
    for place, word in enumerate(reversed(mask.split(","))):
        bits = int(word or "0", 16)
        found.update(place * 32 + bit for bit in range(32) if bits >> bit & 1)
    return frozenset(found)


def ask_lstopo(directory: Path, *options: str) -> Oracle:
    """What lstopo says of a recorded directory; skips the test where it is not installed."""
    program = shutil.which("lstopo-no-graphics")
    if program is None:
        pytest.skip("lstopo is not installed: apt-get install hwloc-nox")
    environment = {
        "PATH": os.environ["PATH"],
        "HWLOC_FSROOT": str(directory),
        "HWLOC_THISSYSTEM": "0",
        "HWLOC_COMPONENTS": "linux,stop",
    }
    done = subprocess.run(
        [program, "--of", "xml", "--whole-io", *options],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        stdin=subprocess.DEVNULL,
    )
    topology = ElementTree.fromstring(done.stdout)
    oracle = Oracle()
    machine = topology.find("object")
    assert machine is not None
    oracle.complete = cpus_of(machine.get("complete_cpuset", ""))
    _walk(machine, cpus_of(machine.get("cpuset", "")), None, oracle)
    for matrix in topology.findall("distances2"):
        if matrix.get("type") == "NUMANode":
            oracle.distances = [int(word) for part in matrix.findall("u64values") for word in (part.text or "").split()]
    return oracle


def _walk(element: ElementTree.Element, above: CpuSet, bridge: str | None, oracle: Oracle) -> None:
    kind, number = element.get("type", ""), int(element.get("os_index", "-1"))
    cpus = cpus_of(element.get("cpuset", "")) if element.get("cpuset") else above
    if kind == "Package":
        oracle.packages[number] = cpus
    elif kind == "Core":
        oracle.cores.add(cpus)
    elif kind == "PU":
        oracle.pus.add(number)
    elif kind == "NUMANode":
        oracle.nodes[number] = (cpus, int(element.get("local_memory", "0")))
    elif kind.endswith("Cache"):
        size, cache_kind = int(element.get("cache_size", "0")), _CACHE_KINDS[element.get("cache_type", "0")]
        oracle.caches.add((int(element.get("depth", "0")), cache_kind, size, cpus))
    elif element.get("pci_busid"):
        address = element.get("pci_busid", "")
        class_code, numbers = element.get("pci_type", "").split(" ")[:2]
        vendor, device = numbers.strip("[]").split(":")
        oracle.pci[address] = (int(class_code, 16), int(vendor, 16), int(device, 16), cpus)
        oracle.parents[address] = bridge
        bridge = address
    elif kind == "OSDev" and bridge is not None:
        oracle.osdevs[element.get("name", "")] = bridge
    for child in element.findall("object"):
        _walk(child, cpus, bridge, oracle)
