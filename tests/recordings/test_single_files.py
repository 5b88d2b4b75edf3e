"""Files that other programs wrote of a machine: all of the data set are read, and say what is known to be true."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from bedplate.host.formats.foreign import read_foreign
from bedplate.model.facts.host import HostFacts
from bedplate.model.facts.pci import PciDevice, PciKind
from bedplate.model.facts.reading import Unknown

pytestmark = pytest.mark.data

NCCL = [
    "aws-p4de-24xl-topo.xml",
    "azure-ndv5-h100-topo.xml",
    "rccl-topo_8p1h_5.xml",
    "rccl-topo_8p_940.xml",
    "rccl-topo_8p_rome_4nics.xml",
]
GPU_CLASSES = ("0x030000", "0x030200", "0x038000", "0x120000")


def read(path: Path) -> HostFacts:
    facts = read_foreign(path)
    assert facts is not None
    return facts


def path_up(device: PciDevice, by_address: dict[str, PciDevice]) -> list[PciDevice]:
    path = [device]
    while (above := path[-1].parent) is not None:
        path.append(by_address[above])
    return path


def test_lspci_of_an_8xh100_server(machines: Path) -> None:
    facts = read(machines / "gpud" / "lspci-vvv.txt.gz")
    by_address = {device.address: device for device in facts.pci}
    assert len(facts.pci) == 517
    nodes = {
        accelerator.address: by_address[accelerator.address].numa_node.value
        for accelerator in facts.accelerators
        if accelerator.address
    }
    assert nodes == {
        **dict.fromkeys(("0000:19:00.0", "0000:3b:00.0", "0000:4c:00.0", "0000:5d:00.0"), 0),
        **dict.fromkeys(("0000:9b:00.0", "0000:bb:00.0", "0000:cb:00.0", "0000:db:00.0"), 1),
    }
    redirecting = [
        device.address for device in facts.pci if device.acs.value is not None and device.acs.value.request_redirect
    ]
    assert redirecting == ["0000:82:00.0", "0000:82:01.0", "0000:82:02.0", "0000:82:03.0"]
    # Behind the four ports are the NVSwitches; the ports above the GPUs do not redirect.
    assert [device.class_code for device in facts.pci if device.parent in redirecting] == [0x068000] * 4
    for address in nodes:
        kinds = [device.kind for device in path_up(by_address[address], by_address)]
        assert kinds == [PciKind.ENDPOINT, PciKind.SWITCH_DOWNSTREAM, PciKind.SWITCH_UPSTREAM, PciKind.ROOT_PORT]
    gpu = by_address["0000:19:00.0"]
    assert (gpu.link.speed_gts, gpu.link.width, gpu.link.port_max_speed_gts, gpu.link.port_max_width) == (32.0, 16, 32.0, 16)
    assert (gpu.vendor, gpu.device, gpu.max_payload_bytes, gpu.max_read_request_bytes) == (0x10DE, 0x2330, 256, 4096)
    assert gpu.relaxed_ordering is True
    assert gpu.bars_bytes == (16 << 20, 128 << 30, 32 << 20)
    assert gpu.driver.value == "nvidia"


def test_plain_lspci_says_no_more_than_it_holds(machines: Path) -> None:
    facts = read(machines / "gpud" / "lspci.nn.a100")
    assert [device.device for device in facts.pci if device.vendor == 0x10DE and device.class_code == 0x030200] == [
        0x20B2
    ] * 8
    assert {device.numa_node.unknown for device in facts.pci} == {Unknown.NOT_RECORDED}
    assert {device.acs.unknown for device in facts.pci} == {Unknown.NOT_RECORDED}
    assert {device.driver.unknown for device in facts.pci} == {Unknown.NOT_RECORDED}


@pytest.mark.parametrize("name", NCCL)
def test_gpu_to_node_and_gpu_to_nic_are_those_of_the_nccl_file(name: str, machines: Path) -> None:
    """The truth is taken from the XML with another tool: the GPUs and NICs below each element."""
    path = machines / "nccl-topo" / name
    facts = read(path)
    by_address = {device.address: device for device in facts.pci}
    tree = ElementTree.parse(path).getroot()
    node_of_gpu: dict[str, int] = {}
    nics_near_gpu: dict[str, set[str]] = {}
    for cpu in tree.findall("cpu"):
        for top in cpu.findall("pci"):
            inside = [top, *top.iter("pci")]
            gpus = [row.get("busid", "") for row in inside if row.get("class") in GPU_CLASSES]
            nics = {row.get("busid", "") for row in inside if row.get("class", "").startswith("0x02")}
            for gpu in gpus:
                node_of_gpu[gpu] = int(cpu.get("numaid", ""))
                nics_near_gpu[gpu] = nics
    assert {
        accelerator.address: by_address[accelerator.address or ""].numa_node.value for accelerator in facts.accelerators
    } == node_of_gpu
    assert len(node_of_gpu) == 8
    tops = {device.address: path_up(by_address[device.address], by_address)[-1].address for device in facts.pci}
    found = {
        gpu.address: {nic.address for nic in facts.network if tops[nic.address or ""] == tops[gpu.address or ""]}
        for gpu in facts.accelerators
    }
    assert found == nics_near_gpu


def test_peers_of_mi300x_are_all_others_by_xgmi(machines: Path) -> None:
    facts = read(machines / "nccl-topo" / "rccl-topo_8p_940.xml")
    for accelerator in facts.accelerators:
        assert accelerator.vendor == "amd" and accelerator.name == "gfx942"
        assert accelerator.peers == tuple((other, "XGMI") for other in range(8) if other != accelerator.index)
    assert {nic.speed_mbps.value for nic in facts.network} == {400_000}
    assert all(nic.rdma == (nic.name,) for nic in facts.network)


def test_nvidia_smi_capture_under_load(machines: Path) -> None:
    (gpu,) = read(machines / "nvidia-smi" / "nvidia-h100-80gb-hbm3__590.48.01.txt").accelerators
    assert (gpu.name, gpu.address, gpu.memory_bytes.value) == ("NVIDIA H100 80GB HBM3", "0000:00:09.0", 81_559 << 20)
    assert (gpu.driver_version.value, gpu.library_version.value) == ("590.48.01", "590.48.01")
    assert (gpu.persistence.value, gpu.mig.value, gpu.ecc.value, gpu.ecc_uncorrected.value) == (True, False, True, 0)
    assert (gpu.power_limit_w.value, gpu.power_default_w.value) == (700.0, 700.0)
    assert (gpu.sm_clock_mhz.value, gpu.max_sm_clock_mhz.value) == (1980, 1980)
    assert (gpu.fabric_state.value, gpu.nvlinks_active.value, gpu.nvlinks_total.value) == ("Completed", 18, 18)
    assert gpu.confidential.value is False
    assert [(pid, size >> 20) for pid, _, size in gpu.processes] == [(11327, 2566), (11328, 1542), (11345, 15690)]


def test_nvidia_smi_of_other_cards(machines: Path) -> None:
    (l40s,) = read(machines / "nvidia-smi" / "nvidia-l40s__595.80.txt").accelerators
    assert l40s.persistence.value is False
    assert l40s.mig.unknown is Unknown.ABSENT
    (a100,) = read(machines / "nvidia-smi" / "a100-sxm4-v12.xml").accelerators
    assert (a100.mig.value, a100.persistence.value, a100.power_limit_w.value) == (True, False, 500.0)
    assert a100.utilization_pct.unknown is Unknown.ABSENT
    links = read(machines / "gpud" / "nvidia-smi.nvlink.status.a100").accelerators
    assert [(link.nvlinks_active.value, link.nvlinks_total.value) for link in links] == [(12, 12)] * 8


def test_rocm_smi(machines: Path) -> None:
    facts = read(machines / "rocm-smi" / "mi100_rocm602.json")
    assert [accelerator.address for accelerator in facts.accelerators] == [
        "0000:83:00.0",
        "0000:a3:00.0",
        "0000:c3:00.0",
        "0000:e3:00.0",
    ]
    assert {accelerator.memory_bytes.value for accelerator in facts.accelerators} == {34_342_961_152}
    assert facts.accelerators[0].peers == ((1, "PCIE"), (2, "PCIE"), (3, "PCIE"))
    assert {device.numa_node.value for device in facts.pci} == {1}


def test_lsblk(machines: Path) -> None:
    """The truth is taken from the JSON with a walk of its own: every disk once, and what is mounted."""
    for name in ("lsblk.1.json", "lsblk.3.json"):
        path = machines / "gpud" / name
        facts = read(path)
        rows = json.loads(path.read_text())["blockdevices"]
        disks = {row["name"].rsplit("/", 1)[-1] for row in rows if row["type"] == "disk"}
        assert disks <= {block.name for block in facts.blocks}
        assert {block.name for block in facts.blocks if block.transport == "nvme"} == {
            disk for disk in disks if disk[:4] == "nvme"
        }
    (volume,) = [block for block in facts.blocks if block.transport == "dm"]  # one logical volume over eight disks
    assert (volume.name, len(volume.parents)) == ("sample_vg-sample_lv", 8)


def test_hwloc_xml_of_a_dgx2(machines: Path) -> None:
    facts = read(machines / "hwloc" / "nvidiaDGX2.xml")
    assert len(facts.accelerators) == 16
    assert {accelerator.name for accelerator in facts.accelerators} == {"Tesla V100-SXM3-32GB-H"}
    by_address = {device.address: device for device in facts.pci}
    nodes = [by_address[accelerator.address or ""].numa_node.value for accelerator in facts.accelerators]
    assert nodes == [0] * 8 + [1] * 8
    assert facts.numa.nodes[0].distances == (10, 21)
    assert facts.memory.total_bytes == 810_234_351_616 + 811_737_923_584
    assert facts.kernel.release.unknown is Unknown.NOT_RECORDED


def test_what_is_no_recording_is_left_to_others(machines: Path) -> None:
    for name in ("gpud/LICENSE", "hwloc/nvidia-dgx-gb10.tar.bz2", "procfs/fixtures.ttar.gz"):
        assert read_foreign(machines / name) is None
    assert read_foreign(machines) is None
