"""What the kernel's log says: the messages that a row of the catalog knows, each with its place, its times and its count.

A log is read as a stream and only what is known is kept, so that a log of any length takes the same memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from bedplate.model.facts.reading import Unknown


class LogClock(StrEnum):
    """What the seconds of a log count from; times of two clocks cannot be compared."""

    BOOT = "boot"
    """Seconds since the kernel started: "[ 9002.500000]"."""
    WALL = "wall"
    """Seconds of the calendar, in the time zone of the log; a log of the form "Jan 05 01:02:03" does not say the year."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelTime:
    """When a message was logged, as a number to compare and as the log writes it."""

    seconds: float
    clock: LogClock
    text: str
    """ "9002.500000", "Jan 05 01:02:03", "2027-01-05T01:02:03.000+00:00"."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelEvent:
    """One message, and those like it that follow within a minute: the same row, code, place and process."""

    row: str
    """Id of the row that knows it: "aer-fatal"; "xid" and "sxid" for NVIDIA's codes."""
    code: int | None
    """Number of the Xid or SXid; None for other rows."""
    address: str
    """PCI address, "0000:43:00.0", "" when the message names none."""
    subject: str
    """What it names besides: "nvme0n1", "eth0", "CPU 3", "link 32"; "" for nothing."""
    process: str
    """Name of a process, "VLLM::EngineCor"; "" for none."""
    text: str
    """The first message without time and prefix, at most 400 characters."""
    line: int
    """Number of the first message's line or record, from 1."""
    boot: int
    """How often the kernel started in this log before the message; what belongs together has the same number."""
    count: int
    first: KernelTime | None
    """None in a log without times."""
    last: KernelTime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelLog:
    """What of a kernel log is known, or why none was read."""

    source: str
    """Where it was read: "/dev/kmsg", "dmesg.txt"; "" when nothing was asked for."""
    unknown: Unknown | None = None
    """Why there is none; None when it was read, even if it is empty."""
    why: str = ""
    """What the system said about it: "Operation not permitted"."""
    events: tuple[KernelEvent, ...] = ()
    """In the order of their first lines."""
    lines: int = 0
    """Messages of the kernel that were read, known or not."""
    foreign: int = 0
    """Messages of other programs, which were not believed."""
    boots: int = 0
    """How often the kernel started in this log; events with a smaller `boot` are of an earlier run."""
    left_out: int = 0
    """Known messages of which only the number was kept, because too many different ones came."""


NO_KERNEL_LOG = KernelLog(source="", unknown=Unknown.NOT_RECORDED)
"""Of a machine whose log was not asked for, or is not in the recording."""
