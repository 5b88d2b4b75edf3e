"""Intel's data centre GPUs from `xpu-smi discovery`: names, places, and devices that wait for their firmware."""

from __future__ import annotations

import re
from dataclasses import replace

from bedplate.errors import ReadError
from bedplate.host.accel.blank import make_accelerator
from bedplate.host.accel.intel import VENDOR
from bedplate.host.formats.section import Section
from bedplate.host.formats.unrecorded import empty_facts
from bedplate.host.kernel.pcitree import finish_tree, make_device, parse_address
from bedplate.model.facts.host import HostFacts
from bedplate.model.facts.pci import Accelerator
from bedplate.model.facts.reading import Unknown, known

SOURCE = "xpu-smi discovery"
BEGINS = re.compile(r"[|\s]{0,4}Device ID[|\s]{1,12}Device Information")
CONTINUES = re.compile(r"[|+]|\s{0,4}\d{1,3}\s{2,20}\S|\s{4,40}[A-Z][\w /()-]{1,40}:")
_LINE = re.compile(r"(?:(\d{1,3}) {1,20})?([A-Z][\w /()-]{1,40}): {0,4}(\S.{0,120})", re.ASCII)
_DEVICES_MOST = 256


def parse_xpu_smi(section: Section) -> HostFacts:
    """GPUs with name, place and state; `failure` is a state in which they cannot compute. Raises ReadError without any."""
    rows: dict[int, dict[str, str]] = {}
    here: int | None = None
    for line in section.text.split("\n"):
        match = _LINE.fullmatch(line.replace("|", " ").strip())
        if match is None:
            continue
        if match[1] is not None:
            here = int(match[1])
        if here is not None and len(rows) <= _DEVICES_MOST:
            rows.setdefault(here, {})[match[2]] = match[3].strip()
    if not rows:
        raise ReadError("the text of xpu-smi discovery has no device")
    accelerators = tuple(_accelerator(index, values) for index, values in sorted(rows.items()))
    devices = finish_tree(
        replace(make_device(accelerator.address, class_code=0x038000, source=SOURCE), vendor=VENDOR, name=accelerator.name)
        for accelerator in accelerators
        if accelerator.address is not None
    )
    return replace(empty_facts(section.file), accelerators=accelerators, pci=devices)


def _accelerator(index: int, values: dict[str, str]) -> Accelerator:
    source = f"{SOURCE}: device {index}"
    blank = make_accelerator(
        vendor="intel",
        index=index,
        name=values.get("Device Name", ""),
        address=parse_address(values.get("PCI BDF Address", "")),
        why=Unknown.NOT_RECORDED,
        source=source,
    )
    state = values.get("Device State", "")
    asks = values.get("Recovery Action", "")
    return replace(
        blank,
        uuid=values.get("UUID", ""),
        failure=known(state, f"{source}: Device State") if "survivability" in state.lower() else blank.failure,
        recovery_action=known(asks, f"{source}: Recovery Action") if asks else blank.recovery_action,
    )
