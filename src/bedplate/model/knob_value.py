"""What the text of a knob means, and how two meanings compare: raw texts are never compared.

The kernel writes "always [madvise] never" for a choice, "0x0007" for a mask, "0-3,8" for CPUs, "4096 131072 6291456" for a
triple and "max" for no limit (Documentation/admin-guide/mm/transhuge.rst, mm/multigen_lru.rst, cgroup-v2.rst and
networking/ip-sysctl.rst).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from enum import StrEnum

from bedplate.model.units import parse_size

Value = float | str | frozenset[str]


class Parse(StrEnum):
    """How a text is understood."""

    NUMBER = "number"
    """Decimal or 0x..., "max", "infinity", "unlimited"."""
    BYTES = "bytes"
    """A number with or without K, M, G, T (1024), or "max"."""
    LAST_NUMBER = "last-number"
    """The last of several: the most of "least default most"."""
    CHOICE = "choice"
    """The word in brackets, or the only word."""
    FLAG = "flag"
    """Y, 1, on, yes, enabled -> 1; N, 0, off, no, disabled -> 0."""
    WORDS = "words"
    """Words between white space and commas."""
    CPU_COUNT = "cpu-count"
    """How many CPUs a list such as 0-3,8 holds."""


class Compare(StrEnum):
    """How a value is compared with what is wanted."""

    AT_LEAST = "at-least"
    AT_MOST = "at-most"
    EQUAL = "equal"
    ONE_OF = "one-of"
    CONTAINS = "contains"
    """All of the wanted words are there."""
    NOT_CONTAINS = "not-contains"
    """None of them is."""
    ABSENT = "absent"
    """It should not be there at all."""
    REPORT = "report"
    """Nothing is wanted: read it and say it."""


NUMERIC = (Parse.NUMBER, Parse.BYTES, Parse.LAST_NUMBER, Parse.CPU_COUNT, Parse.FLAG)
_ENDLESS = ("max", "infinity", "unlimited")
_NUMBER = re.compile(r"[+-]?\d{1,25}(?:\.\d{1,25})?")
_HEX = re.compile(r"0[xX][0-9a-fA-F]{1,16}")
_FLAGS = {"y": 1.0, "1": 1.0, "on": 1.0, "yes": 1.0, "true": 1.0, "enabled": 1.0}
_FLAGS |= {"n": 0.0, "0": 0.0, "off": 0.0, "no": 0.0, "false": 0.0, "disabled": 0.0}
_CPUS = re.compile(r"(\d{1,6})(?:-(\d{1,6}))?")


def parse_value(text: str, how: Parse) -> Value:
    """The meaning of a text. Raises ValueError, with a sentence, when it has none.

    parse_value("always [madvise] never", Parse.CHOICE) == "madvise"; parse_value("0x0007", Parse.NUMBER) == 7.0.
    """
    return _PARSERS[how](text.strip())


def holds(value: Value, compare: Compare, wanted: tuple[Value, ...]) -> bool:
    """Whether the value is as wanted. Raises ValueError for a comparison that the kind of value does not have."""
    match compare:
        case Compare.REPORT:
            return True
        case Compare.ABSENT:
            return False
        case Compare.EQUAL:
            return value == wanted[0]
        case Compare.ONE_OF:
            return value in wanted
        case Compare.AT_LEAST | Compare.AT_MOST:
            bound = wanted[0]
            if not isinstance(value, float) or not isinstance(bound, float):
                raise ValueError(f"{compare} compares numbers")
            return value >= bound if compare is Compare.AT_LEAST else value <= bound
        case Compare.CONTAINS | Compare.NOT_CONTAINS:
            if not isinstance(value, frozenset) or not all(isinstance(entry, frozenset) for entry in wanted):
                raise ValueError(f"{compare} compares words")
            words = frozenset[str]().union(*(entry for entry in wanted if isinstance(entry, frozenset)))
            return words <= value if compare is Compare.CONTAINS else not words & value


def _number(text: str) -> float:
    if text in _ENDLESS:
        return math.inf
    if _HEX.fullmatch(text):
        return float(int(text, 16))
    if _NUMBER.fullmatch(text):
        return float(text)
    raise ValueError(f"{text[:40]!r} is not a number")


def _bytes(text: str) -> float:
    if text in _ENDLESS:
        return math.inf
    return float(parse_size(text))


def _last_number(text: str) -> float:
    words = text.split()
    if not words:
        raise ValueError("no number")
    return _number(words[-1])


def _choice(text: str) -> str:
    chosen = re.findall(r"\[([^\[\]\s]+)\]", text)
    if len(chosen) == 1:
        return str(chosen[0])
    if not chosen and len(text.split()) == 1:
        return text
    raise ValueError(f"{text[:40]!r} does not say one choice")


def _flag(text: str) -> float:
    try:
        return _FLAGS[text.lower()]
    except KeyError:
        raise ValueError(f"{text[:40]!r} is neither on nor off") from None


def _words(text: str) -> frozenset[str]:
    return frozenset(text.replace(",", " ").split())


def _cpu_count(text: str) -> float:
    """Counted by ranges, so that "0-999999" costs nothing."""
    ranges: list[tuple[int, int]] = []
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        found = _CPUS.fullmatch(part)
        if found is None:
            raise ValueError(f"{text[:40]!r} is not a list of CPUs such as 0-3,8")
        ranges.append((int(found[1]), int(found[2] or found[1])))
    count, end = 0, -1
    for first, last in sorted(ranges):
        count += max(0, last - max(first, end + 1) + 1)
        end = max(end, last)
    return float(count)


_PARSERS: dict[Parse, Callable[[str], Value]] = {
    Parse.NUMBER: _number,
    Parse.BYTES: _bytes,
    Parse.LAST_NUMBER: _last_number,
    Parse.CHOICE: _choice,
    Parse.FLAG: _flag,
    Parse.WORDS: _words,
    Parse.CPU_COUNT: _cpu_count,
}
