"""Sizes and times as people write and read them."""

from __future__ import annotations

import re

KIB, MIB, GIB = 1024, 1024**2, 1024**3
_POWERS = "KMGTPE"
# Bounded, since machines and other programs are read with it too: no text is longer in numbers than a disk is in bytes.
_SIZE = re.compile(r"(\d{1,20})(\.\d{1,9})?\s*([KMGTPE]?)(?:i?B)?", re.IGNORECASE | re.ASCII)
_DURATION = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)\s*(s|m|min|h)?", re.ASCII)
_SECONDS = {"s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}


def parse_size(text: str) -> int:
    """Bytes of a size such as "512M", "1.5 GiB", "64k" or "4096"; powers of 1024, a rest of a byte is dropped.

    Raises ValueError naming the text.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text[:40]!r} is not a size such as 512M or 4G")
    unit = 1024 ** (_POWERS.index(match[3].upper()) + 1) if match[3] else 1
    return int(match[1]) * unit + int(float(match[2] or 0) * unit)


def render_size(size_bytes: int) -> str:
    """A size for people: "98.3 MiB". render and parse agree to the digit that is printed."""
    for unit, name in ((GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")):
        if abs(size_bytes) >= unit:
            return f"{size_bytes / unit:.1f} {name}"
    return f"{size_bytes} B"


def parse_duration(text: str) -> float:
    """Seconds of a time such as "90s", "20m", "20 min", "1.5h" or "30", which are seconds.

    Raises ValueError naming the text.
    """
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text[:40]!r} is not a time such as 90s, 10m or 2h")
    return float(match[1]) * _SECONDS[match[2] or "s"]


def render_seconds(seconds: float) -> str:
    """A time for people: "0.42 s", "12 s", "3 min 05 s"."""
    if seconds < 10:
        return f"{seconds:.2g} s" if seconds < 1 else f"{seconds:.1f} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s"
