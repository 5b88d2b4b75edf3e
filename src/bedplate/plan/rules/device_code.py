"""Whether a GPU runs what a binary holds. Source: CUDA C++ programming guide, binary and PTX compatibility."""

from __future__ import annotations

import re
from collections.abc import Sequence

from bedplate.model.facts.stack import DeviceCode

_ARCHITECTURE = re.compile(r"sm_(\d{2,3})")


def runs_code(binary: DeviceCode, code: Sequence[str]) -> bool:
    """Whether a device runs one of the architectures, or the driver compiles one of the intermediate forms for it.

    code: all binary code that the device runs, its own architecture first: ("sm_89", "sm_86", "sm_80").
    """
    if any(architecture in code for architecture in binary.architectures):
        return True
    newest = _number(code[0]) if code else None
    return newest is not None and any((_number(text) or newest + 1) <= newest for text in binary.intermediate)


def _number(architecture: str) -> int | None:
    """ "sm_89" -> 89; None for an architecture of another vendor."""
    found = _ARCHITECTURE.fullmatch(architecture)
    return int(found[1]) if found is not None else None
