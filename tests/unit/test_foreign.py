"""Single files of other programs: recognised by content, read, or refused with a ReadError. Excerpts; whole files are in
tests/recordings.
"""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.fuzz.parsers import machine

from bedplate.errors import ReadError
from bedplate.host.accel import ACCELERATORS_LIMIT, find_accelerators, read_accelerators
from bedplate.host.accel.nvidia import parse_nvml
from bedplate.host.formats.foreign import read_foreign
from bedplate.host.formats.hwlocxml import parse_hwloc
from bedplate.host.formats.lsblk import parse_lsblk
from bedplate.host.formats.lspci import parse_lspci
from bedplate.host.formats.nccl import parse_nccl
from bedplate.host.formats.nvidia_smi import parse_nvidia_smi, parse_nvidia_smi_pci
from bedplate.host.formats.rocm_smi import parse_rocm_smi, parse_rocm_smi_pci
from bedplate.host.formats.unrecorded import empty_facts
from bedplate.host.kernel.cpuinfo import parse_cpuinfo
from bedplate.host.kernel.pci import parse_resource
from bedplate.host.kernel.pciconfig import parse_config
from bedplate.host.kernel.pciids import excerpt, find_names
from bedplate.host.root.cpu_lists import parse_cpu_list, parse_cpu_mask
from bedplate.host.root.xmlfile import parse_xml
from bedplate.model.facts.reading import Unknown

SMI = """\
NVIDIA-SMI version  : 590.48.01
==============NVSMI LOG==============
Driver Version                                         : 590.48.01
GPU 00000000:19:00.0
    Product Name                                       : NVIDIA H100 80GB HBM3
    Persistence Mode                                   : Disabled
    MIG Mode
        Current                                        : N/A
    GPU UUID                                           : GPU-1
    PCI
        Device Id                                      : 0x233010DE
        GPU Link Info
            PCIe Generation
                Current                                : 3
                Device Max                             : 5
            Link Width
                Max                                    : 16x
                Current                                : 8x
    Clocks Event Reasons
        Idle                                           : Active
        HW Slowdown                                    : Active
            HW Thermal Slowdown                        : Active
    Clocks Event Reasons Counters
        SW Power Capping                               : 5 us
    ECC Errors
        Volatile
            SRAM Uncorrectable Parity                  : 1
            DRAM Uncorrectable                         : 2
        Aggregate
            DRAM Uncorrectable                         : 40
    GPU Power Readings
        Current Power Limit                            : 500.00 W
        Default Power Limit                            : 700.00 W
    Processes
        Process ID                        : 11
            Name                          : a
            Used GPU Memory               : 2 MiB
        Process ID                        : 12
            Name                          : b
            Used GPU Memory               : 3 MiB
GPU 00000000:3B:00.0
    Product Name                                       : NVIDIA H100 80GB HBM3
    Persistence Mode                                   : perhaps
"""
SMI_XML = """<?xml version="1.0" ?><!DOCTYPE nvidia_smi_log SYSTEM "nvsmi_device_v12.dtd"><nvidia_smi_log>
<driver_version>535.54.03</driver_version><gpu id="00000000:01:00.0"><product_name>NVIDIA A100</product_name>
<mig_mode><current_mig>Enabled</current_mig></mig_mode><clocks_throttle_reasons>
<clocks_throttle_reason_sw_power_cap>Active</clocks_throttle_reason_sw_power_cap></clocks_throttle_reasons>
<ecc_errors><volatile><dram_uncorrectable>4</dram_uncorrectable></volatile></ecc_errors>
<processes><process_info><pid>9</pid><process_name>x</process_name>
<used_memory>5 MiB</used_memory></process_info></processes>
</gpu></nvidia_smi_log>"""
NVLINKS = """GPU 0: NVIDIA A100-SXM4-80GB (UUID: GPU-1)
\t Link 0: 25 GB/s
\t Link 1: <inactive>
"""
ROCM = json.dumps(
    {
        "card1": {
            "PCI Bus": "0000:A3:00.0",
            "VRAM Total Memory (B)": "N/A",
            "(Topology) Numa Node": "-1",
            "Device ID": "0x74a1",
        },
        "card0": {
            "PCI Bus": "0000:83:00.0",
            "VRAM Total Memory (B)": "1024",
            "sclk clock speed:": "(300Mhz)",
            "GPU use (%)": "x",
        },
        "system": {"Driver version": "6.3.6", "(Topology) Link type between DRM devices 0 and 1": "XGMI"},
    }
)
LSBLK = """{"blockdevices": [
 {"name": "loop0", "type": "loop", "size": 4096, "mountpoint": "/snap/x"},
 {"name": "/dev/nvme0n1", "type": "disk", "size": "960G", "rota": false, "model": "A disk ", "children": [
  {"name": "/dev/nvme0n1p1", "type": "part", "size": "1G", "mountpoints": [null, "/boot"]},
  {"name": "/dev/nvme0n1p2", "type": "part", "children": [{"name": "/dev/md0", "type": "raid1", "rota": "0", "children": [
   {"name": "/dev/mapper/vg-models", "type": "lvm", "size": 7, "mountpoint": "/srv/models"}]}]}]},
 {"name": "/dev/nvme1n1", "type": "disk", "children": [{"name": "/dev/md0", "type": "raid1"}]}]}"""
NCCL = """<!-- a comment --><system version="1"><cpu numaid="1" affinity="f0" arch="x86_64">
<pci busid="ffff:ff:01.0" class="0x060400" link_speed="32.0 GT/s PCIe" link_width="16">
<pci busid="0000:1a:00.0" class="0x020700"><nic><net name="mlx5_0" speed="400000" guid="0x1"/></nic></pci>
<pci busid="0000:19:00.0" class="0x030200" vendor="0x10de" device="0x2330"><gpu dev="1" sm="90">
<nvlink target="0000:83:00.0" count="4" tclass="0x068000"/>
<nvlink target="0000:84:00.0" count="14" tclass="0x068000"/></gpu></pci>
<pci busid="0000:3b:00.0" class="0x030200"><gpu dev="0" sm="90">
<nvlink target="0000:83:00.0" count="18" tclass="0x068000"/></gpu>
</pci></pci></cpu><cpu numaid="-1" affinity=""/></system>"""
HWLOC = """<topology version="2.0"><object type="Machine" cpuset="0x3" nodeset="0x1">
<info name="Architecture" value="x86_64"/>
<object type="Package" os_index="0" cpuset="0x3" nodeset="0x1"><info name="CPUModel" value="a model"/>
<object type="NUMANode" os_index="0" cpuset="0x3" nodeset="0x1" local_memory="1024"/>
<object type="L3Cache" cpuset="0x3" cache_size="64" depth="3" cache_type="0">
<object type="Core" os_index="7" cpuset="0x3"><object type="PU" os_index="0" cpuset="0x1"/>
<object type="PU" os_index="1" cpuset="0x2"/>
</object></object><object type="Bridge" bridge_type="0-1">
<object type="Bridge" pci_busid="0000:15:01.0" pci_type="0604 [8086:352a] [0:0] 04">
<object type="PCIDev" pci_busid="0000:16:00.0" pci_type="0200 [15b3:1021] [15b3:1021] 00"><object type="OSDev" name="eth0"/>
<object type="OSDev" name="mlx5_0"/></object></object></object></object></object></topology>"""
LSPCI = "19:00.0 3D controller: NVIDIA Corporation Device 2330 (rev a1)\n"
FORMATS = {"nvidia-smi-q": SMI, "rocm-smi-json": ROCM, "nccl-xml": NCCL, "hwloc-xml": HWLOC, "lspci": LSPCI}


@pytest.mark.parametrize(
    "pack", [lambda data: data, gzip.compress, bz2.compress, lzma.compress], ids=["plain", "gz", "bz2", "xz"]
)
@pytest.mark.parametrize("name", FORMATS)
def test_a_file_is_known_by_its_content(name: str, pack: Callable[[bytes], bytes], tmp_path: Path) -> None:
    path = tmp_path / "anything"
    path.write_bytes(pack(FORMATS[name].encode()))
    facts = read_foreign(path)
    assert facts is not None
    assert facts.origin == "anything"
    assert facts.pci
    assert facts.kernel.release.unknown is Unknown.NOT_RECORDED
    assert name in {text.format for text in facts.texts}


@pytest.mark.parametrize("data", [b"", b"hello\n", b"{}", b"<html></html>", b"\0" * 100, b"PK\3\4", b"[1]"])
def test_another_file_is_left_to_others(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(data)
    assert read_foreign(path) is None
    assert read_foreign(tmp_path) is None


@pytest.mark.parametrize(
    "data",
    [
        gzip.compress(LSPCI.encode(), mtime=0)[:-9],
        gzip.compress(b"19:00.0 x\n" * 2_000_000, mtime=0),  # a bomb: 20 MB
        b"<system version='1'><cpu",
        b"<system version='1'/>",
        b"<topology version='1.0'><object type='Machine'/></topology>",
        b"<nvidia_smi_log/>",
        b"==============NVSMI LOG==============\nnothing\n",
        b'{"card0": 3}',
        b"19:00.0 broken\n",
    ],
)
def test_a_damaged_or_hostile_file_is_refused(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(data)
    with pytest.raises(ReadError, match="file"):
        read_foreign(path)


def _gpus(count: int) -> list[str]:
    return [f"{number >> 8:04x}:{number & 255:02x}:00.0" for number in range(count)]


MACHINES: dict[str, Callable[[int], str]] = {
    "lspci": lambda count: "".join(f"{address} 3D controller: NVIDIA Corporation Device 2330\n" for address in _gpus(count)),
    "nccl": lambda count: (
        '<system version="1"><cpu numaid="0" affinity="ff">'
        + "".join(f'<pci busid="{address}" class="0x030200"><gpu dev="1"/></pci>' for address in _gpus(count))
        + "</cpu></system>"
    ),
    "hwloc": lambda count: (
        '<topology version="2.0"><object type="Machine" cpuset="0x1" nodeset="0x1">'
        + "".join(
            f'<object type="PCIDev" pci_busid="{address}" pci_type="0302 [10de:2330] [0:0] 00"/>' for address in _gpus(count)
        )
        + "</object></topology>"
    ),
}


@pytest.mark.parametrize("name", MACHINES)
def test_more_accelerators_than_a_machine_has_are_refused(name: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text(MACHINES[name](ACCELERATORS_LIMIT))
    facts = read_foreign(path)
    assert facts is not None
    assert len(facts.accelerators) == ACCELERATORS_LIMIT
    path.write_text(MACHINES[name](ACCELERATORS_LIMIT + 1))
    with pytest.raises(ReadError, match="has 1025 accelerators, at most 1024"):
        read_foreign(path)


def test_a_recording_of_more_accelerators_is_refused() -> None:
    pci = parse_lspci(MACHINES["lspci"](ACCELERATORS_LIMIT + 1))
    with pytest.raises(ReadError, match="has 1025 accelerators, at most 1024"):
        read_accelerators(machine({}), pci)


def test_accelerators_are_numbered_by_their_maker() -> None:
    pci = parse_lspci(LSPCI + "1a:00.0 Display controller [0380]: AMD Device [1002:74a1]\n1b:00.0" + LSPCI[7:])
    found = [(accelerator.vendor, accelerator.index) for accelerator in find_accelerators(pci)]
    assert found == [("nvidia", 0), ("amd", 0), ("nvidia", 1)]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (LSPCI + "\ta\n" * 400_000, "has 400001 lines, at most 400000"),
        (LSPCI + "\n" * 4_000_000, "has 4000001 lines"),
        (
            LSPCI + "\tKernel driver in use: " + "x" * (4 << 20) + "\n",
            "line 2 of the listing has 4194327 characters, at most",
        ),
        (LSPCI[:-1] + "x" * (4 << 20), "line 1 of the listing has 4194"),
    ],
)
def test_a_listing_of_too_many_or_too_long_lines_is_refused(text: str, said: str) -> None:
    with pytest.raises(ReadError, match=said):
        parse_lspci(text)


def test_titles_and_values_of_nvidia_smi_are_cut_and_counted() -> None:
    head = "NVSMI LOG\nGPU 00000000:19:00.0\n    Product Name : " + "x" * 100_000 + "\n"
    accelerator = parse_nvidia_smi(head + "    PCI\n        Bus Id : 00000000:1A:00.0\n" + "    " + "T" * 100_000 + "\n")[0]
    assert len(accelerator.name) == 4096
    assert accelerator.address == "0000:1a:00.0"
    values = "".join(f"    Title {number} : v\n" for number in range(5000))
    with pytest.raises(ReadError, match=r"has \d+ values, at most 150000"):
        parse_nvidia_smi("NVSMI LOG\n" + "".join(f"GPU 00000000:{bus:02X}:00.0\n{values}" for bus in range(40)))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "<a>",
        "<a>\0</a>",
        "<a>" * 100 + "</a>" * 100,
        '<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>',
        '<!DOCTYPE a [<!ATTLIST b c CDATA "default">]><a><b/></a>',
        "<!DOCTYPE a [<!ELEMENT a ANY>]><a/>",
        '<!DOCTYPE a [<!NOTATION b SYSTEM "c">]><a/>',
        '<!DOCTYPE a [<!ENTITY % b "c">%b;]><a/>',
        "<!DOCTYPE a []><a/>",
        "<a b='" + "c" * 600_000 + "'/>",
        "<a><!--" + "c" * 600_000 + "--></a>",
        "<a>" + "<b/>" * 250_000 + "</a>",
        "<a>" + "<b c='' d='' e=''/>" * 70_000 + "</a>",
        '<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><a>&b;</a>',
        "<a/><b/>",
    ],
)
def test_hostile_xml_is_refused(text: str) -> None:
    with pytest.raises(ReadError):
        parse_xml(text)


def test_a_document_type_that_declares_nothing_is_passed_over() -> None:
    assert parse_xml('<!DOCTYPE a SYSTEM "a.dtd"><a>b</a>').text == "b"
    assert parse_xml('<?xml version="1.0" encoding="utf-16"?><a>é</a>').text == "é"


def test_nvidia_smi_text() -> None:
    first, second = parse_nvidia_smi(SMI)
    assert (first.address, first.name, first.uuid) == ("0000:19:00.0", "NVIDIA H100 80GB HBM3", "GPU-1")
    assert (first.persistence.value, first.mig.unknown, first.ecc_uncorrected.value) == (False, Unknown.ABSENT, 3)
    assert (first.throttle_reasons, first.power_limit_w.value) == (("hw_slowdown", "hw_thermal_slowdown"), 500.0)
    assert first.processes == ((11, "a", 2 << 20), (12, "b", 3 << 20))
    assert (first.library_version.value, first.temperature_c.unknown) == ("590.48.01", Unknown.NOT_RECORDED)
    assert (second.persistence.unknown, second.persistence.text) == (Unknown.MALFORMED, "perhaps")
    device = parse_nvidia_smi_pci(SMI)[0]
    assert (device.vendor, device.device) == (0x10DE, 0x2330)
    assert (device.link.speed_gts, device.link.width, device.link.max_speed_gts, device.link.max_width) == (8.0, 8, 32.0, 16)


def test_nvidia_smi_xml_and_links() -> None:
    (gpu,) = parse_nvidia_smi(SMI_XML)
    assert (gpu.address, gpu.mig.value, gpu.throttle_reasons) == ("0000:01:00.0", True, ("sw_power_cap",))
    assert (gpu.ecc_uncorrected.value, gpu.processes) == (4, ((9, "x", 5 << 20),))
    (linked,) = parse_nvidia_smi(NVLINKS)
    assert (linked.nvlinks_active.value, linked.nvlinks_total.value, linked.uuid) == (1, 2, "GPU-1")


def test_rocm_smi() -> None:
    first, second = parse_rocm_smi(ROCM)
    assert (first.address, first.memory_bytes.value, first.sm_clock_mhz.value) == ("0000:83:00.0", 1024, 300)
    assert (first.utilization_pct.unknown, second.memory_bytes.unknown) == (Unknown.MALFORMED, Unknown.ABSENT)
    assert (first.peers, second.peers) == (((1, "XGMI"),), ((0, "XGMI"),))
    assert [device.numa_node.unknown for device in parse_rocm_smi_pci(ROCM)] == [Unknown.NOT_RECORDED, Unknown.HIDDEN]


def test_a_blank_line_within_a_device_says_nothing() -> None:
    assert [device.address for device in parse_lspci("15:01.0 PCI bridge: Intel\n\t \n \n")] == ["0000:15:01.0"]


def test_lsblk() -> None:
    devices = {disk.name: disk for disk in parse_lsblk(LSBLK)}
    assert list(devices) == ["md0", "nvme0n1", "nvme1n1", "vg-models"]
    first, volume = devices["nvme0n1"], devices["vg-models"]
    assert (first.model, first.size_bytes, first.rotational.value, first.transport) == ("A disk", 960 << 30, False, "nvme")
    assert (first.mounts, first.parents) == (("/boot",), ())  # of its partition
    assert (volume.transport, volume.parents, volume.mounts) == ("dm", ("md0",), ("/srv/models",))
    assert (devices["md0"].transport, devices["md0"].parents) == ("md", ("nvme0n1", "nvme1n1"))
    assert devices["nvme1n1"].rotational.unknown is Unknown.NOT_RECORDED
    assert (first.numa_node.unknown, first.scheduler.unknown) == (Unknown.NOT_RECORDED, Unknown.NOT_RECORDED)


def test_lsblk_of_endless_depth_is_refused() -> None:
    deep = '{"name": "a", "type": "lvm", "children": [' * 40 + "]}" * 40
    with pytest.raises(ReadError, match="levels"):
        parse_lsblk(f'{{"blockdevices": [{deep}]}}')


def test_nccl() -> None:
    told = parse_nccl(NCCL)
    assert (told.architecture, [(node.node, node.cpus, node.mem_bytes) for node in told.numa.nodes]) == (
        "x86_64",
        [(1, (4, 5, 6, 7), None)],
    )
    first, second = told.accelerators
    assert (first.index, first.address, first.name, first.nvlinks_active.value) == (0, "0000:3b:00.0", "sm_90", 18)
    assert (first.vendor, second.vendor, first.peers, second.peers) == (
        "nvidia",
        "nvidia",
        ((1, "NVLink"),),
        ((0, "NVLink"),),
    )
    (nic,) = told.network
    assert (nic.name, nic.address, nic.speed_mbps.value, nic.numa_node.value, nic.rdma) == (
        *("mlx5_0", "0000:1a:00.0", 400_000, 1),
        ("mlx5_0",),
    )
    assert {device.address: device.parent for device in told.pci}["0000:19:00.0"] == "ffff:ff:01.0"


def test_hwloc() -> None:
    told = parse_hwloc(HWLOC)
    assert [(cpu.cpu, cpu.core, cpu.siblings, cpu.node) for cpu in told.cpus] == [(0, 7, (0, 1), 0), (1, 7, (0, 1), 0)]
    assert [(cache.level, cache.size_bytes, cache.cpus) for cache in told.caches] == [(3, 64, (0, 1))]
    assert (told.model_name, told.architecture, told.numa.nodes[0].mem_bytes) == ("a model", "x86_64", 1024)
    assert {device.address: device.parent for device in told.pci} == {"0000:15:01.0": None, "0000:16:00.0": "0000:15:01.0"}
    (nic,) = told.network
    assert (nic.name, nic.rdma, nic.numa_node.value) == ("eth0", ("mlx5_0",), 0)


def test_of_an_empty_machine_nothing_is_known() -> None:
    facts = empty_facts("x")
    assert (facts.os.virtualisation.unknown, facts.cgroup.cpus.unknown) == (Unknown.NOT_RECORDED, Unknown.NOT_RECORDED)


PARSERS: dict[str, tuple[Callable[[str], object], str]] = {
    "nvidia-smi": (parse_nvidia_smi, SMI),
    "nvidia-smi pci": (parse_nvidia_smi_pci, SMI),
    "nvidia-smi xml": (parse_nvidia_smi, SMI_XML),
    "nvidia-smi nvlink": (parse_nvidia_smi, NVLINKS),
    "rocm-smi": (parse_rocm_smi, ROCM),
    "rocm-smi pci": (parse_rocm_smi_pci, ROCM),
    "lsblk": (parse_lsblk, LSBLK),
    "nccl": (parse_nccl, NCCL),
    "hwloc": (parse_hwloc, HWLOC),
    "lspci": (
        parse_lspci,
        "15:01.0 PCI bridge: Intel\n\tBus: primary=15, secondary=15, subordinate=1c\n\t\tACSCtl:\tSrcValid+\n",
    ),
    "nvml": (
        parse_nvml,
        '{"format": 1, "devices": [{"Name": {"value": "x"}, "handle": {"error": 15}}], "pairs": [{"a": 0, "b": 1}]}',
    ),
    "cpu list": (parse_cpu_list, "0-3,8"),
    "cpu mask": (parse_cpu_mask, "00000001,0000000f"),
    "cpuinfo": (parse_cpuinfo, "CPU implementer\t: 0x41\nCPU part\t: 0xd4f\n"),
    "resource": (parse_resource, "0x1000 0x1fff 0x40200\n"),
    "xml": (parse_xml, "<a><b/></a>"),
}


@pytest.mark.parametrize("name", PARSERS)
@given(data=st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_only_a_read_error_escapes(name: str, data: st.DataObject) -> None:
    """A real text with parts cut out, doubled, or replaced by anything; and any text at all."""
    parse, text = PARSERS[name]
    for _ in range(data.draw(st.integers(0, 4))):
        start = data.draw(st.integers(0, len(text)))
        end = data.draw(st.integers(start, min(len(text), start + 40)))
        piece = data.draw(
            st.one_of(st.text(max_size=12), st.just(text[start:end] * 2), st.sampled_from(["-1", "9" * 400, "\0", "NaN"]))
        )
        text = text[:start] + piece + text[end:]
    with suppress(ReadError):
        parse(data.draw(st.sampled_from([text, data.draw(st.text(max_size=40))])))


@given(data=st.binary(max_size=600), cut=st.integers(0, 4096))
@settings(max_examples=100, deadline=None)
def test_any_bytes_are_a_configuration_space_or_none(data: bytes, cut: int) -> None:
    parse_config(data)
    parse_config((b"\xde\x10\x30\x23\0\0\x10\0" + data).ljust(4096, data[:1] or b"\0")[:cut])
    find_names(data, [(0x10DE, 0x2330)])
    excerpt(b"10de  NVIDIA\n" + data, [(0x10DE, 0x2330)])
