"""Accelerators, read from accelerators.toml: what a device holds and does, and names by PCI numbers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bedplate.catalog.near import near_hint
from bedplate.catalog.strict import parse_toml, read_data, read_toml
from bedplate.errors import DataError, UsageError
from bedplate.model.catalogued import AcceleratorRow

ACCELERATORS = Path(__file__).parent / "accelerators.toml"
_PCI = re.compile(r"([0-9a-f]{4}):([0-9a-f]{4})")
_ROW = re.compile(r"([0-9a-f]{4}) (\S.{0,60})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Maker:
    """One `[[maker]]` table of accelerators.toml: a PCI vendor id and its devices, a line each."""

    vendor: int
    names: tuple[str, ...]
    """ "2330 NVIDIA H100 SXM5 80GB": the device's number in hexadecimal, then its name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceleratorFile:
    """accelerators.toml as it is parsed, before its lines are taken apart; `schema` must be 1."""

    schema: int
    maker: tuple[Maker, ...] = ()
    accelerator: tuple[AcceleratorRow, ...] = ()


def read_accelerator_rows(*more: Path) -> tuple[AcceleratorRow, ...]:
    """The rows that ship, then those of further files. Raises ReadError, and DataError for a bad row or an id that stands
    twice."""
    rows: list[AcceleratorRow] = []
    problems: list[str] = []
    for path in (ACCELERATORS, *more):
        file = read_toml(path, AcceleratorFile)
        problems += [] if file.schema == 1 else [f"{path.name}:schema: got {file.schema}, expected 1"]
        for row in file.accelerator:
            if row.id in (known.id for known in rows):
                problems.append(f"{path.name}:{row.id}: stands twice")
            if not row.pci:
                problems.append(f"{path.name}:{row.id}.pci: is empty")
            problems += [_pci_problem(path.name, row.id, id) for id in row.pci if _PCI.fullmatch(id) is None]
            if row.memory_gib <= 0 or row.bandwidth_gbs <= 0 or row.devices_per_card < 1:
                problems.append(f"{path.name}:{row.id}: memory_gib, bandwidth_gbs and devices_per_card must be above 0")
            rows.append(row)
    if problems:
        raise DataError(problems)
    return tuple(rows)


def _pci_problem(file: str, row: str, id: str) -> str:
    return f"{file}:{row}.pci: got {id!r}, expected VENDOR:DEVICE in hexadecimal digits"


def find_accelerator_row(name: str, rows: Sequence[AcceleratorRow]) -> AcceleratorRow:
    """The row with this id or name, whatever its case. Raises UsageError that lists near names."""
    for row in rows:
        if name.lower() in (row.id, row.name.lower()):
            return row
    names = {known.lower(): row.id for row in rows for known in (row.id, row.name)}
    raise UsageError(f"{name[:200]!r}: is no accelerator of the catalog", hint=near_hint(name, names))


def read_accelerator_names(path: Path = ACCELERATORS) -> dict[tuple[int, int], str]:
    """Name by (vendor, device). Raises ReadError or DataError with every problem."""
    return parse_accelerator_names(read_data(path), name=path.name)


def parse_accelerator_names(text: str, *, name: str) -> dict[tuple[int, int], str]:
    """Name by (vendor, device) of a TOML text; `name` is its file in messages. Raises DataError with every problem."""
    file = parse_toml(text, AcceleratorFile, name=name)
    names: dict[tuple[int, int], str] = {}
    problems = [] if file.schema == 1 else [f"{name}:schema: got {file.schema}, expected 1"]
    for maker in file.maker:
        for row in maker.names:
            found = _ROW.fullmatch(row)
            if found is None:
                problems.append(f"{name}:names: got {row!r}, expected four hexadecimal digits and a name")
                continue
            key = maker.vendor, int(found[1], 16)
            if key in names:
                problems.append(f"{name}:names: {maker.vendor:04x}:{found[1]} stands twice")
            names[key] = found[2]
    for accelerator in file.accelerator:
        for id in accelerator.pci:
            numbers = _PCI.fullmatch(id)
            if numbers is None:
                problems.append(_pci_problem(name, accelerator.id, id))
                continue
            key = int(numbers[1], 16), int(numbers[2], 16)
            if key in names:
                problems.append(f"{name}:{accelerator.id}.pci: {id} stands twice")
            names[key] = accelerator.name
    if problems:
        raise DataError(problems)
    return names
