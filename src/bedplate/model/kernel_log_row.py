"""What the catalog knows of one message of the kernel, or of one code of a driver: what it means and what to do."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from bedplate.model.facts.finding import Severity


class Fault(StrEnum):
    """Where the cause most likely is."""

    HARDWARE = "hardware"
    """The device, its slot, cable, power or cooling."""
    DRIVER = "driver"
    """The driver, its firmware, or the kernel."""
    APPLICATION = "application"
    """The program that used the device."""
    SETUP = "setup"
    """The configuration of the machine: versions, firmware settings, limits."""
    UNKNOWN = "unknown"
    """The message alone does not show it."""


class Remedy(StrEnum):
    """What to do first; kernel_log.toml has the steps of each."""

    NOTHING = "nothing"
    RESTART_APPLICATION = "restart-application"
    DRAIN_AND_RESET = "drain-and-reset"
    """Move the work away, then reset the device."""
    REBOOT = "reboot"
    POWER_CYCLE = "power-cycle"
    """Switch the power off, so that the device loses its state."""
    CHECK_HARDWARE = "check-hardware"
    """Look at seat, cable, power and cooling."""
    REPLACE = "replace"
    CONFIGURE = "configure"
    """Change a setting or install another version."""
    REPORT = "report"
    """Collect what the vendor needs, and ask."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SaidSeverity:
    """How severe a message is that says what has to be done: its own words tell, not its number."""

    text: str
    """What the message has within it."""
    severity: Severity


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelLogRow:
    """One row of catalog/kernel_log.toml, nvidia_xid.toml or nvidia_sxid.toml."""

    id: str
    """ "aer-fatal"; "xid-79" and "sxid-12028" for the code of a driver."""
    title: str
    """What happened, as a sentence of this machine; {place} and {process} stand for what the message names."""
    means: str
    """What the message says, in other words than its own."""
    harm: str
    """What is lost because of it."""
    fault: Fault
    remedy: Remedy
    severity: Severity
    examples: tuple[str, ...]
    """Messages as the kernel writes them, without time and prefix; a test holds each to this row and to no other."""
    source: str
    """Title and address of the document, or the file of the kernel's or driver's source."""
    read: str
    """The day on which the source was read, "2026-11-30"."""
    pattern: str = ""
    """Regular expression that matches from the beginning of a message; its groups address, code, subject and process
    become those of the event, and origin is the address where a port tells of a device below it; port is the address where
    it names none. Empty for a code, which the row of its family finds."""
    contains: tuple[str, ...] = ()
    """Texts of which a message has one, for rows whose messages begin with the name of any driver; without it, a message
    begins with the same word as one of the examples."""
    reports_as: str = ""
    """Id of a finding or of another row that says the same: "driver.wrong-flavour"."""
    told_by: tuple[str, ...] = ()
    """Ids of findings that, where they hold, say it with more detail."""
    causes: tuple[str, ...] = ()
    """Ids of rows, with * as in a shell, whose messages about the same device follow from this one."""
    before_s: float = 5.0
    """How long before this message a consequence may be logged."""
    after_s: float = 120.0
    """How long after it."""
    anywhere: bool = False
    """Whether its consequences may name another device, or none."""
    alone: bool = True
    """Whether it is a finding without a cause; a detail of other messages is only their evidence."""
    least: int = 1
    """Fewer messages than this are no finding."""
    engine_severity: Severity | None = None
    """The severity where the process that it names is one of an inference engine."""
    nonfatal_severity: Severity | None = None
    """The severity of a message that itself says "Nonfatal"."""
    said: tuple[SaidSeverity, ...] = ()
    """The severity by what the message says; the first that is in it counts. As a consequence, too, it makes its cause more
    severe."""
    many: int = 0
    """From this number of messages on, the severity is many_severity; 0: never."""
    many_severity: Severity | None = None
    fix: tuple[str, ...] = ()
    """Commands and sentences instead of those of the remedy."""
    fix_in_vm: tuple[str, ...] = ()
    """The same, on a virtual machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RemedySteps:
    """How a remedy is carried out: one [[remedy]] of kernel_log.toml."""

    id: Remedy
    fix: tuple[str, ...]
    """Commands, and sentences that begin with "#"; {address} stands for the PCI address."""
    fix_in_vm: tuple[str, ...]
    """The same on a virtual machine, whose hardware the user cannot touch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeClass:
    """What codes of one kind have in common: one of the kinds in nvidia_xid.toml or nvidia_sxid.toml."""

    id: str
    harm: str
    fault: Fault
    remedy: Remedy
    severity: Severity
    nonfatal_severity: Severity | None = None
    said: tuple[SaidSeverity, ...] = ()
    causes: tuple[str, ...] = ()
    before_s: float = 5.0
    after_s: float = 120.0
    anywhere: bool = False
    fix: tuple[str, ...] = ()
    fix_in_vm: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class DriverCode:
    """One code of a driver: a line of `codes` in nvidia_xid.toml or nvidia_sxid.toml."""

    code: int
    name: str
    """What the driver's source calls it."""
    says: str
    """What the device did, as the rest of a sentence that begins with its address: "has fallen off the bus"."""
    kind: str
    """Id of one of the kinds."""
    text: str
    """What the driver writes behind the number, as an example."""
    of: str
    """Id of the document that has it."""
    note: str = ""
    """What one should know besides, as sentences."""
    severity: Severity | None = None
    """Instead of that of the kind."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeSource:
    """A document with codes: a [[source]] of nvidia_xid.toml or nvidia_sxid.toml."""

    id: str
    title: str
    read: str
    """The day on which it was read."""
