"""AMD accelerators from the files of amdgpu and of the kernel fusion driver (KFD).

Sources: Documentation/gpu/amdgpu (driver-misc, thermal, ras, xgmi), /sys/class/kfd/kfd/topology (kfd_topology.c).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

from bedplate.host.accel.blank import make_accelerator
from bedplate.host.kernel.attributes import parse_int, read_int
from bedplate.host.kernel.pcitree import parse_address
from bedplate.host.root.root import Root
from bedplate.model.facts.pci import Accelerator, PciDevice
from bedplate.model.facts.reading import Reading, Unknown, known, missing

VENDOR = 0x1002
KFD = "/sys/class/kfd/kfd"
_CLOCK = re.compile(r"^\s{0,4}\w{1,3}: (\d{1,6})M[Hh]z( \*)?\s*$", re.ASCII | re.MULTILINE)
_XGMI = 11  # CRAT_IOLINK_TYPE_XGMI
_NODES_MOST = 512
T = TypeVar("T")


def read_amd(root: Root, pci: Sequence[PciDevice]) -> tuple[Accelerator, ...]:
    """AMD accelerators by PCI address, with what amdgpu says; without the driver their facts are unknown."""
    nodes = _read_nodes(root) if pci else {}
    index = {device.address: place for place, device in enumerate(pci)}
    return tuple(_read_one(root, device, index, nodes) for device in pci)


def _read_one(root: Root, device: PciDevice, index: dict[str, int], nodes: dict[str, _Node]) -> Accelerator:
    where = f"/sys/bus/pci/devices/{device.address}"
    blank = make_accelerator(
        vendor="amd",
        index=index[device.address],
        name=root.read(f"{where}/product_name").value or device.name,
        address=device.address,
        why=root.absent,
        source=where,
        text=f"the driver is {device.driver.value or 'none'}" if device.driver.value != "amdgpu" else "",
    )
    if device.driver.value != "amdgpu":
        return blank
    monitor = _monitor(root, where)
    now, most = _clocks(root, f"{where}/pp_dpm_sclk")
    node = nodes.get(device.address)
    errors = _uncorrected(root, f"{where}/ras/umc_err_count")
    return replace(
        blank,
        uuid=root.read(f"{where}/unique_id").value or "",
        memory_bytes=read_int(root, f"{where}/mem_info_vram_total"),
        driver_version=root.read("/sys/module/amdgpu/version"),
        ecc=known(True, errors.source)
        if errors.value is not None
        else missing(errors.unknown or root.absent, errors.source),
        ecc_uncorrected=errors,
        power_limit_w=_scaled(read_int(root, f"{monitor}/power1_cap"), 1e6),
        power_default_w=_scaled(read_int(root, f"{monitor}/power1_cap_default"), 1e6),
        power_draw_w=_scaled(_first_int(root, f"{monitor}/power1_average", f"{monitor}/power1_input"), 1e6),
        sm_clock_mhz=now,
        max_sm_clock_mhz=most,
        utilization_pct=_scaled(read_int(root, f"{where}/gpu_busy_percent"), 1),
        temperature_c=_scaled(read_int(root, f"{monitor}/temp1_input"), 1e3),
        processes=_processes(root, node) if node is not None else (),
        peers=tuple(
            sorted((index[peer], "XGMI") for peer, other in nodes.items() if peer in index and other.number in node.xgmi)
        )
        if node is not None
        else (),
    )


class _Node:
    """A node of KFD's topology: a GPU, its id, and the nodes that it reaches by xGMI."""

    __slots__ = ("gpu_id", "number", "xgmi")

    def __init__(self, number: int, gpu_id: int, xgmi: frozenset[int]) -> None:
        self.number, self.gpu_id, self.xgmi = number, gpu_id, xgmi


def _read_nodes(root: Root) -> dict[str, _Node]:
    nodes: dict[str, _Node] = {}
    top = f"{KFD}/topology/nodes"
    for name in root.listdir(top)[:_NODES_MOST]:
        number, gpu_id = parse_int(name), parse_int(root.read(f"{top}/{name}/gpu_id").value or "")
        facts = _properties(root, f"{top}/{name}/properties")
        if number is None or not gpu_id or "location_id" not in facts:
            continue
        place = facts["location_id"]
        address = parse_address(
            f"{facts.get('domain', 0) & 0xFFFFFFFF:04x}:{place >> 8 & 0xFF:02x}:{place >> 3 & 0x1F:02x}.{place & 7}"
        )
        links = f"{top}/{name}/io_links"
        reached = [_properties(root, f"{links}/{name}/properties") for name in root.listdir(links)]
        xgmi = frozenset(link["node_to"] for link in reached if link.get("type") == _XGMI and "node_to" in link)
        if address is not None:
            nodes[address] = _Node(number, gpu_id, xgmi)
    return nodes


def _properties(root: Root, where: str) -> dict[str, int]:
    facts: dict[str, int] = {}
    for line in (root.read(where).value or "").splitlines():
        key, _, value = line.partition(" ")
        number = parse_int(value)
        if number is not None:
            facts[key] = number
    return facts


def _processes(root: Root, node: _Node) -> tuple[tuple[int, str, int], ...]:
    found: list[tuple[int, str, int]] = []
    for name in root.listdir(f"{KFD}/proc"):
        pid = parse_int(name)
        used = parse_int(root.read(f"{KFD}/proc/{name}/vram_{node.gpu_id}").value or "")
        if pid is not None and used:
            found.append((pid, root.read(f"/proc/{pid}/comm").value or "", used))
    return tuple(sorted(found))


def _monitor(root: Root, where: str) -> str:
    """The hwmon directory of a device; a name that is not there when it has none."""
    return f"{where}/hwmon/{next(iter(root.listdir(f'{where}/hwmon')), 'none')}"


def _clocks(root: Root, where: str) -> tuple[Reading[int], Reading[int]]:
    """(now, most) in MHz of a pp_dpm file: lines "0: 500Mhz" and "1: 2100Mhz *", the star is what runs."""
    reading = root.read(where)
    if reading.value is None:
        return missing(reading.unknown or root.absent, where), missing(reading.unknown or root.absent, where)
    levels = [(int(clock), bool(star)) for clock, star in _CLOCK.findall(reading.value)]
    if not levels:
        bad: Reading[int] = missing(Unknown.MALFORMED, where, reading.text)
        return bad, bad
    now = next((clock for clock, star in levels if star), None)
    most = known(max(clock for clock, _ in levels), where)
    return (known(now, where) if now is not None else missing(Unknown.ABSENT, where, reading.text)), most


def _uncorrected(root: Root, where: str) -> Reading[int]:
    """The "ue: 0" of a RAS counter."""
    reading = root.read(where)
    for line in (reading.value or "").splitlines():
        if line.startswith("ue:") and (count := parse_int(line[3:])) is not None:
            return known(count, where, line)
    return missing(reading.unknown or Unknown.MALFORMED, where, reading.text)


def _first_int(root: Root, first: str, second: str) -> Reading[int]:
    reading = read_int(root, first)
    return reading if reading.value is not None else read_int(root, second)


def _scaled(reading: Reading[int], divisor: float) -> Reading[float]:
    if reading.value is None:
        return missing(reading.unknown or Unknown.ABSENT, reading.source, reading.text)
    return known(reading.value / divisor, reading.source)
