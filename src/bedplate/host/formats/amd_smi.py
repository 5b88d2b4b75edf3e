"""AMD accelerators as `amd-smi` prints them (static, list, metric: JSON or text) and as the table of `rocm-smi` shows them.

The text has the tree of the JSON with upper-case titles and two blanks a level. A card that is partitioned appears as
several devices, whose addresses differ in the function only (AMD SMI documentation, "Memory and compute partitions").
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from bedplate.errors import ReadError
from bedplate.host.accel.amd import VENDOR
from bedplate.host.accel.blank import make_accelerator
from bedplate.host.formats.section import Section
from bedplate.host.formats.unrecorded import empty_facts
from bedplate.host.kernel.attributes import parse_int
from bedplate.host.kernel.pcitree import finish_tree, make_device, parse_address
from bedplate.host.root.jsontext import parse_json
from bedplate.model.facts.host import HostFacts
from bedplate.model.facts.pci import Accelerator, PciDevice
from bedplate.model.facts.reading import Reading, Unknown, known, missing

SOURCE, TABLE = "amd-smi", "rocm-smi"
TEXT_BEGINS = re.compile(r"GPU: \d{1,3}\s{0,4}$")
TEXT_CONTINUES = re.compile(r"GPU: \d|\s{2,40}[A-Z][A-Z0-9_ ]{1,40}:")
TABLE_BEGINS = re.compile(r"(?:Device|GPU) {2}(?:Node|Temp|\[Model)")
TABLE_CONTINUES = re.compile(r"\d{1,3} {1,12}\S|(?:Device|GPU) {1,8}\S|\s{8,40}\(|=+|WARNING: ")
_LINE = re.compile(r"(\s{0,40})([A-Z][A-Z0-9_ ]{0,40}):\s{0,8}(\S?.{0,200})")
_ROW = re.compile(r"(\d{1,3}) {1,12}(.{1,200})", re.ASCII)
_DEVICE_NUMBER = re.compile(r"0x([0-9a-f]{4})", re.ASCII)
_PARTITIONS = re.compile(r"(NPS\d), {0,4}([SDTQC]PX), {0,4}(\d{1,3})", re.ASCII)
_WATTS = re.compile(r"(\d{1,5}(?:\.\d)?)W", re.ASCII)
_DEGREES = re.compile(r"(\d{1,3}(?:\.\d)?)°?C", re.ASCII)
_SIZE = re.compile(r"(\d{1,9}) ?(MB|GB|MiB|GiB)?", re.ASCII)
_UNITS = {"MB": 1 << 20, "MiB": 1 << 20, "GB": 1 << 30, "GiB": 1 << 30}
_SPLIT = ("SPX", "DPX", "TPX", "QPX", "CPX")
_DEVICES_MOST = 1024
_DEEPEST = 8


def parse_amd_smi_json(section: Section) -> HostFacts:
    """GPUs of a list at the top, or below "gpu_data" (amd-smi 26). Raises ReadError for another document."""
    document = parse_json(section.text, "the text")
    rows = document.get("gpu_data") if isinstance(document, dict) else document
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows) or not rows:
        raise ReadError("the JSON is not a list of GPUs as `amd-smi static --json` prints it")
    return _facts(section, [dict(_flatten(row)) for row in rows[:_DEVICES_MOST]])


def parse_amd_smi_text(section: Section) -> HostFacts:
    """The same of the text. Raises ReadError without a GPU."""
    rows: list[dict[str, str]] = []
    titles: list[tuple[int, str]] = []
    for line in section.text.split("\n"):
        match = _LINE.fullmatch(line.rstrip())
        if match is None:
            continue
        indent, title, value = len(match[1]), match[2].strip().lower(), match[3].strip()
        if indent == 0 and title == "gpu":
            rows.append({"gpu": value})
            titles = []
            continue
        while titles and titles[-1][0] >= indent:
            titles.pop()
        titles.append((indent, title))
        if value and rows and len(titles) <= _DEEPEST and len(rows) <= _DEVICES_MOST:
            rows[-1].setdefault("/".join(name for _, name in titles), value)
    if not rows:
        raise ReadError("the text has no GPU as `amd-smi static` prints it")
    return _facts(section, rows)


def _flatten(value: dict[str, Any], above: str = "", depth: int = 0) -> Iterator[tuple[str, str]]:
    """("asic/device_id", "0x74a1"): an amount is its value and its unit in one text."""
    for key, inner in value.items():
        path = f"{above}{key}"
        if isinstance(inner, dict) and {"value", "unit"} <= inner.keys():
            yield path, f"{inner['value']} {inner['unit']}"
        elif isinstance(inner, dict) and depth < _DEEPEST:
            yield from _flatten(inner, f"{path}/", depth + 1)
        elif isinstance(inner, str | int | float):
            yield path, str(inner)[:200]


def _facts(section: Section, rows: list[dict[str, str]]) -> HostFacts:
    accelerators: list[Accelerator] = []
    devices: list[PciDevice] = []
    for place, row in enumerate(rows):
        index = parse_int(row.get("gpu", "")) if row.get("gpu", "").isdecimal() else place
        address = parse_address(row.get("bus/bdf") or row.get("bdf") or "")
        name = row.get("asic/market_name", "")
        accelerators.append(_accelerator(place if index is None else index, address, name, row))
        if address is not None:
            devices.append(_device(address, name, row))
    if not any(len(row) > 1 for row in rows):
        raise ReadError("the GPUs of amd-smi have no values")
    return replace(empty_facts(section.file), pci=finish_tree(devices), accelerators=tuple(accelerators))


def _accelerator(index: int, address: str | None, name: str, row: dict[str, str]) -> Accelerator:
    source = f"{SOURCE} gpu {index}"
    blank = make_accelerator(vendor="amd", index=index, name=name, address=address, why=Unknown.NOT_RECORDED, source=source)
    node = parse_int(row.get("numa/node", ""))
    return replace(
        blank,
        uuid=row.get("uuid", ""),
        memory_bytes=_size(row.get("vram/size"), f"{source}: vram/size"),
        driver_version=_text(row, source, "driver/version", "driver_version"),
        power_limit_w=_amount(row.get("limit/socket_power") or row.get("limit/max_power"), f"{source}: limit"),
        numa_node=known(node, f"{source}: numa/node")
        if node is not None and node >= 0
        else missing(Unknown.HIDDEN if node is not None else Unknown.NOT_RECORDED, f"{source}: numa/node"),
        compute_partition=_text(row, source, "partition/compute_partition", "partition/accelerator_partition"),
        memory_partition=_text(row, source, "partition/memory_partition"),
    )


def _device(address: str, name: str, row: dict[str, str]) -> PciDevice:
    source = SOURCE
    device = make_device(address, class_code=0x120000, source=source)
    node = parse_int(row.get("numa/node", ""))
    speed = _SIZE.match(row.get("bus/max_pcie_speed", ""))
    width = parse_int(row.get("bus/max_pcie_width", ""))
    return replace(
        device,
        vendor=VENDOR,
        device=parse_int(row.get("asic/device_id", "")) or 0,
        name=name,
        numa_node=known(node, f"{source}: numa/node") if node is not None and node >= 0 else device.numa_node,
        link=replace(device.link, max_speed_gts=float(speed[1]) if speed is not None else None, max_width=width or None),
    )


def _text(row: dict[str, str], source: str, *paths: str) -> Reading[str]:
    for path in paths:
        value = row.get(path)
        if value is not None:
            return (
                missing(Unknown.ABSENT, f"{source}: {path}", value)
                if value in ("N/A", "")
                else known(value, f"{source}: {path}")
            )
    return missing(Unknown.NOT_RECORDED, f"{source}: {paths[0]}")


def _size(text: str | None, source: str) -> Reading[int]:
    match = _SIZE.fullmatch(text or "")
    if match is None:
        return missing(Unknown.NOT_RECORDED if text is None else Unknown.ABSENT, source, text or "")
    return known(int(match[1]) * _UNITS[match[2] or "MB"], source, text or "")


def _amount(text: str | None, source: str) -> Reading[float]:
    match = _SIZE.match(text or "")
    return missing(Unknown.NOT_RECORDED, source) if match is None else known(float(match[1]), source, text or "")


def parse_rocm_table(section: Section) -> HostFacts:
    """GPUs of rocm-smi's concise table: device number, partitions, power limit. Raises ReadError without a row.

    The table has no PCI address; the devices of a partitioned card cannot be told from several cards by it.
    """
    found: list[Accelerator] = []
    for line in section.text.split("\n"):
        match = _ROW.fullmatch(line.strip())
        number = _DEVICE_NUMBER.search(match[2]) if match is not None else None
        watts = _WATTS.findall(match[2]) if match is not None else []
        if match is None or (number is None and not watts) or len(found) >= _DEVICES_MOST:
            continue
        index, source = int(match[1]), f"{TABLE} {match[1]}"
        partitions, heat = _PARTITIONS.search(match[2]), _DEGREES.search(match[2])
        blank = make_accelerator(
            vendor="amd",
            index=index,
            name=f"Device {number[1]}" if number is not None else "",
            address=None,
            why=Unknown.NOT_RECORDED,
            source=source,
        )
        found.append(
            replace(
                blank,
                compute_partition=known(partitions[2], f"{source}: Partitions", partitions[0])
                if partitions
                else blank.compute_partition,
                memory_partition=known(partitions[1], f"{source}: Partitions", partitions[0])
                if partitions
                else blank.memory_partition,
                power_limit_w=known(float(watts[-1]), f"{source}: PwrCap") if watts else blank.power_limit_w,
                temperature_c=known(float(heat[1]), f"{source}: Temp") if heat is not None else blank.temperature_c,
            )
        )
    if not found:
        raise ReadError("the table of rocm-smi has no device")
    return replace(empty_facts(section.file), accelerators=tuple(found))
