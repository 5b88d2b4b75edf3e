"""Accelerators, read from accelerators.toml and from files of the owner: what a device holds and does, names by PCI ids.

A PCI id stands in one row of all files. The row's `device` joins it to a kind of accelerator of the stack (stack.py).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bedplate.catalog.drop_ins import RowFile, RowKind, read_shipped, rows_hint
from bedplate.catalog.near import near_hint
from bedplate.catalog.strict import build_file, schema_problems
from bedplate.errors import DataError, UsageError
from bedplate.model.catalogued import AcceleratorRow

ACCELERATORS = Path(__file__).parent / "accelerators.toml"
MOST_DEVICES = 1024
"""Accelerators of one kind in a machine that anybody may name; the readers of a machine have the same limit."""
_COUNTED = re.compile(r"(\d+)\s*[x×*]\s*(\S.*)", re.IGNORECASE)
_PCI = re.compile(r"([0-9a-f]{4}):([0-9a-f]{4})")
_ROW = re.compile(r"([0-9a-f]{4}) (\S.{0,60})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Maker:
    """One `[[maker]]` table of accelerators.toml: a PCI vendor id and devices of it, a line each."""

    vendor: int
    names: tuple[str, ...]
    """ "2330 NVIDIA H100 SXM5 80GB": the device's number in hexadecimal, then its name."""
    device: str = ""
    """Id of the device of the stack that all of them are a kind of; "" where the resolver knows none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceleratorFile:
    """accelerators.toml as it is parsed, before its lines are taken apart; `schema` must be 1."""

    schema: int
    maker: tuple[Maker, ...] = ()
    accelerator: tuple[AcceleratorRow, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedAccelerator:
    """A PCI id, what it is called, and where that stands."""

    pci: str
    """ "10de:2330"."""
    name: str
    device: str
    """Id of the device of the stack; "" for none."""
    place: str
    """ "accelerators.toml:h100.pci"."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceleratorTables:
    """The rows of all files, in their order, and each PCI id that one of them names."""

    rows: tuple[AcceleratorRow, ...]
    named: tuple[NamedAccelerator, ...]
    files: tuple[RowFile, ...]
    """What they were read from."""


def read_accelerator_tables(drop_ins: Sequence[RowFile] = ()) -> AcceleratorTables:
    """What ships, then further files. Raises ReadError, and DataError with every problem of every file."""
    return parse_accelerators((read_shipped(ACCELERATORS), *drop_ins))


def read_accelerator_rows(drop_ins: Sequence[RowFile] = ()) -> tuple[AcceleratorRow, ...]:
    """The rows with figures of `read_accelerator_tables`. Raises as it does."""
    return read_accelerator_tables(drop_ins).rows


def read_accelerator_names() -> dict[tuple[int, int], str]:
    """Name by (vendor, device) of the file that ships. Raises ReadError or DataError with every problem."""
    named = read_accelerator_tables().named
    return {(int(entry.pci[:4], 16), int(entry.pci[5:], 16)): entry.name for entry in named}


def parse_accelerators(files: Iterable[RowFile]) -> AcceleratorTables:
    """The tables of several files. Raises DataError with every problem, for an id or a PCI id in two rows both places."""
    rows: list[AcceleratorRow] = []
    places: dict[str, str] = {}
    named: dict[str, NamedAccelerator] = {}
    problems: list[str] = []
    files = tuple(files)
    for file in files:
        try:
            table = build_file(file.read_tables(), AcceleratorFile, name=file.name)
        except DataError as error:
            problems += error.problems
            continue
        problems += schema_problems(table.schema, f"{file.name}:")
        for entry in (*_maker_names(table, file.name, problems), *_row_names(table, file.name, problems)):
            first = named.setdefault(entry.pci, entry)
            if first is not entry:
                problems.append(f"{entry.place}: {entry.pci} stands twice, here and in {first.place}")
        for row in table.accelerator:
            place = f"{file.name}:{row.id}"
            if row.id in places:
                problems.append(f"{place}: stands twice, here and in {places[row.id]}")
            places.setdefault(row.id, place)
            if not (0 < row.memory_gib < math.inf and 0 < row.bandwidth_gbs < math.inf and row.devices_per_card >= 1):
                problems.append(f"{place}: memory_gib, bandwidth_gbs and devices_per_card must be above 0")
            rows.append(row)
    if problems:
        raise DataError(problems, hint=rows_hint(RowKind.ACCELERATORS, files))
    return AcceleratorTables(rows=tuple(rows), named=tuple(named.values()), files=files)


def _maker_names(table: AcceleratorFile, file: str, problems: list[str]) -> list[NamedAccelerator]:
    found: list[NamedAccelerator] = []
    for maker in table.maker:
        place = f"{file}:maker[{maker.vendor:04x}].names"
        if not 0 <= maker.vendor <= 0xFFFF:
            problems.append(f"{place}: got the vendor {maker.vendor}, expected four hexadecimal digits")
            continue
        for line in maker.names:
            parts = _ROW.fullmatch(line)
            if parts is None:
                problems.append(f"{place}: got {line!r}, expected four hexadecimal digits and a name")
                continue
            pci = f"{maker.vendor:04x}:{parts[1]}"
            found.append(NamedAccelerator(pci=pci, name=parts[2], device=maker.device, place=place))
    return found


def _row_names(table: AcceleratorFile, file: str, problems: list[str]) -> list[NamedAccelerator]:
    found: list[NamedAccelerator] = []
    for row in table.accelerator:
        place = f"{file}:{row.id}.pci"
        if not row.pci:
            problems.append(f"{place}: is empty")
        for pci in row.pci:
            if _PCI.fullmatch(pci) is None:
                problems.append(f"{place}: got {pci!r}, expected VENDOR:DEVICE in hexadecimal digits")
                continue
            found.append(NamedAccelerator(pci=pci, name=row.name, device=row.device, place=place))
    return found


def split_count(text: str) -> tuple[int, str]:
    """split_count("8x H100") -> (8, "H100"); without a number one is meant. Raises UsageError for one out of its range."""
    found = _COUNTED.fullmatch(text)
    if found is None:
        return 1, text
    digits = found[1].lstrip("0")
    if not digits or len(digits) > 4 or int(digits) > MOST_DEVICES:
        raise UsageError(f"{text[:80]!r}: expected COUNTxACCELERATOR, such as 8xH100, with a count from 1 to {MOST_DEVICES}")
    return int(digits), found[2]


def find_accelerator_row(name: str, rows: Sequence[AcceleratorRow]) -> AcceleratorRow:
    """The row with this id or name, whatever its case. Raises UsageError that lists near names."""
    for row in rows:
        if name.lower() in (row.id, row.name.lower()):
            return row
    names = {known.lower(): row.id for row in rows for known in (row.id, row.name)}
    raise UsageError(f"{name[:200]!r}: is no accelerator of the catalog", hint=near_hint(name, names))
