"""NVIDIA accelerators from the table that `nvidia-smi` prints without options: the most posted text of all.

Two lines a GPU before driver 450, three from then on (the last one says MIG M.); the columns became wider with 525 and 545,
so cells are told by their bars. A MIG table may follow. "ERR!" stands for a value that the card did not give.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import Any

from bedplate.errors import ReadError
from bedplate.host.accel.blank import make_accelerator
from bedplate.host.accel.nvidia import VENDOR
from bedplate.host.formats.nvidia_smi import ERRORS
from bedplate.host.formats.section import Section
from bedplate.host.formats.unrecorded import empty_facts
from bedplate.host.kernel.pcitree import finish_tree, make_device, parse_address
from bedplate.model.facts.host import HostFacts
from bedplate.model.facts.pci import Accelerator
from bedplate.model.facts.reading import Reading, Unknown, known, missing

SOURCE = "nvidia-smi"
# The row of a GPU, with its place on the bus: the head of a table is often cut off.
ROWS = re.compile(r"\|\s{1,4}\d{1,3}  \S[^|]{1,50}\|\s{1,6}[0-9A-Fa-f]{8}:[0-9A-Fa-f]{2}:[0-9A-Fa-f]{2}\.[0-7]\s", re.ASCII)
BEGINS = re.compile(rf"\| NVIDIA-SMI [\d.]{{3,20}} |{ROWS.pattern}")
CONTINUES = re.compile(r"[|+]")
_DEVICES_MOST = 256
_HEAD = re.compile(r"NVIDIA-SMI ([\d.]{3,20}) {1,60}Driver Version: ([\d.]{3,20})", re.ASCII)
_NAME = re.compile(r"\s{0,4}(\d{1,3})  (\S.{0,60}?)(?:\s{1,40}(On|Off|N/A|ERR!))?\s{0,40}", re.ASCII)
_BUS = re.compile(r"\s{0,6}([0-9A-Fa-f]{8}:[0-9A-Fa-f]{2}:[0-9A-Fa-f]{2}\.[0-7])\s{1,6}(?:On|Off|N/A)?\s{0,6}", re.ASCII)
_MEMORY = re.compile(r"(\d{1,9})MiB /\s{1,6}(\d{1,9})MiB", re.ASCII)
_POWER = re.compile(r"(\d{1,5}|N/A|ERR!)W? {1,4}/ {1,4}(\d{1,5}|N/A|ERR!)W?", re.ASCII)
_HEAT = re.compile(r"\s(\d{1,3})C\s", re.ASCII)
_LOAD = re.compile(r"\s{0,20}(\d{1,3})%\s", re.ASCII)
_INSTANCE = re.compile(r"\s{0,4}(\d{1,3})\s{1,6}(\d{1,3}|N/A)\s{1,6}(\d{1,3}|N/A)\s{1,6}(\d{1,3})\s{0,4}", re.ASCII)
_MIB = 1 << 20


@dataclass(slots=True)
class _Gpu:
    """The rows of one GPU while they are read."""

    index: int
    name: str
    persistence: str
    address: str
    rows: list[list[str]] = field(default_factory=list)
    """Cells of its lines, the first one included."""
    instances: list[int] = field(default_factory=list)
    """Bytes of its MIG instances."""


def parse_smi_table(section: Section) -> HostFacts:
    """GPUs of the table with place, memory, power limit, persistence, MIG and ECC. Raises ReadError without any GPU.

    A name that is too long for its column ends in "..."; memory that is "Not Supported" (unified memory) is ABSENT.
    """
    head = _HEAD.search(section.text)
    gpus: list[_Gpu] = []
    none_found = False
    for line in section.text.split("\n"):
        cells = line.strip().strip("|").split("|")
        none_found = none_found or "No MIG devices found" in line
        name = _NAME.fullmatch(cells[0])
        bus = _BUS.fullmatch(cells[1]) if len(cells) > 2 else None
        instance = _INSTANCE.fullmatch(cells[0])
        if name is not None and bus is not None and len(gpus) < _DEVICES_MOST:
            gpus.append(_Gpu(int(name[1]), name[2], name[3] or "", parse_address(bus[1]) or "", [cells]))
        elif instance is not None and len(cells) > 2:
            _add_instance(gpus, int(instance[1]), cells[1])
        elif gpus and len(cells) == 3 and len(gpus[-1].rows) < 3:
            gpus[-1].rows.append(cells)
    if not gpus:
        raise ReadError("the table of nvidia-smi has no GPU")
    driver = known(head[2], SOURCE) if head is not None else missing(Unknown.NOT_RECORDED, SOURCE)
    library = known(head[1], SOURCE) if head is not None else missing(Unknown.NOT_RECORDED, SOURCE)
    devices = finish_tree(
        replace(
            make_device(gpu.address, class_code=0x030200, source=SOURCE),
            vendor=VENDOR,
            name="" if gpu.name in ERRORS else gpu.name,
        )
        for gpu in gpus
    )
    accelerators = tuple(
        replace(_accelerator(gpu, none_found=none_found), driver_version=driver, library_version=library) for gpu in gpus
    )
    return replace(empty_facts(section.file), pci=devices, accelerators=accelerators)


def _add_instance(gpus: list[_Gpu], index: int, cell: str) -> None:
    memory = _MEMORY.search(cell)
    if memory is not None:
        for gpu in gpus:
            if gpu.index == index:
                gpu.instances.append(int(memory[2]) * _MIB)


def _accelerator(gpu: _Gpu, *, none_found: bool) -> Accelerator:
    blank = make_accelerator(
        vendor="nvidia",
        index=gpu.index,
        name="" if gpu.name in ERRORS else gpu.name,
        address=gpu.address,
        why=Unknown.NOT_RECORDED,
        source=SOURCE,
    )
    first = gpu.rows[0]
    second = gpu.rows[1] if len(gpu.rows) > 1 else ["", "", ""]
    third = gpu.rows[2] if len(gpu.rows) > 2 else ["", "", ""]
    memory, power = _MEMORY.search(second[1]), _POWER.search(second[0])
    heat, load = _HEAT.search(second[0]), _LOAD.match(second[2])
    error = next((cell.strip() for row in gpu.rows for cell in row if "ERR!" in cell), None)
    mig = third[2].strip()
    divided = {"Enabled": True, "Enabled*": True, "Disabled": False, "Disabled*": False}.get(mig)
    instances: Reading[tuple[int, ...]] = blank.mig_bytes
    if gpu.instances:
        instances = known(tuple(gpu.instances), f"{SOURCE}: MIG devices", f"{len(gpu.instances)} instances")
    elif none_found and divided:
        instances = known((), f"{SOURCE}: MIG devices", "No MIG devices found")
    return replace(
        blank,
        memory_bytes=known(int(memory[2]) * _MIB, f"{SOURCE}: Memory-Usage", memory[0])
        if memory is not None
        else _lacking(second[1], "Memory-Usage"),
        persistence=_choice(gpu.persistence, "Persistence-M", {"On": True, "Off": False}),
        power_draw_w=_watts(power[1] if power is not None else "", "Pwr:Usage"),
        power_limit_w=_watts(power[2] if power is not None else "", "Pwr:Cap"),
        temperature_c=known(float(heat[1]), f"{SOURCE}: Temp") if heat is not None else _lacking(second[0], "Temp"),
        utilization_pct=known(float(load[1]), f"{SOURCE}: GPU-Util")
        if load is not None
        else _lacking(second[2], "GPU-Util"),
        ecc=_ecc(first[2].strip()),
        ecc_uncorrected=_count(first[2].strip()),
        mig=known(divided, f"{SOURCE}: MIG M.", mig) if divided is not None else _lacking(mig, "MIG M."),
        mig_bytes=instances,
        mig_pending=known(not divided, f"{SOURCE}: MIG M.", mig) if mig.endswith("*") and divided is not None else blank.mig,
        failure=known("ERR!", f"{SOURCE}: {error}") if error is not None else missing(Unknown.ABSENT, SOURCE),
    )


def _lacking(cell: str, column: str) -> Reading[Any]:
    """Why a cell has no value: an error, a value that the card does not have, or a row that was cut off."""
    text = cell.strip()
    why = Unknown.MALFORMED if "ERR!" in text else Unknown.ABSENT if text else Unknown.NOT_RECORDED
    return missing(why, f"{SOURCE}: {column}", text[:80])


def _choice(text: str, column: str, choices: dict[str, bool]) -> Reading[bool]:
    value = choices.get(text)
    return (
        missing(Unknown.ABSENT, f"{SOURCE}: {column}", text) if value is None else known(value, f"{SOURCE}: {column}", text)
    )


def _watts(text: str, column: str) -> Reading[float]:
    if text.isdecimal():
        return known(float(text), f"{SOURCE}: {column}", f"{text}W")
    why = Unknown.MALFORMED if text == "ERR!" else Unknown.ABSENT if text else Unknown.NOT_RECORDED
    return missing(why, f"{SOURCE}: {column}", text)


def _ecc(text: str) -> Reading[bool]:
    """A count stands there when ECC is on, "Off" or "N/A" otherwise."""
    where = f"{SOURCE}: Volatile Uncorr. ECC"
    if text.isdecimal():
        return known(True, where, text)
    return known(False, where, text) if text == "Off" else missing(Unknown.ABSENT, where, text)


def _count(text: str) -> Reading[int]:
    where = f"{SOURCE}: Volatile Uncorr. ECC"
    return known(int(text), where, text) if text.isdecimal() and len(text) < 19 else missing(Unknown.ABSENT, where, text)
