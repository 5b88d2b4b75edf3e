"""Single attributes of /sys as values: a number or a CPU list, with the reason where there is none."""

from __future__ import annotations

from contextlib import suppress

from bedplate.errors import ReadError
from bedplate.host.root.root import Root
from bedplate.model.facts.reading import Reading, Unknown, known, missing

_SHOWN = 80  # characters of a malformed text
_DIGITS = 20  # an attribute of the kernel is 64 bits wide


def parse_int(text: str) -> int | None:
    """A decimal or 0x number of at most 64 bits; None when the text is none: "0x10de" -> 4318."""
    digits = text.strip()
    if not 0 < len(digits) <= _DIGITS or "_" in digits or not digits.isascii():
        return None
    try:
        return int(digits, 16) if digits.lower().startswith("0x") else int(digits)
    except ValueError:
        return None


def read_int(root: Root, where: str) -> Reading[int]:
    """The number in a file; MALFORMED when it holds something else."""
    reading = root.read(where)
    if reading.value is None:
        return missing(reading.unknown or Unknown.ABSENT, where, reading.text)
    value = parse_int(reading.value)
    if value is None:
        return missing(Unknown.MALFORMED, where, reading.value[:_SHOWN])
    return known(value, where)


def read_node(root: Root, where: str) -> Reading[int]:
    """A numa_node file; -1 is HIDDEN: the kernel has NUMA and was not told where the device hangs."""
    reading = read_int(root, where)
    if reading.value is not None and reading.value < 0:
        return missing(Unknown.HIDDEN, where, str(reading.value))
    return reading


def read_cpu_list(root: Root, *where: str, mask: str | None = None) -> tuple[int, ...] | None:
    """CPUs of the first list that is there and well formed, else of a mask; None where none is."""
    for path in where:
        text = root.read(path).value
        if text is not None:
            with suppress(ReadError):
                return root.cpu_sets.parse_list(text)
    return read_cpu_mask(root, mask) if mask is not None else None


def read_cpu_mask(root: Root, where: str) -> tuple[int, ...] | None:
    """CPUs of a mask; None where it is not there or malformed."""
    text = root.read(where).value
    if text is not None:
        with suppress(ReadError):
            return root.cpu_sets.parse_mask(text)
    return None
