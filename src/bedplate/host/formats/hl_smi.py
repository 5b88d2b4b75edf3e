"""Gaudi accelerators of Habana from the table of `hl-smi`, which has the form of NVIDIA's."""

from __future__ import annotations

import re
from dataclasses import replace

from bedplate.errors import ReadError
from bedplate.host.accel.blank import make_accelerator
from bedplate.host.formats.section import Section
from bedplate.host.formats.unrecorded import empty_facts
from bedplate.host.kernel.pcitree import finish_tree, make_device, parse_address
from bedplate.model.facts.host import HostFacts
from bedplate.model.facts.pci import Accelerator
from bedplate.model.facts.reading import Unknown, known, missing

SOURCE = "hl-smi"
VENDOR = 0x1DA3
BEGINS = re.compile(r"\| HL-SMI Version:")
CONTINUES = re.compile(r"[|+]")
_SOFTWARE = re.compile(r"HL-SMI Version:\s{1,60}hl-(\d{1,3}\.\d{1,3}\.\d{1,3})", re.ASCII)
_DRIVER = re.compile(r"Driver Version:\s{1,60}(\d{1,3}\.\d{1,3}\.\d{1,3}\S{0,40})", re.ASCII)
_NAME = re.compile(r"\s{0,4}(\d{1,3})  (\S.{0,40}?)\s{1,40}(?:N/A|On|Off)\s{0,8}", re.ASCII)
_BUS = re.compile(r"\s{0,6}([0-9A-Fa-f]{4}:[0-9A-Fa-f]{2}:[0-9A-Fa-f]{2}\.[0-7])\s{1,8}\S{1,8}\s{0,6}", re.ASCII)
_MEMORY = re.compile(r"(\d{1,9})\s{0,2}MiB /\s{1,6}(\d{1,9})\s{0,2}MiB", re.ASCII)
_FAMILIES = (("HL-2", "Gaudi 2"), ("HL-3", "Gaudi 3"), ("HL-1", "Gaudi"), ("HL-225", "Gaudi 2"), ("HL-325", "Gaudi 3"))
_DEVICES_MOST = 256


def parse_hl_smi(section: Section) -> HostFacts:
    """Accelerators with place and memory; library_version is that of the software. Raises ReadError without any."""
    software, driver = _SOFTWARE.search(section.text), _DRIVER.search(section.text)
    found: list[Accelerator] = []
    for line in section.text.split("\n"):
        cells = line.strip().strip("|").split("|")
        name = _NAME.fullmatch(cells[0])
        bus = _BUS.fullmatch(cells[1]) if len(cells) > 1 else None
        if name is not None and bus is not None and len(found) < _DEVICES_MOST:
            family = next((family for prefix, family in _FAMILIES if name[2].startswith(prefix)), "")
            blank = make_accelerator(
                vendor=f"{VENDOR:04x}",
                index=int(name[1]),
                name=f"Habana {name[2]}{f' ({family})' if family else ''}",
                address=parse_address(bus[1]),
                why=Unknown.NOT_RECORDED,
                source=SOURCE,
            )
            found.append(
                replace(
                    blank,
                    driver_version=known(driver[1], f"{SOURCE}: Driver Version")
                    if driver is not None
                    else missing(Unknown.NOT_RECORDED, SOURCE),
                    library_version=known(software[1], f"{SOURCE}: HL-SMI Version")
                    if software is not None
                    else missing(Unknown.NOT_RECORDED, SOURCE),
                )
            )
        elif found and len(cells) > 1 and (memory := _MEMORY.search(cells[1])) is not None:
            found[-1] = replace(found[-1], memory_bytes=known(int(memory[2]) << 20, f"{SOURCE}: Memory-Usage", memory[0]))
    if not found:
        raise ReadError("the table of hl-smi has no accelerator")
    devices = finish_tree(
        replace(make_device(accelerator.address, class_code=0x120000, source=SOURCE), vendor=VENDOR, name=accelerator.name)
        for accelerator in found
        if accelerator.address is not None
    )
    return replace(empty_facts(section.file), accelerators=tuple(found), pci=devices)
