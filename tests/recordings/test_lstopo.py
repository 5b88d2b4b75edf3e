"""Our readers against hwloc's, on the recordings of its own tests: equal, or the difference is named with its reason."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import pytest

from bedplate.host.block import read_blocks
from bedplate.host.network import read_network
from bedplate.host.numa import read_numa
from bedplate.host.pci import read_pci
from bedplate.host.root import Root
from bedplate.host.topology import read_cpu_topology
from tests.recordings.lstopo import Oracle

pytestmark = pytest.mark.data

NAMES = [
    "20em64t-hybrid-1p6c2t+2ca4co1t",
    "32amd64-4s2n4c-cgroup2",
    "32em64t-2n8c+dax+nvme+mic+dimms",
    "40intel64-2g2n4c+pcilocality",
    "64amd64-4s2n4ca2co",
    "nvidia-dgx-gb10",
    "offline-cpu0-node0",
]
WITH_PCI = ["32em64t-2n8c+dax+nvme+mic+dimms", "40intel64-2g2n4c+pcilocality"]
# lstopo drops a bridge whose secondary bus is 0: the firmware never set this one up, and nothing is behind it. It is there.
LEFT_OUT = {("32em64t-2n8c+dax+nvme+mic+dimms", "0000:00:11.0")}
# The kernel says local_cpus 0-3. No object of lstopo's tree has these four CPUs, so it takes the package of eight around.
WIDER = {("32em64t-2n8c+dax+nvme+mic+dimms", "0000:00:02.0")}
OracleOf: TypeAlias = Callable[[str], Oracle]
RootOf: TypeAlias = Callable[[str], Root]


@pytest.mark.parametrize("name", NAMES)
def test_cpus_cores_and_packages(name: str, oracle_of: OracleOf, root_of: RootOf) -> None:
    oracle, cpu = oracle_of(name), read_cpu_topology(root_of(name))
    online = [one for one in cpu.cpus if one.online]
    assert {one.cpu for one in online} == oracle.pus
    assert {one.cpu for one in cpu.cpus} == oracle.complete
    assert {frozenset(one.siblings) for one in online} == oracle.cores
    packages = {one.package for one in online}
    found = {package: frozenset(one.cpu for one in online if one.package == package) for package in packages}
    assert found == oracle.packages


@pytest.mark.parametrize("name", NAMES)
def test_caches(name: str, oracle_of: OracleOf, root_of: RootOf) -> None:
    oracle, cpu = oracle_of(name), read_cpu_topology(root_of(name))
    assert {(one.level, one.kind, one.size_bytes, frozenset(one.cpus)) for one in cpu.caches} == oracle.caches


@pytest.mark.parametrize("name", NAMES)
def test_numa_nodes(name: str, oracle_of: OracleOf, root_of: RootOf) -> None:
    oracle, numa = oracle_of(name), read_numa(root_of(name))
    assert {one.node: (frozenset(one.cpus), one.mem_bytes) for one in numa.nodes} == oracle.nodes
    if oracle.distances:
        assert [distance for one in numa.nodes for distance in one.distances] == oracle.distances


@pytest.mark.parametrize("name", WITH_PCI)
def test_pci_tree_and_locality(name: str, oracle_of: OracleOf, root_of: RootOf) -> None:
    oracle, devices = oracle_of(name), read_pci(root_of(name))
    devices = tuple(one for one in devices if (name, one.address) not in LEFT_OUT)
    assert {one.address: (one.class_code >> 8, one.vendor, one.device) for one in devices} == {
        address: facts[:3] for address, facts in oracle.pci.items()
    }
    assert {one.address: one.parent for one in devices} == oracle.parents
    different = {one.address for one in devices if frozenset(one.local_cpus) != oracle.pci[one.address][3]}
    assert different == {address for machine, address in WIDER if machine == name}
    assert all(frozenset(one.local_cpus) < oracle.pci[one.address][3] for one in devices if one.address in different)


@pytest.mark.parametrize("name", WITH_PCI)
def test_network_and_disks_hang_where_lstopo_says(name: str, oracle_of: OracleOf, root_of: RootOf) -> None:
    oracle, root = oracle_of(name), root_of(name)
    found = {disk.name: disk.address for disk in read_blocks(root) if disk.address is not None}
    for device in read_network(root):
        assert device.address is not None
        found |= dict.fromkeys((device.name, *device.rdma), device.address)
    kinds = ("eth", "ib", "mlx", "qib", "sd", "nvme")
    assert found == {one: address for one, address in oracle.osdevs.items() if one.startswith(kinds)}
