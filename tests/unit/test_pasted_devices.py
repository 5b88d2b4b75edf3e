"""What is read and found in pasted outputs of AMD's and other vendors' tools, and in listings of devices."""

from __future__ import annotations

from pathlib import Path

from tests.unit.pasted_cases import INFO, MIB, PASTED, by_id, facts_of, judge, keys, read_bytes

# -- facts


def test_amd_partitions() -> None:
    for name in ("amd-text/rocm-smi.txt", "amd-text/amd-smi.json"):
        first, second = facts_of(name).accelerators
        assert (first.name, first.compute_partition.value, first.memory_partition.value) == (
            "AMD Instinct MI300X",
            "CPX",
            "NPS4",
        )
        assert (second.index, second.compute_partition.value) == (1, "CPX")
    device = facts_of("amd-text/amd-smi.json").pci[0]
    assert (device.pci_id, device.link.max_speed_gts, device.link.max_width, device.numa_node.value) == (
        *("1002:74a1", 32.0, 16),
        0,
    )
    assert [gpu.memory_bytes.value for gpu in facts_of("amd-text/amd-smi.json").accelerators] == [24574 * MIB] * 2
    assert "8 devices" in by_id("amd-text/amd-smi.json")["accel.partitioned"].title


def test_a_warning_before_the_json_of_rocm_smi_hides_nothing(tmp_path: Path) -> None:
    text = b'WARNING: AMD GPU device(s) is/are in a low-power state.\n\n{"card0": {"PCI Bus": "0000:83:00.0"}}\n'
    facts = read_bytes(text, tmp_path)
    assert [gpu.address for gpu in facts.accelerators] == ["0000:83:00.0"]
    assert [(text.first_line, text.format) for text in facts.texts] == [(1, ""), (3, "rocm-smi-json")]


def test_lspci_signs() -> None:
    lost, unbound = facts_of("lspci-signs/lspci.txt").pci
    assert (lost.answers.value, unbound.answers.value) == (False, None)
    assert (unbound.driver.value, unbound.modules) == (None, ("nvidia",))
    assert unbound.link_errors == ("RxErr", "BadTLP", "BadDLLP", "Timeout")


def test_a_card_without_a_driver_is_told_only_where_others_have_one(tmp_path: Path) -> None:
    text = (PASTED / "lspci-signs/lspci.txt").read_text().replace("\tKernel driver in use: nvidia\n", "")
    assert "driver.not-bound" not in {finding.id for finding in judge(read_bytes(text.encode(), tmp_path)).findings}


def test_a_card_that_is_given_away(tmp_path: Path) -> None:
    text = (PASTED / "prompt-and-fence/prompt.txt").read_text().replace("in use: nvidia", "in use: vfio-pci")
    findings = {finding.id: finding.severity for finding in judge(read_bytes(text.encode(), tmp_path)).findings}
    assert findings["driver.given-away"] is INFO
    assert "link.narrow" not in findings


def test_other_vendors() -> None:
    (gaudi,) = facts_of("other-vendors/hl-smi.txt").accelerators
    assert (gaudi.name, gaudi.address, gaudi.memory_bytes.value) == (
        "Habana HL-325L (Gaudi 3)",
        "0000:33:00.0",
        131072 * MIB,
    )
    (xpu,) = facts_of("other-vendors/xpu.txt").accelerators
    assert (xpu.vendor, xpu.failure.value) == ("intel", "survivability mode")


def test_the_matrix_of_links() -> None:
    facts = facts_of("topo-m/topo.txt")
    assert [gpu.nvlinks_active.value for gpu in facts.accelerators] == [18, 18, 0, 18]
    assert facts.accelerators[0].peers == ((1, "NVLink"), (2, "NODE"), (3, "NVLink"))
    assert facts.accelerators[0].near_rdma == (("mlx5_0", "PIX"),)
    assert [gpu.numa_node.value for gpu in facts.accelerators] == [0, 0, 0, 1]
    assert [(node.node, node.cpus) for node in facts.numa.nodes] == [
        (0, (*range(16), *range(64, 80))),
        (1, (*range(16, 32), *range(80, 96))),
    ]
    assert [nic.rdma for nic in facts.network] == [("mlx5_0",)]


def test_a_pair_with_a_bridge_says_nothing_of_the_other_cards(tmp_path: Path) -> None:
    text = (
        "\tGPU0\tGPU1\tGPU2\tGPU3\tCPU Affinity\tNUMA Affinity\n"
        "GPU0\t X \tNV4\tSYS\tSYS\t0-7\t0\nGPU1\tNV4\t X \tSYS\tSYS\t0-7\t0\n"
        "GPU2\tSYS\tSYS\t X \tPHB\t8-15\t1\nGPU3\tSYS\tSYS\tPHB\t X \t8-15\t1\n"
    )
    facts = read_bytes(text.expandtabs(8).encode(), tmp_path)
    assert [gpu.nvlinks_active.value for gpu in facts.accelerators] == [4, 4, None, None]
    assert not judge(facts).findings


def test_titles_of_rocm_smi(tmp_path: Path) -> None:
    text = (
        "============================ ROCm System Management Interface ============================\n"
        "====================================== Product Info ======================================\n"
        "GPU[0]\t\t: Card Series: \t\tAMD Instinct MI300X\nGPU[0]\t\t: Card Model: \t\t0x74a1\n"
        "GPU[0]\t\t: PCI Bus: 0000:05:00.0\nGPU[1]\t\t: Card Series: \t\tAMD Instinct MI300X\n"
        "GPU[1]\t\t: PCI Bus: 0000:26:00.0\n"
        "================================== End of ROCm SMI Log ===================================\n"
    )
    facts = read_bytes(text.encode(), tmp_path)
    assert [(gpu.index, gpu.name, gpu.address) for gpu in facts.accelerators] == [
        (0, "AMD Instinct MI300X", "0000:05:00.0"),
        (1, "AMD Instinct MI300X", "0000:26:00.0"),
    ]
    assert facts.pci[0].pci_id == "1002:74a1"


def test_the_text_of_amd_smi(tmp_path: Path) -> None:
    text = (
        "GPU: 0\n    ASIC:\n        MARKET_NAME: AMD Instinct MI300X\n        DEVICE_ID: 0x74a1\n"
        "    BUS:\n        BDF: 0000:05:00.0\n"
        "    VRAM:\n        SIZE: 196592 MB\n"
        "    PARTITION:\n        COMPUTE_PARTITION: SPX\n        MEMORY_PARTITION: NPS1\n"
        "    NUMA:\n        NODE: 1\n"
    )
    facts = read_bytes(text.encode(), tmp_path)
    (gpu,) = facts.accelerators
    assert (gpu.name, gpu.address, gpu.memory_bytes.value, gpu.compute_partition.value, gpu.numa_node.value) == (
        *("AMD Instinct MI300X", "0000:05:00.0", 196592 * MIB, "SPX"),
        1,
    )
    assert not judge(facts).findings


def test_a_card_without_a_driver_in_a_short_listing(tmp_path: Path) -> None:
    """`lspci -nnk`: what is not verbose still lists drivers."""
    card = "3D controller [0302]: NVIDIA Corporation GH100 [H100 SXM5 80GB] [10de:2330] (rev a1)\n"
    bound = f"18:00.0 {card}\tKernel driver in use: nvidia\n\tKernel modules: nvidia\n"
    facts = read_bytes(f"{bound}2a:00.0 {card}\tKernel modules: nvidia\n".encode(), tmp_path)
    assert keys(judge(facts).findings) == {("driver.not-bound", ("0000:2a:00.0",))}
    only = read_bytes(f"2a:00.0 {card}\tKernel modules: nvidia\n".encode(), tmp_path)
    assert not judge(only).findings


AMD_TABLE = """\
+------------------------------------------------------------------------------+
| AMD-SMI 26.9.9+1234abcd      amdgpu version: 6.99.1   ROCm version: 7.9.0    |
| VBIOS version: 00012345                                                      |
| Platform: Linux Baremetal                                                    |
|-------------------------------------+----------------------------------------|
| BDF                        GPU-Name | Mem-Uti   Temp   UEC       Power-Usage |
| GPU  HIP-ID  OAM-ID  Partition-Mode | GFX-Uti    Fan               Mem-Usage |
|=====================================+========================================|
| 0000:05:00.0    AMD Instinct MI300X | 0 %      41 °C   3           142/750 W |
|   0       0       7        DPX/NPS1 | 0 %        N/A           283/196592 MB |
|-------------------------------------+----------------------------------------|
| 0000:05:00.1    AMD Instinct MI300X | N/A        N/A   0                 N/A |
|   1       1     N/A             N/A | N/A        N/A            492/98296 MB |
+-------------------------------------+----------------------------------------+
| Processes:                                                                   |
|  No running processes found                                                  |
+------------------------------------------------------------------------------+
"""


def test_the_table_of_amd_smi(tmp_path: Path) -> None:
    facts = read_bytes(AMD_TABLE.encode(), tmp_path)
    first, second = facts.accelerators
    assert (first.index, first.name, first.address, first.memory_bytes.value, first.power_limit_w.value) == (
        *(0, "AMD Instinct MI300X", "0000:05:00.0"),
        *(196592 * MIB, 750.0),
    )
    assert (first.compute_partition.value, first.driver_version.value, first.temperature_c.value) == ("DPX", "6.99.1", 41.0)
    assert (second.address, second.compute_partition.value, second.memory_bytes.value) == ("0000:05:00.1", None, 98296 * MIB)
    assert facts.os.virtualisation.value == "none"
    assert {finding.id for finding in judge(facts).findings} == {"accel.ecc-uncorrected", "accel.partitioned"}
    guest = read_bytes(AMD_TABLE.replace("Linux Baremetal", "Linux Guest (Passthrough)").encode(), tmp_path)
    assert guest.os.virtualisation.value == "virtual machine"


def test_a_listing_of_a_virtual_machine_judges_no_links(tmp_path: Path) -> None:
    virtio = "00:03.0 Ethernet controller [0200]: Red Hat, Inc. Virtio network device [1af4:1000]\n"
    facts = read_bytes(virtio.encode() + (PASTED / "unread-shown-as-read/lspci.txt").read_bytes(), tmp_path)
    assert facts.os.virtualisation.value == "virtual machine"
    narrow = (PASTED / "display-class-gpu/lspci.txt").read_bytes()
    assert judge(read_bytes(virtio.encode() + narrow, tmp_path)).findings == ()


def test_the_effect_of_a_narrow_link_is_that_of_its_generation() -> None:
    assert "a Gen4 x16 link 28 GB/s" in by_id("prompt-and-fence/prompt.txt")["link.narrow"].effect
    assert by_id("display-class-gpu/lspci.txt")["link.narrow"].effect.startswith("Gen5 x16 carries about 56 GB/s, 89 %")
