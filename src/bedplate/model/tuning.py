"""What tuning decides and carries out: a plan of changes, each with its old and new value, its reason and its undo.

plan/tune makes a Plan, act/ carries it out and takes it back, prove/ says what it is worth; all of them speak of Setting.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from bedplate.model.knob import ChangeNeed, Grade
from bedplate.model.knob_value import Compare, Parse
from bedplate.model.policy_name import Policy as Policy


class Means(StrEnum):
    """How a setting is made."""

    FILE = "file"
    """A file of the kernel: /proc/sys, /sys, /proc/irq. Takes effect when it is written."""
    UNIT = "unit"
    """A property of a systemd unit, by a drop-in; takes effect with a reload of the service manager."""
    CMDLINE = "cmdline"
    """A parameter of the kernel; takes effect at the next boot, and only through the image or the boot loader."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One thing that can be set, by what means; two plans speak of the same one when all three fields are equal."""

    means: Means
    name: str
    """FILE: absolute path. UNIT: "neighbour.slice". CMDLINE: "isolcpus"."""
    key: str = ""
    """UNIT: the property, "CPUWeight"; "" otherwise."""

    def __str__(self) -> str:
        """As the command line takes it: "vm.dirty_bytes", "/sys/...", "neighbour.slice:CPUWeight", "cmdline:isolcpus"."""
        if self.means is Means.UNIT:
            return f"{self.name}:{self.key}"
        if self.means is Means.CMDLINE:
            return f"cmdline:{self.name}"
        if self.name.startswith("/proc/sys/"):
            return self.name.removeprefix("/proc/sys/").replace("/", ".")
        return self.name


@dataclass(frozen=True, slots=True, kw_only=True)
class InterfaceFile:
    """Where a property of a unit shows in its control group (systemd.resource-control(5), cgroup-v2.rst)."""

    file: str
    """Its name in the directory of the group, "cpu.weight"; it holds the effective value."""
    parse: Parse
    neutral: str
    """Text of the file when the property is not set."""


UNIT_PROPERTIES: dict[str, InterfaceFile] = {
    "CPUWeight": InterfaceFile(file="cpu.weight", parse=Parse.NUMBER, neutral="100"),  # "idle" shows as 1 in cpu.idle
    "StartupCPUWeight": InterfaceFile(file="cpu.weight", parse=Parse.NUMBER, neutral="100"),
    "AllowedCPUs": InterfaceFile(file="cpuset.cpus", parse=Parse.WORDS, neutral=""),
    "AllowedMemoryNodes": InterfaceFile(file="cpuset.mems", parse=Parse.WORDS, neutral=""),
    "MemoryMin": InterfaceFile(file="memory.min", parse=Parse.BYTES, neutral="0"),
    "MemoryLow": InterfaceFile(file="memory.low", parse=Parse.BYTES, neutral="0"),
    "MemoryHigh": InterfaceFile(file="memory.high", parse=Parse.BYTES, neutral="max"),
    "MemoryMax": InterfaceFile(file="memory.max", parse=Parse.BYTES, neutral="max"),
    "MemorySwapMax": InterfaceFile(file="memory.swap.max", parse=Parse.BYTES, neutral="max"),
    "MemoryZSwapMax": InterfaceFile(file="memory.zswap.max", parse=Parse.BYTES, neutral="max"),
    "IOWeight": InterfaceFile(file="io.weight", parse=Parse.LAST_NUMBER, neutral="default 100"),
}
"""Properties whose effect can be read back from the kernel; one that is not here (OOMScoreAdjust=, Slice=) is read from the
service manager, and takes effect when its unit starts again."""


def effective_property(key: str, read: Callable[[str], str | None]) -> str | None:
    """The effective value of a unit's property in the form in which it is written: "idle", "infinity", "100".

    read: text of a file in the control group by its name, None where it is not there. None: the kernel does not show it,
    or io.weight has no line that holds for every device.
    """
    shown = UNIT_PROPERTIES.get(key)
    if shown is None:
        return None
    if shown.file == "cpu.weight" and read("cpu.idle") == "1":
        return "idle"
    text = read(shown.file)
    if text is None:
        return None
    if shown.file == "io.weight":  # "default 100", then a line for each device with its own
        return next((words[1] for line in text.splitlines() if _is_default(words := line.split())), None)
    return "infinity" if text == "max" else text


def _is_default(words: list[str]) -> bool:
    return len(words) == 2 and words[0] == "default" and words[1].isascii() and words[1].isdecimal()


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One setting from old to new, why, and on what evidence."""

    setting: Setting
    knob: str
    """Id of the catalog's row, "cpu.weight"."""
    old: str | None
    """Effective value now, in the form in which it can be written again; None when it is not set or cannot be known."""
    new: str
    parse: Parse
    compare: Compare
    """How an effective value is compared with `new`: semantically, never as text."""
    because: str
    """One sentence with the numbers of this machine."""
    grade: Grade
    sources: tuple[str, ...]
    reversible: bool = True
    needs: tuple[ChangeNeed, ...] = (ChangeNeed.ROOT,)


@dataclass(frozen=True, slots=True, kw_only=True)
class Skip:
    """A knob that was looked at and is left alone, and why: never silence."""

    knob: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """What makes it wrong to apply the plan here at all: a co-owner, no control groups, a model that cannot fit."""

    what: str
    because: str
    hint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What tuning would do on one host. No changes: all is as the policy wants it. Any refusal: it must not be applied."""

    policy: Policy
    changes: tuple[Change, ...]
    """In the order in which they are made."""
    skips: tuple[Skip, ...]
    refusals: tuple[Refusal, ...]
    """Not empty: it can be read and not applied."""
    host: str
    """What it was made for, in words: kernel, CPUs, memory, engines."""

    @property
    def digest(self) -> str:
        """SHA-256 in hex over what it sets; the name of the plan in journals and in the heads of generated files."""
        import hashlib
        import json

        rows = [[str(change.setting), change.old, change.new] for change in self.changes]
        return hashlib.sha256(json.dumps([self.policy, rows]).encode()).hexdigest()


class Held(StrEnum):
    """What verifying one change found."""

    HOLDS = "holds"
    DIFFERS = "differs"
    PENDING = "pending"
    """Written; takes effect at a restart of the unit or at the next boot."""
    UNKNOWN = "unknown"
    """Could not be read: never counts as holding."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """What reading a change back showed; `because` says why it does not hold, and is "" when it does."""

    change: Change
    held: Held
    effective: str | None
    """What was read; None when nothing could be."""
    because: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovered:
    """How a change that was interrupted, by a kill or a power cut, was brought to its end."""

    kind: str
    """What was interrupted: "apply" was rolled back, "undo" was brought to its end, "commit" had been made; "unreadable" is
    what a journal that cannot be read would have told."""
    drifted: tuple[str, ...]
    abandoned: tuple[str, ...] = ()
    journal: str = ""
    """Where the journal of what was given up lies now; "" when nothing was."""
