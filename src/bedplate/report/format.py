"""Machine text made safe to show, and the short forms that all reports share.

A recording may be hostile: a device's name may hold escape sequences, bidirectional overrides or line breaks. `clean` takes
their power and leaves them visible.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from typing import Any

from bedplate.model.facts.finding import Severity
from bedplate.model.facts.pci import Link
from bedplate.model.facts.reading import Reading, Unknown
from bedplate.model.wording import render_cpus

WHY_UNKNOWN = {
    Unknown.ABSENT: "not there",
    Unknown.DENIED: "permission denied",
    Unknown.HIDDEN: "the platform does not report it",
    Unknown.MALFORMED: "unreadable text",
    Unknown.NOT_RECORDED: "not recorded",
}
_LONGEST = 400  # characters of one text from the machine


def clean(text: str, *, longest: int = _LONGEST) -> str:
    """One line without control, format or private characters: each stands as its escape ("\\x1b"); cut past `longest`."""
    if len(text) > longest:
        text = text[: longest - 3] + "..."
    if text.isascii() and text.isprintable():
        return text
    shown = []
    for char in text:
        if char in "\t\n\r\v\f":
            shown.append(" ")
        elif unicodedata.category(char) in ("Cc", "Cf", "Co", "Cs", "Cn", "Zl", "Zp"):
            shown.append(char.encode("unicode_escape").decode())
        else:
            shown.append(char)
    return "".join(shown)


def memory(size_bytes: int) -> str:
    """Memory in the unit that reads best, three digits: "2.0 TiB", "96 GiB", "512 MiB"."""
    return _scaled(size_bytes, 1024, ("B", "KiB", "MiB", "GiB", "TiB", "PiB"))


def disk(size_bytes: int) -> str:
    """A disk's size in the powers of ten that its maker prints: "3.8 TB"."""
    return _scaled(size_bytes, 1000, ("B", "kB", "MB", "GB", "TB", "PB"))


def _scaled(size: float, step: int, units: tuple[str, ...]) -> str:
    for unit in units:
        if size < step or unit == units[-1]:
            digits = 0 if size >= 10 or unit == "B" else 1
            return f"{size:.{digits}f} {unit}"
        size /= step
    raise AssertionError("the last unit returns")


def rate(mbps: int) -> str:
    """A network's speed: "400 Gb/s"."""
    return f"{mbps / 1000:g} Gb/s" if mbps >= 1000 else f"{mbps} Mb/s"


def speed(gts: float | None, width: int | None) -> str:
    """A link: "32 GT/s x16"; "" when neither is known."""
    parts = [f"{gts:g} GT/s" if gts is not None else "", f"x{width}" if width is not None else ""]
    return " ".join(part for part in parts if part)


def link_words(link: Link) -> str:
    """A link now, and what both its ends can where that is more: "8 GT/s x8, can 32 GT/s x16"; "" when not known."""
    now = speed(link.speed_gts, link.width)
    able_gts = _least(link.max_speed_gts, link.port_max_speed_gts)
    able_width = _least(link.max_width, link.port_max_width)
    slower = link.speed_gts is not None and able_gts is not None and link.speed_gts < able_gts
    narrower = link.width is not None and able_width is not None and link.width < able_width
    if not slower and not narrower:
        return now
    able = speed(able_gts if slower else None, int(able_width) if narrower and able_width is not None else None)
    return f"{now}, can {able}"


def _least(first: float | None, second: float | None) -> float | None:
    there = [number for number in (first, second) if number is not None]
    return min(there) if there else None


def short_address(address: str) -> str:
    """A PCI address without the domain when that is 0000, as lspci shows it."""
    return address.removeprefix("0000:")


def shown(reading: Reading[Any]) -> str:
    """A fact's value in words, or why it is not known."""
    value = reading.value
    if value is None:
        return f"unknown ({WHY_UNKNOWN[reading.unknown] if reading.unknown is not None else 'no reason given'})"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return render_cpus(value) if value else "none"
    return clean(str(value))


def counted(counts: dict[Severity, int], among: Iterable[Severity] = tuple(Severity)) -> str:
    """ "1 critical, 2 high"; "" when all are zero."""
    return ", ".join(f"{counts[severity]} {severity}" for severity in among if counts[severity])


def first_sentence(text: str) -> str:
    """Up to the first full stop that ends a sentence; the whole text when there is none."""
    head, stop, _ = text.partition(". ")
    return head + "." if stop else text
