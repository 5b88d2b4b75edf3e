"""AMD accelerators from the table that `amd-smi` prints without options (ROCm 7): two lines a device between bars.

A name that is too long begins with "...". The second device of a partitioned card has N/A in most of its cells.
"""

from __future__ import annotations

import re
from dataclasses import replace

from bedplate.errors import ReadError
from bedplate.host.accel.amd import VENDOR
from bedplate.host.accel.blank import make_accelerator
from bedplate.host.formats.section import Section
from bedplate.host.formats.unrecorded import empty_facts
from bedplate.host.kernel.pcitree import finish_tree, make_device, parse_address
from bedplate.model.facts.host import HostFacts
from bedplate.model.facts.pci import Accelerator
from bedplate.model.facts.reading import Unknown, known

SOURCE = "amd-smi"
BEGINS = re.compile(r"\| AMD-SMI \d")
CONTINUES = re.compile(r"[|+]")
_DRIVER = re.compile(r"amdgpu version: (\d\S{0,30})", re.ASCII)
_PLATFORM = re.compile(r"Platform: Linux (Baremetal|Guest|Host)", re.ASCII)
_FIRST = re.compile(r" {0,2}([0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]) {1,12}(\S.{0,60}?) {0,8}", re.ASCII)
_SECOND = re.compile(r" {0,6}(\d{1,3}) {1,12}(?:\d{1,3}|N/A) {1,12}(?:\d{1,3}|N/A) {1,16}(\S{1,20}) {0,4}", re.ASCII)
_PARTITION = re.compile(r"([SDTQC]PX)/(NPS\d)", re.ASCII)
_STATE = re.compile(
    r" {0,2}(?:\d{1,3} %|N/A) {1,12}(?:(\d{1,3}) .{0,2}C|N/A) {1,8}(\d{1,9}|N/A) {1,24}"
    r"(?:(?:\d{1,5}|N/A)/(\d{1,5}) W|N/A) {0,4}"
)
_MEMORY = re.compile(r"\d{1,9}/(\d{1,9}) MB", re.ASCII)
_DEVICES_MOST = 1024


def parse_amd_table(section: Section) -> HostFacts:
    """Devices with place, memory, power limit, partitions and uncorrectable errors. Raises ReadError without any.

    "Platform: Linux Guest" is said in a virtual machine.
    """
    driver, platform = _DRIVER.search(section.text), _PLATFORM.search(section.text)
    found: list[Accelerator] = []
    for line in section.text.split("\n"):
        cells = line.strip().strip("|").split("|")
        first = _FIRST.fullmatch(cells[0])
        if first is not None and len(cells) == 2 and len(found) < _DEVICES_MOST:
            found.append(_begin(len(found), first, cells[1]))
        elif found and len(cells) == 2 and (second := _SECOND.fullmatch(cells[0])) is not None:
            found[-1] = _complete(found[-1], second, cells[1])
    if not found:
        raise ReadError("the table of amd-smi has no device")
    if driver is not None:
        version = known(driver[1], f"{SOURCE}: amdgpu version")
        found = [replace(accelerator, driver_version=version) for accelerator in found]
    devices = finish_tree(
        replace(make_device(accelerator.address, class_code=0x120000, source=SOURCE), vendor=VENDOR, name=accelerator.name)
        for accelerator in found
        if accelerator.address is not None
    )
    facts = empty_facts(section.file)
    system = facts.os
    if platform is not None and platform[1] != "Host":
        word = "none" if platform[1] == "Baremetal" else "virtual machine"
        system = replace(system, virtualisation=known(word, f"{SOURCE}: Platform", platform[0]))
    return replace(facts, accelerators=tuple(found), pci=devices, os=system)


def _begin(index: int, first: re.Match[str], cell: str) -> Accelerator:
    blank = make_accelerator(
        vendor="amd",
        index=index,
        name=first[2],
        address=parse_address(first[1]),
        why=Unknown.NOT_RECORDED,
        source=SOURCE,
    )
    state = _STATE.fullmatch(cell)
    if state is None:
        return blank
    return replace(
        blank,
        temperature_c=known(float(state[1]), f"{SOURCE}: Temp") if state[1] else blank.temperature_c,
        ecc_uncorrected=known(int(state[2]), f"{SOURCE}: UEC") if state[2].isdecimal() else blank.ecc_uncorrected,
        power_limit_w=known(float(state[3]), f"{SOURCE}: Power-Usage") if state[3] else blank.power_limit_w,
    )


def _complete(accelerator: Accelerator, second: re.Match[str], cell: str) -> Accelerator:
    partition, memory = _PARTITION.fullmatch(second[2]), _MEMORY.search(cell)
    changed = replace(accelerator, index=int(second[1]))
    if partition is not None:
        where = f"{SOURCE}: Partition-Mode"
        changed = replace(
            changed,
            compute_partition=known(partition[1], where, partition[0]),
            memory_partition=known(partition[2], where, partition[0]),
        )
    if memory is not None:
        changed = replace(changed, memory_bytes=known(int(memory[1]) << 20, f"{SOURCE}: Mem-Usage", memory[0]))
    return changed
