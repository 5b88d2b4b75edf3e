"""The PCI tree from configuration space, from /sys and from lspci."""

from __future__ import annotations

import struct
from dataclasses import replace
from pathlib import Path

import pytest
from tests.unit.pci_space import DOWNSTREAM, ROOT_PORT, UPSTREAM, make_config
from tests.unit.tree import Link, make_root

from bedplate.errors import ReadError
from bedplate.host.formats.lspci import parse_lspci
from bedplate.host.kernel.pci import parse_resource, parse_speed, read_pci
from bedplate.host.kernel.pciconfig import parse_config
from bedplate.host.kernel.pciids import excerpt, find_names
from bedplate.host.kernel.pcitree import finish_tree, make_device, parse_address
from bedplate.model.facts.pci import PciKind
from bedplate.model.facts.reading import Unknown


def test_configuration_space() -> None:
    read = parse_config(make_config(DOWNSTREAM, secondary=3, acs=0x1D))
    assert read is not None and read.express is not None and read.acs is not None
    assert (read.vendor, read.device, read.class_code, read.secondary) == (0x10DE, 0x2330, 0x060400, 3)
    assert (read.express.kind, read.express.relaxed_ordering) == (PciKind.SWITCH_DOWNSTREAM, True)
    assert (read.express.max_payload_bytes, read.express.max_read_request_bytes) == (256, 4096)
    assert (read.express.speed_gts, read.express.width, read.express.max_speed_gts) == (32.0, 16, 32.0)
    assert (read.acs.source_validation, read.acs.request_redirect, read.acs.direct_translated) == (True, True, False)


def test_configuration_space_of_a_link_that_is_down() -> None:
    read = parse_config(make_config(DOWNSTREAM, secondary=3, status=0x0001))
    assert read is not None and read.express is not None
    assert (read.express.speed_gts, read.express.width, read.express.max_width) == (None, None, 16)


@pytest.mark.parametrize("data", [b"", b"\xff" * 256, b"\0" * 256, b"\xde\x10" * 20])
def test_what_is_no_header(data: bytes) -> None:
    assert parse_config(data) is None


def test_capabilities_that_loop_end() -> None:
    space = bytearray(make_config(0))
    space[0x40:0x42] = b"\x05\x48"  # MSI -> 0x48
    space[0x48:0x4A] = b"\x01\x40"  # power management -> back
    struct.pack_into("<I", space, 0x100, 0x0001 | 0x100 << 20)
    read = parse_config(bytes(space))
    assert read is not None
    assert (read.express, read.acs) == (None, None)


def machine(size: int) -> dict[str, str | bytes | Link]:
    """A root port, a switch with one port, an endpoint behind it, and a VMD with a port and a disk of its own domain."""
    host, vmd = "pci0000:15/0000:15:01.0", "pci0000:00/0000:00:0e.0"
    devices = {
        host: make_config(ROOT_PORT, secondary=0x16, acs=0x01),
        f"{host}/0000:16:00.0": make_config(UPSTREAM, secondary=0x17),
        f"{host}/0000:16:00.0/0000:17:01.0": make_config(DOWNSTREAM, secondary=0x19, acs=0x0C),
        f"{host}/0000:16:00.0/0000:17:01.0/0000:19:00.0": make_config(0),
        vmd: make_config(9),
        f"{vmd}/pci10000:00/10000:00:02.0": make_config(ROOT_PORT, secondary=1, acs=0),
        f"{vmd}/pci10000:00/10000:00:02.0/10000:01:00.0": make_config(0),
    }
    files: dict[str, str | bytes | Link] = {"/sys/kernel/iommu_groups/7/type": "DMA-FQ"}
    for path, space in devices.items():
        where = f"/sys/devices/{path}"
        port = space[0x0E] == 1
        files |= {
            f"/sys/bus/pci/devices/{path.rsplit('/', 1)[-1]}": Link(f"../../../devices/{path}"),
            f"{where}/config": space[:size],
            f"{where}/class": "0x060400" if port else "0x030200",
            f"{where}/vendor": "0x10de",
            f"{where}/device": "0x2330",
            f"{where}/numa_node": "-1" if "10000" in path else "1",
            f"{where}/local_cpulist": "4-7",
            f"{where}/resource": "0x0000000000000000 0x0000000000ffffff 0x0000000000040200\n0x10 0x1f 0x101",
        }
        if path != vmd:
            for name, text in (("speed", "32.0 GT/s PCIe"), ("width", "16")):
                files |= {f"{where}/current_link_{name}": text, f"{where}/max_link_{name}": text}
    gpu = f"/sys/devices/{host}/0000:16:00.0/0000:17:01.0/0000:19:00.0"
    files |= {f"{gpu}/driver": Link("../../drivers/nvidia"), f"{gpu}/iommu_group": Link("../../kernel/iommu_groups/7")}
    return files


PARENTS = {
    "0000:00:0e.0": None,
    "0000:15:01.0": None,
    "0000:16:00.0": "0000:15:01.0",
    "0000:17:01.0": "0000:16:00.0",
    "0000:19:00.0": "0000:17:01.0",
    "10000:00:02.0": "0000:00:0e.0",
    "10000:01:00.0": "10000:00:02.0",
}
KINDS = [
    PciKind.ENDPOINT,
    PciKind.ROOT_PORT,
    PciKind.SWITCH_UPSTREAM,
    PciKind.SWITCH_DOWNSTREAM,
    PciKind.ENDPOINT,
    PciKind.ROOT_PORT,
    PciKind.ENDPOINT,
]


def test_the_tree_with_all_privileges(tmp_path: Path) -> None:
    devices = read_pci(make_root(tmp_path, machine(4096)))
    assert {device.address: device.parent for device in devices} == PARENTS
    assert [device.kind for device in devices] == KINDS
    port, gpu, disk = devices[3], devices[4], devices[6]
    assert port.acs.value is not None
    assert (port.acs.value.request_redirect, port.acs.value.source_validation) == (True, False)
    assert (gpu.driver.value, gpu.numa_node.value, gpu.local_cpus) == ("nvidia", 1, (4, 5, 6, 7))
    assert (gpu.iommu_group.value, gpu.iommu_type.value) == (7, "DMA-FQ")
    assert gpu.bars_bytes == (16 << 20,)
    assert (gpu.link.max_speed_gts, gpu.link.port_max_speed_gts, gpu.link.port_max_width) == (32.0, 32.0, 16)
    assert disk.numa_node.unknown is Unknown.HIDDEN
    assert disk.driver.unknown is Unknown.ABSENT


def test_the_tree_without_privilege_says_what_is_denied(tmp_path: Path) -> None:
    devices = read_pci(make_root(tmp_path, machine(64)))
    assert {device.address: device.parent for device in devices} == PARENTS
    assert [device.kind for device in devices] == KINDS  # by their places
    assert {device.acs.unknown for device in devices} == {Unknown.DENIED}
    assert {device.max_read_request_bytes for device in devices} == {None}
    assert devices[4].link.speed_gts == 32.0


def test_a_platform_without_extended_space_hides_acs(tmp_path: Path) -> None:
    devices = read_pci(make_root(tmp_path, machine(256)))
    assert [device.acs.unknown for device in devices if device.kind is not PciKind.ENDPOINT] == [Unknown.HIDDEN] * 4


def test_links_that_were_made_directories_still_give_the_tree(tmp_path: Path) -> None:
    flat: dict[str, str | bytes | Link] = {}
    for where, content in machine(4096).items():
        if not isinstance(content, Link):
            directory, _, name = where.rpartition("/")
            flat[f"/sys/bus/pci/devices/{directory.rpartition('/')[2]}/{name}"] = content
    devices = read_pci(make_root(tmp_path, flat))
    assert {device.address: device.parent for device in devices} == PARENTS | {"10000:00:02.0": None}


def test_a_device_that_fell_off_the_bus_is_malformed(tmp_path: Path) -> None:
    files: dict[str, str | bytes | Link] = {
        "/sys/bus/pci/devices/0000:19:00.0/config": b"\xff" * 64,
        "/sys/bus/pci/devices/0000:19:00.0/vendor": "0x10de",
        "/sys/bus/pci/devices/0000:19:00.0/current_link_speed": "Unknown",
        "/sys/bus/pci/devices/0000:19:00.0/current_link_width": "63",
        "/sys/bus/pci/devices/0000:1a:00.0": Link("0000:1a:00.0"),  # a loop
        "/sys/bus/pci/devices/nonsense/vendor": "0x1",
    }
    gone, looped = read_pci(make_root(tmp_path, files))
    assert (gone.vendor, gone.acs.unknown, gone.link.speed_gts) == (0x10DE, Unknown.MALFORMED, None)
    assert (looped.vendor, looped.acs.unknown) == (0, Unknown.MALFORMED)


def test_parents_in_a_circle_are_cut() -> None:
    addresses = ["0000:01:00.0", "0000:02:00.0", "0000:03:00.0"]
    blank = [make_device(address, class_code=0x060400, source="test") for address in addresses]

    ring = [replace(device, parent=addresses[place - 1]) for place, device in enumerate(blank)]
    tree = finish_tree([*ring, ring[0], replace(blank[0], address="0000:04:00.0", parent="0000:99:00.0")])
    assert [device.address for device in tree] == [*addresses, "0000:04:00.0"]
    assert sum(device.parent is None for device in tree) == 2


@pytest.mark.parametrize(
    ("text", "address"),
    [("19:00.0", "0000:19:00.0"), ("00000000:00:09.0", "0000:00:09.0"), ("10000:E1:00.7", "10000:e1:00.7"), ("19:00", None)],
)
def test_addresses(text: str, address: str | None) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize(("text", "speed"), [("32.0 GT/s PCIe", 32.0), ("8 GT/s", 8.0), ("Unknown", None), (None, None)])
def test_speeds(text: str | None, speed: float | None) -> None:
    assert parse_speed(text) == speed


def test_resources() -> None:
    assert parse_resource("0x0 0x0 0x0\n0x1000 0x1fff 0x40200\nx y z\n0x2000 0x1fff 0x200\n") == (4096,)


LSPCI = """\
15:01.0 PCI bridge: Intel Corporation Device 352a (rev 04) (prog-if 00 [Normal decode])
\tNUMA node: 0
\tIOMMU group: 12
\tBus: primary=15, secondary=16, subordinate=1c, sec-latency=0
\tCapabilities: [40] Express (v2) Root Port (Slot+), MSI 00
\t\tDevCap:\tMaxPayload 512 bytes, PhantFunc 0
\t\tDevCtl:\tCorrErr- NonFatalErr-
\t\t\tRlxdOrd- ExtTag+ PhantFunc-
\t\t\tMaxPayload 256 bytes, MaxReadReq 512 bytes
\t\tLnkCap:\tPort #1, Speed 32GT/s, Width x16, ASPM not supported
\t\tLnkSta:\tSpeed 16GT/s (downgraded), Width x8 (downgraded)
\tCapabilities: [148 v1] Access Control Services
\t\tACSCap:\tSrcValid+ TransBlk+ ReqRedir+ CmpltRedir+ UpstreamFwd+ EgressCtrl- DirectTrans-
\t\tACSCtl:\tSrcValid+ TransBlk- ReqRedir+ CmpltRedir- UpstreamFwd- EgressCtrl- DirectTrans-
\tKernel driver in use: pcieport

16:00.0 3D controller [0302]: NVIDIA Corporation GH100 [H100 SXM5 80GB] [10de:2330] (rev a1)
\tRegion 0: Memory at 214042000000 (64-bit, prefetchable) [size=16M]
\tRegion 2: Memory at 210000000000 (64-bit, prefetchable) [size=128G]
\tCapabilities: <access denied>
"""


def test_lspci() -> None:
    port, gpu = parse_lspci(LSPCI)
    assert (port.kind, port.class_code, port.vendor, port.device) == (PciKind.ROOT_PORT, 0x060400, 0x8086, 0x352A)
    assert (port.link.speed_gts, port.link.width, port.link.max_speed_gts, port.link.max_width) == (16.0, 8, 32.0, 16)
    assert (port.max_payload_bytes, port.max_read_request_bytes, port.relaxed_ordering) == (256, 512, False)
    assert (port.iommu_group.value, port.numa_node.value, port.driver.value) == (12, 0, "pcieport")
    assert port.acs.value is not None and port.acs.value.request_redirect and not port.acs.value.completion_redirect
    assert (gpu.parent, gpu.vendor, gpu.device, gpu.class_code) == ("0000:15:01.0", 0x10DE, 0x2330, 0x030200)
    assert gpu.name == "NVIDIA Corporation GH100 [H100 SXM5 80GB]"
    assert gpu.bars_bytes == (16 << 20, 128 << 30)
    assert gpu.acs.unknown is Unknown.DENIED
    assert gpu.numa_node.unknown is Unknown.HIDDEN  # the listing has nodes, and none for this device
    assert gpu.driver.unknown is Unknown.ABSENT
    assert (gpu.link.port_max_speed_gts, gpu.link.port_max_width) == (32.0, 16)


def test_lspci_in_numbers() -> None:
    (device,) = parse_lspci("0000:19:00.0 0302: 10de:2330 (rev a1)\n")
    assert (device.vendor, device.device, device.class_code, device.acs.unknown) == (
        *(0x10DE, 0x2330, 0x030200),
        Unknown.NOT_RECORDED,
    )


@pytest.mark.parametrize("text", ["", "hello\n", "19:00.0\n", "\0\0\0"])
def test_what_is_no_listing_is_refused(text: str) -> None:
    with pytest.raises(ReadError):
        parse_lspci(text)


REGISTER = (
    b"# comment\n1002  Advanced Micro Devices\n\t74a1  MI300X\n"
    b"10de  NVIDIA Corporation\n\t2330  GH100\n\t\t10de 16c1  x\n8086  Intel\n"
)


def test_names_of_devices() -> None:
    wanted = {(0x10DE, 0x2330), (0x10DE, 0x9999), (0x1002, 0x74A1), (0x1234, 0x1111)}
    names = {
        (0x10DE, 0x2330): "NVIDIA Corporation GH100",
        (0x10DE, 0x9999): "NVIDIA Corporation 9999",
        (0x1002, 0x74A1): "Advanced Micro Devices MI300X",
    }
    assert find_names(REGISTER, wanted) == names
    assert find_names(excerpt(REGISTER, wanted), wanted) == names
