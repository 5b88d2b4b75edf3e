"""Single attributes of /sys as values: a number or a CPU list, with the reason where there is none."""

from __future__ import annotations

from contextlib import suppress
from functools import lru_cache

from bedplate.errors import ReadError
from bedplate.host.cpus import parse_cpu_list, parse_cpu_mask
from bedplate.host.root import Root
from bedplate.model.facts.reading import Reading, Unknown, known, missing

_SHOWN = 80  # characters of a malformed text
# Hundreds of files of one machine hold the same few lists.
_SHORT = 2400  # characters; a mask of 8192 CPUs has 2304
_cpu_list = lru_cache(maxsize=512)(parse_cpu_list)
_cpu_mask = lru_cache(maxsize=512)(parse_cpu_mask)
_DIGITS = 20  # an attribute of the kernel is 64 bits wide


def parse_int(text: str) -> int | None:
    """A decimal or 0x number of at most 64 bits; None when the text is none: "0x10de" -> 4318."""
    digits = text.strip()
    if not 0 < len(digits) <= _DIGITS or "_" in digits:
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
    for one in where:
        text = root.read(one).value
        if text is not None:
            with suppress(ReadError):
                return _cpu_list(text) if len(text) < _SHORT else parse_cpu_list(text)
    return read_cpu_mask(root, mask) if mask is not None else None


def read_cpu_mask(root: Root, where: str) -> tuple[int, ...] | None:
    """CPUs of a mask; None where it is not there or malformed."""
    text = root.read(where).value
    if text is not None:
        with suppress(ReadError):
            return _cpu_mask(text) if len(text) < _SHORT else parse_cpu_mask(text)
    return None
