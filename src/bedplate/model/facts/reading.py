"""One fact with its source: a value, or the reason why there is none. Unknown never looks like a value."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Unknown(StrEnum):
    """Why a fact is not known; four different facts, never one."""

    ABSENT = "absent"
    """This kernel or device does not have it: no such file, no such line."""
    DENIED = "denied"
    """It is there and this user may not read it."""
    HIDDEN = "hidden"
    """The platform does not say: numa_node -1, a topology that a hypervisor left out."""
    MALFORMED = "malformed"
    """It is there and is not what its format says; `text` holds the beginning of it."""
    NOT_RECORDED = "not-recorded"
    """A recording that does not hold it; the machine may have had it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading(Generic[T]):
    """A value and the file (or vendor call) that said it; `value` is None exactly when `unknown` is set."""

    value: T | None
    source: str
    """Path on the machine, "/sys/bus/pci/devices/0000:19:00.0/numa_node", or a call, "nvml:DeviceGetPersistenceMode(0)"."""
    unknown: Unknown | None = None
    text: str = ""
    """What was read, shortened; empty when nothing was."""


def known(value: T, source: str, text: str = "") -> Reading[T]:
    """A value that was read; without a text, the value itself stands for what was read."""
    return Reading(value=value, source=source, text=text or str(value))


def missing(why: Unknown, source: str, text: str = "") -> Reading[T]:
    """A reading without a value: why there is none, and the beginning of what was read, if anything was."""
    return Reading(value=None, source=source, unknown=why, text=text)


NOT_ASKED: Reading[Any] = missing(Unknown.NOT_RECORDED, "not asked")
"""What stands for a fact that no reader asked for."""
