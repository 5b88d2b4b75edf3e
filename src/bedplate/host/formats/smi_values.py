"""Values as nvidia-smi writes them, in its listing (-q) and in its tables of queries (--format=csv)."""

from __future__ import annotations

import re

SMI_NUMBER = re.compile(r"-?\d{1,12}(?:\.\d{1,3})?", re.ASCII)
"""The number at the beginning of a value: "700.00" of "700.00 W"."""


def parse_smi_number(text: str) -> float:
    """The number before a unit: "700.00 W" -> 700.0. Raises ValueError where there is none: "[N/A]"."""
    match = SMI_NUMBER.match(text)
    if match is None:
        raise ValueError(text)
    return float(match[0])


def parse_smi_switch(text: str) -> bool:
    """ "Enabled" or "Disabled". Raises ValueError for another word."""
    if text not in ("Enabled", "Disabled"):
        raise ValueError(text)
    return text == "Enabled"
