"""NVIDIA accelerators from `nvidia-smi --query-gpu=... --format=csv`: the heading names the columns.

Without a heading (noheader) nothing says what a number means, and it is not read.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from bedplate.errors import ReadError
from bedplate.host.accel.blank import make_accelerator
from bedplate.host.accel.nvidia import VENDOR
from bedplate.host.formats.nvidia_smi import ERRORS
from bedplate.host.formats.section import Section
from bedplate.host.formats.smi_values import parse_smi_number, parse_smi_switch
from bedplate.host.formats.unrecorded import empty_facts
from bedplate.host.kernel.attributes import parse_int
from bedplate.host.kernel.pcitree import NO_LINK, finish_tree, make_device, parse_address
from bedplate.model.facts.host import HostFacts
from bedplate.model.facts.pci import Accelerator, Link
from bedplate.model.facts.reading import Unknown, known, missing

SOURCE = "nvidia-smi --query-gpu"
BEGINS = re.compile(
    r"(?:index|name|uuid|pci\.bus_id|driver_version|timestamp|gpu_name|memory\.total|persistence_mode)(?: \[[\w%]{1,6}\])?, "
    r"[a-z_.]{3,60}(?: \[[\w%]{1,6}\])?(?:,|$)"
)
CONTINUES = re.compile(r"[^,\n]{1,80}, ")
_ALIASES = {"gpu_name": "name", "gpu_uuid": "uuid", "gpu_bus_id": "pci.bus_id"}
"""Columns of the queries of processes and of retired pages, by their names in --query-gpu."""
_UNIT = re.compile(r" \[[\w%]{1,6}\]")
_DEVICES_MOST = 256


def _mebibytes(text: str) -> int:
    return round(parse_smi_number(text)) << 20


_FIELDS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "memory.total": ("memory_bytes", _mebibytes),
    "driver_version": ("driver_version", str),
    "persistence_mode": ("persistence", parse_smi_switch),
    "ecc.mode.current": ("ecc", parse_smi_switch),
    "ecc.errors.uncorrected.volatile.total": ("ecc_uncorrected", lambda text: round(parse_smi_number(text))),
    "mig.mode.current": ("mig", parse_smi_switch),
    "mig.mode.pending": ("mig_pending", parse_smi_switch),
    "power.limit": ("power_limit_w", parse_smi_number),
    "enforced.power.limit": ("power_limit_w", parse_smi_number),
    "power.default_limit": ("power_default_w", parse_smi_number),
    "power.draw": ("power_draw_w", parse_smi_number),
    "clocks.sm": ("sm_clock_mhz", lambda text: round(parse_smi_number(text))),
    "clocks.current.sm": ("sm_clock_mhz", lambda text: round(parse_smi_number(text))),
    "clocks.max.sm": ("max_sm_clock_mhz", lambda text: round(parse_smi_number(text))),
    "utilization.gpu": ("utilization_pct", parse_smi_number),
    "temperature.gpu": ("temperature_c", parse_smi_number),
    "compute_mode": ("compute_mode", str),
}


def parse_smi_csv(section: Section) -> HostFacts:
    """A GPU for each line below the heading; the last line of a GPU that is sampled counts. Raises ReadError without any."""
    first, *rest = [line for line in section.text.split("\n") if line.strip()]
    titles = [_UNIT.sub("", column.strip()) for column in first.split(",")]
    columns = [_ALIASES.get(title, title) for title in titles]
    if len(rest) > 1 and not {"index", "uuid", "pci.bus_id"} & set(columns):
        raise ReadError("the query of nvidia-smi has no column that tells GPUs apart: index, uuid or pci.bus_id")
    found: dict[str, Accelerator] = {}
    links: dict[str, Link] = {}
    for line in rest:
        cells = [cell.strip() for cell in line.split(",")]
        if len(cells) != len(columns):
            continue
        row = dict(zip(columns, cells, strict=True))
        key = row.get("index") or row.get("uuid") or row.get("pci.bus_id") or "0"
        if len(found) < _DEVICES_MOST:
            found[key] = _accelerator(row, len(found) if key not in found else found[key].index)
            links[found[key].address or ""] = _link(row)
    if not found:
        raise ReadError("the query of nvidia-smi has a heading and no line of values that fits it")
    devices = finish_tree(
        replace(
            make_device(accelerator.address, class_code=0x030200, source=SOURCE),
            vendor=VENDOR,
            name=accelerator.name,
            link=links[accelerator.address],
        )
        for accelerator in found.values()
        if accelerator.address is not None
    )
    return replace(empty_facts(section.file), accelerators=tuple(found.values()), pci=devices)


def _link(row: dict[str, str]) -> Link:
    """The width of the link alone: an idle card lowers its speed, and a query seldom asks whether it is idle."""
    width, most = (parse_int(row.get(f"pcie.link.width.{column}", "")) or None for column in ("current", "max"))
    return replace(NO_LINK, width=width, max_width=most)


def _accelerator(row: dict[str, str], place: int) -> Accelerator:
    name = row.get("name", "")
    told = row.get("index", "")
    blank = make_accelerator(
        vendor="nvidia",
        index=int(told) if told.isdecimal() and len(told) < 4 else place,
        name="" if name in ERRORS else name,
        address=parse_address(row.get("pci.bus_id") or ""),
        why=Unknown.NOT_RECORDED,
        source=SOURCE,
    )
    changes: dict[str, Any] = {"uuid": row.get("uuid", "")}
    for column, (field, convert) in _FIELDS.items():
        text = row.get(column)
        if text is None:
            continue
        where = f"{SOURCE}: {column}"
        if text in ERRORS:
            changes[field] = missing(Unknown.MALFORMED, where, text)
        elif text.strip("[]") in ("N/A", "Not Supported", "Insufficient Permissions", ""):
            changes[field] = missing(Unknown.ABSENT, where, text)
        else:
            try:
                changes[field] = known(convert(text), where, text[:80])
            except (KeyError, ValueError):
                changes[field] = missing(Unknown.MALFORMED, where, text[:80])
    errors = [text for text in row.values() if text in ERRORS]
    if errors:
        changes["failure"] = known(errors[0].strip("[]"), SOURCE)
    return replace(blank, **changes)
