"""Memory and swap from `free`: in KiB without an option, else as the command or the suffix of the numbers says.

A number without either is read only where its size leaves one unit.
"""

from __future__ import annotations

import re
from dataclasses import replace

from bedplate.errors import ReadError
from bedplate.host.formats.section import Section
from bedplate.host.formats.unrecorded import empty_facts
from bedplate.model.facts.host import HostFacts
from bedplate.model.units import GIB, KIB, MIB

BEGINS = re.compile(r"\s{4,24}total {2,12}used {2,12}free")
CONTINUES = re.compile(r"(?:Mem|Swap|Total): {1,20}\d|-/\+ buffers/cache:")
_ROW = re.compile(r"(Mem|Swap):((?:\s{1,20}\d{1,15}(?:\.\d)?[BKMGTP]?i?){1,8})\s{0,8}", re.ASCII)
_NUMBER = re.compile(r"(\d{1,15}(?:\.\d)?)([BKMGTP]?)i?", re.ASCII)
_UNITS = {"-b": 1, "--bytes": 1, "-k": KIB, "-m": MIB, "-g": GIB, "--kibi": KIB, "--mebi": MIB, "--gibi": GIB}
_SUFFIXES = {"B": 1, "K": KIB, "M": MIB, "G": GIB, "T": GIB << 10, "P": GIB << 20}
_SURELY_KIB = 8_000_000  # below it the same number may be MiB of a server, or KiB of a small machine
_SURELY_MIB = (16_384, 1_000_000)


def parse_free(section: Section) -> HostFacts:
    """Total, available and swap. Raises ReadError without a line "Mem:", or where its unit cannot be told."""
    facts = empty_facts(section.file)
    rows = {match[1]: match[2].split() for line in section.text.split("\n") if (match := _ROW.fullmatch(line)) is not None}
    if "Mem" not in rows:
        raise ReadError('the text of free has no line "Mem:"')
    unit = next((_UNITS[word] for word in section.command if word in _UNITS), None)
    if unit is None and section.command[:1] == ("free",):
        unit = KIB
    total = _bytes(rows["Mem"][0], unit)
    if total is None:
        raise ReadError("the unit of free's numbers is not said; paste the command with them")
    if unit is None and rows["Mem"][0].isdecimal():
        unit = KIB if int(rows["Mem"][0]) >= _SURELY_KIB else MIB
    available = _bytes(rows["Mem"][5], unit) if len(rows["Mem"]) > 5 else None
    swap = [_bytes(text, unit) or 0 for text in rows.get("Swap", ["0"])]
    return replace(
        facts,
        memory=replace(
            facts.memory,
            total_bytes=total,
            available_bytes=available or 0,
            swap_total_bytes=swap[0],
            swap_free_bytes=swap[2] if len(swap) > 2 else 0,
        ),
    )


def _bytes(text: str, unit: int | None) -> int | None:
    match = _NUMBER.fullmatch(text)
    if match is None:
        return None
    number = float(match[1])
    if match[2]:
        return int(number * _SUFFIXES[match[2]])
    if unit is not None:
        return int(number * unit)
    if number >= _SURELY_KIB:
        return int(number * KIB)
    return int(number * MIB) if _SURELY_MIB[0] <= number < _SURELY_MIB[1] else None
