"""Names of accelerators by their PCI numbers: accelerators.toml, for what names a device by numbers only."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from bedplate.catalog.strict import parse_toml, read_data
from bedplate.errors import DataError

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
    maker: tuple[Maker, ...]


def read_accelerator_names(path: Path = Path(__file__).parent / "accelerators.toml") -> dict[tuple[int, int], str]:
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
    if problems:
        raise DataError(problems)
    return names
