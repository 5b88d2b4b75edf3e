"""Our readers against hwloc's, on the recordings of its own tests: equal, or the difference is named with its reason."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import pytest

from bedplate.host.kernel.block import read_blocks
from bedplate.host.kernel.network import read_network
from bedplate.host.kernel.numa import read_numa
from bedplate.host.kernel.pci import read_pci
from bedplate.host.kernel.topology import read_cpu_topology
from bedplate.host.root.root import Root
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
    online = [logical for logical in cpu.cpus if logical.online]
    assert {logical.cpu for logical in online} == oracle.pus
    assert {logical.cpu for logical in cpu.cpus} == oracle.complete
    assert {frozenset(logical.siblings) for logical in online} == oracle.cores
    packages = {logical.package for logical in online}
    found = {package: frozenset(logical.cpu for logical in online if logical.package == package) for package in packages}
    assert found == oracle.packages


@pytest.mark.parametrize("name", NAMES)
def test_caches(name: str, oracle_of: OracleOf, root_of: RootOf) -> None:
    oracle, cpu = oracle_of(name), read_cpu_topology(root_of(name))
    assert {(cache.level, cache.kind, cache.size_bytes, frozenset(cache.cpus)) for cache in cpu.caches} == oracle.caches


@pytest.mark.parametrize("name", NAMES)
def test_numa_nodes(name: str, oracle_of: OracleOf, root_of: RootOf) -> None:
    oracle, numa = oracle_of(name), read_numa(root_of(name))
    assert {node.node: (frozenset(node.cpus), node.mem_bytes) for node in numa.nodes} == oracle.nodes
    if oracle.distances:
        assert [distance for node in numa.nodes for distance in node.distances] == oracle.distances


@pytest.mark.parametrize("name", WITH_PCI)
def test_pci_tree_and_locality(name: str, oracle_of: OracleOf, root_of: RootOf) -> None:
    oracle, devices = oracle_of(name), read_pci(root_of(name))
    devices = tuple(device for device in devices if (name, device.address) not in LEFT_OUT)
    assert {device.address: (device.class_code >> 8, device.vendor, device.device) for device in devices} == {
        address: facts[:3] for address, facts in oracle.pci.items()
    }
    assert {device.address: device.parent for device in devices} == oracle.parents
    different = {device.address for device in devices if frozenset(device.local_cpus) != oracle.pci[device.address][3]}
    assert different == {address for machine, address in WIDER if machine == name}
    assert all(
        frozenset(device.local_cpus) < oracle.pci[device.address][3] for device in devices if device.address in different
    )


@pytest.mark.parametrize("name", WITH_PCI)
def test_network_and_disks_hang_where_lstopo_says(name: str, oracle_of: OracleOf, root_of: RootOf) -> None:
    oracle, root = oracle_of(name), root_of(name)
    found = {disk.name: disk.address for disk in read_blocks(root) if disk.address is not None}
    for device in read_network(root):
        assert device.address is not None
        found |= dict.fromkeys((device.name, *device.rdma), device.address)
    kinds = ("eth", "ib", "mlx", "qib", "sd", "nvme")
    assert found == {name: address for name, address in oracle.osdevs.items() if name.startswith(kinds)}
