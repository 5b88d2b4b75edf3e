"""A knob: one row of the catalog, and what it says should hold on a machine.

A row names where a value is read, how its text is understood and compared, when it applies, why, and what speaks for it.
Conditions, formulas and facts are names that plan/rules defines: data never imports code.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from bedplate.model.knob_value import Compare, Parse
from bedplate.model.plan_part import Part


class KnobKind(StrEnum):
    """Where a knob is found, and so what reads and sets it."""

    SYSCTL = "sysctl"
    SYSFS = "sysfs"
    CMDLINE = "cmdline"
    """Kernel command line."""
    CGROUP = "cgroup"
    UNIT = "unit"
    """A property of a systemd unit: a limit, a slice, an OOM score."""
    PROCESS = "process"
    """Something an engine's process has or does: affinity, policy, environment, flags."""
    PCI = "pci"
    VENDOR = "vendor"
    """What a vendor's library or tool says and sets."""
    CONFIG = "config"
    """A choice made when the kernel was built."""
    SERVICE = "service"
    COUNTER = "counter"
    """Read only: a sensor."""
    MOUNT = "mount"
    FIRMWARE = "firmware"


class Recommendation(StrEnum):
    """What the catalog says to do about it."""

    ADOPT = "adopt"
    """Set it where its conditions hold."""
    CONDITIONAL = "conditional"
    """Right only under its conditions; measure it."""
    AUDIT = "audit"
    """Report it; nothing is changed without a reason."""
    EXPERIMENT = "experiment"
    """No gain was shown: an A/B on this host decides. It never makes a finding."""
    LEAVE = "leave"
    """The kernel's default is right."""
    HARMLESS = "harmless"
    """Nothing to gain and nothing to lose."""
    CARGO_CULT = "cargo-cult"
    """Copied from profile to profile; it has no effect, or harms."""
    HARMFUL = "harmful"
    """It costs speed or safety, according to measurements."""
    REJECT = "reject"
    """Its price is too high for the speed."""
    DEAD = "dead"
    """The kernel no longer has it, or was built without it."""


class Grade(StrEnum):
    """How good the evidence is."""

    A = "A"
    """Controlled A/B or bisect, mostly on inference."""
    B = "B"
    """Measured in a nearby domain, production practice, or a strong field report."""
    C = "C"
    """Advice of a vendor or of the kernel's documentation, without numbers."""
    N = "N"
    """No evidence found."""


class ChangeNeed(StrEnum):
    """What it takes until a new value is in force: rights to write it, a restart of something, or a person at the BIOS."""

    ROOT = "root"
    REBOOT = "reboot"
    ENGINE_RESTART = "engine-restart"
    FIRMWARE = "firmware"
    """A setting of the BIOS."""


class Absent(StrEnum):
    """What a check concludes where the kernel does not have what it reads."""

    HOLDS = "holds"
    FAILS = "fails"
    DOES_NOT_APPLY = "does-not-apply"


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing that is read and compared. It reads files, or a command-line parameter, or an option of the kernel's
    configuration, or a fact that plan/rules/rows makes (of the files of `paths`, where it needs some)."""

    parse: Parse
    compare: Compare
    paths: tuple[str, ...] = ()
    """Files by absolute path; "*" stands for anything within one name."""
    parameter: str = ""
    """Of the kernel command line, "isolcpus"; each of its occurrences is judged."""
    config: str = ""
    """"CONFIG_PSI"."""
    fact: str = ""
    """Name of a fact."""
    writes: bool = False
    """The fact's source is the file that holds its value, so that a plan can write it there."""
    want: tuple[str, ...] = ()
    """What it is compared with: one value, or those of one-of, contains and not-contains."""
    formula: str = ""
    """Name of a formula that gives the one wanted value instead."""
    set: str = ""
    """The value that the fix writes, where that is not the first of `want`."""
    when: tuple[str, ...] = ()
    """Conditions of this check beside those of the row."""
    absent: Absent | None = None
    """None: a parameter that is not given holds; anything else that is absent does not apply."""
    told_by: tuple[str, ...] = ()
    """Ids of other rules that tell its failure with more detail: where one of them does not hold, this is in no finding."""

    @property
    def when_absent(self) -> Absent:
        """What absence means here."""
        if self.absent is not None:
            return self.absent
        return Absent.HOLDS if self.parameter else Absent.DOES_NOT_APPLY


@dataclass(frozen=True, slots=True, kw_only=True)
class Knob:
    """One row of catalog/knobs: what can be set, what should hold on which machines, why, and on what evidence."""

    id: str
    """Stable: "numa.zone_reclaim"; its finding is "knob.numa.zone_reclaim"."""
    name: str
    kind: KnobKind
    interface: tuple[str, ...]
    """As the kernel, systemd or the vendor call it."""
    problem: str
    """What goes wrong, or what it is believed to solve."""
    why: str
    """Why the wanted value."""
    applies: str
    """When, in words; `when` has what of it can be decided from facts."""
    wanted: str
    """In words; `check` has what of it can be compared."""
    verdict: Recommendation
    verdict_note: str
    """The verdict in the words of the survey that it comes from."""
    grade: Grade
    evidence: str
    risk: str
    """"" when none is known."""
    needs: tuple[ChangeNeed, ...]
    persist: str
    """How it survives a reboot; "" when it cannot or need not."""
    reversible: str
    sources: tuple[str, ...] = ()
    """Titles; () only with grade N. A row names S1, S2, ... of catalog/sources.toml, the loader makes "S1: title" of it."""
    unchecked: str = ""
    """What of the row nobody looked up again."""
    effect: str = ""
    """The published number, in words, with its source; "" when there is none."""
    effect_percent: float | None = None
    """The same for ranking: by how much the right value is better where it matters. None where the number is of another
    kind (a first call, a single stall)."""
    when: tuple[str, ...] = ()
    """Names of conditions; all must be true."""
    target: str = ""
    """Name of a formula that says what would be right here, where it is not what a check compares with."""
    part: Part | None = None
    """The part of a plan that sets it: a policy that leaves the part out leaves the row alone. None: it has no part of its
    own, and is at most taken back."""
    not_planned: str = ""
    """Why no plan sets it, in a phrase, though its part is planned."""
    boot_flag: str = ""
    """The flag of the kernel command line that gives what is wanted after a reboot, "psi=1"."""
    kernel_computes: bool = False
    """Whether the kernel computes the value: only what a file sets at boot was somebody's choice, and is taken back."""
    for_safety: bool = False
    """Whether somebody who sets it pays speed for safety: it is reported, and no plan takes it back."""
    conflicts: tuple[str, ...] = ()
    """Ids of rows that must not be adopted together with it, or that it makes pointless."""
    knob: str = ""
    """The row that this one is a wrong form of; judged with it when it has no check of its own."""
    instead: str = ""
    """What to do instead, for settings that should not be there."""
    check: tuple[Check, ...] = ()
    not_evaluable: str = ""
    """Why facts cannot decide it; "" when they can."""
    say_unknown: bool = False
    """Whether "not known" is a finding of its own (INFO) where this user was denied what root could read."""
    fix: tuple[str, ...] = ()
    """Commands where they do not follow from what is read, for each place where the row does not hold.

    {want} {old} {path} are replaced by the wanted value, the one that was read and its file; {target} by the value of the
    row's formula; {name} by the unit, process or device; {text} by what was read in words; {id} by the row's id;
    {old:/a/path} by what another file of the row held.
    """
    undo: tuple[str, ...] = ()
