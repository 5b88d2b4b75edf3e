"""The server that the bench makes is read as what it says it is."""

from __future__ import annotations

from pathlib import Path

from bench.server import Server, make_server
from tests.unit.tree import make_root

from bedplate.host.facts import read_host
from bedplate.model.facts.pci import PciKind
from bedplate.model.facts.reading import Unknown


def test_the_server_of_the_bench(tmp_path: Path) -> None:
    entries = make_server(Server(cores_per_socket=2, gpus=2, pci_devices=24))
    facts = read_host(make_root(tmp_path, entries, absent=Unknown.NOT_RECORDED), origin="test")
    assert facts.problems == ()
    assert [(cpu.package, cpu.core, cpu.siblings) for cpu in facts.cpu.cpus[:4]] == [
        (0, 0, (0, 4)),
        (0, 1, (1, 5)),
        (1, 0, (2, 6)),
        (1, 1, (3, 7)),
    ]
    assert [node.cpus for node in facts.numa.nodes] == [(0, 1, 4, 5), (2, 3, 6, 7)]
    assert [cache.cpus for cache in facts.cpu.caches if cache.level == 3] == [(0, 1, 4, 5), (2, 3, 6, 7)]
    by_address = {device.address: device for device in facts.pci}
    assert len(by_address) == 24
    gpu = by_address["0000:18:00.0"]
    assert (gpu.parent, gpu.driver.value, gpu.iommu_type.value, gpu.link.width) == ("0000:17:00.0", "nvidia", "identity", 16)
    assert by_address["0000:17:00.0"].kind is PciKind.SWITCH_DOWNSTREAM
    assert [(accelerator.address, accelerator.peers) for accelerator in facts.accelerators] == [
        ("0000:18:00.0", ((1, "NVLink"),)),
        ("0000:3a:00.0", ((0, "NVLink"),)),
    ]
    assert [(nic.name, nic.address, nic.numa_node.value) for nic in facts.network] == [
        ("ib0", "0000:19:00.0", 0),
        ("ib1", "0000:3b:00.0", 1),
    ]
    assert [(block.name, block.address, block.queues) for block in facts.blocks] == [
        ("nvme0n1", "0000:1a:00.0", 32),
        ("nvme1n1", "0000:3c:00.0", 32),
    ]
