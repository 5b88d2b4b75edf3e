"""What a configuration makes of a machine: files with their text, and what must act for each to be in force."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class UnitVerb(StrEnum):
    """What is asked of the service manager, in the order in which it is asked."""

    READ_UNITS = "read-units"
    """Read all unit files again."""
    RELOAD = "reload"
    """Read the unit's configuration again; one that cannot is restarted."""
    RESTART = "restart"


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitAction:
    """One thing to ask of the service manager after a file has changed."""

    verb: UnitVerb
    unit: str = ""
    """"systemd-networkd.service"; "" for READ_UNITS."""

    def __str__(self) -> str:
        """As people read it, and as records keep it: "reload systemd-networkd.service", "read-units"."""
        return f"{self.verb} {self.unit}".rstrip()


@dataclass(frozen=True, slots=True, kw_only=True)
class RenderedFile:
    """A file that a configuration wants, as on the machine."""

    path: str
    text: str
    """Whole, with its line end."""
    table: str
    """The table or key of machine.toml that it comes from: "network"."""
    kernel: bool = False
    """A file of the kernel: written in place, and left out where the kernel does not have it."""
    actions: tuple[UnitAction, ...] = ()
    """What makes a change of it take effect, also when it is removed; () for what takes effect when it is written."""
    mode: int = 0o644


@dataclass(frozen=True, slots=True, kw_only=True)
class FileChange:
    """What becomes of a file; old and new differ."""

    path: str
    table: str
    old: str | None
    """The text that is there; None: no such file."""
    new: str | None
    """None: it is removed."""
    kernel: bool = False
    actions: tuple[UnitAction, ...] = ()
    mode: int = 0o644

    @property
    def what(self) -> str:
        """ "write", "replace" or "remove"."""
        return "remove" if self.new is None else "write" if self.old is None else "replace"


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnedFile:
    """A file that the configuration in force has written."""

    file: RenderedFile
    before: str | None
    """Its text before any configuration wrote it; None: it was not there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigIdentity:
    """Which configuration this is, and how it came."""

    number: int
    """Of this machine: it rises with each apply."""
    at: str
    """When it was applied, UTC: "2026-11-30T21:04:05Z"."""
    who: str
    source: str
    """Path of the file that was given."""
    sha256: str
    """Of that file's bytes."""
    sequence: int
    """As the file says; 0 for one that is not signed."""
    key: str = ""
    """The public key that signed it, 44 characters of base64; "" for none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AppliedConfig:
    """The configuration that is in force, and the one it replaced while nobody has confirmed it."""

    identity: ConfigIdentity
    text: str
    """The file that was given, whole."""
    files: tuple[OwnedFile, ...]
    waits: bool = False
    """It is taken back unless it is confirmed."""
    previous: AppliedConfig | None = None
    """What comes back then; None: what was there before any configuration. Kept only while it waits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyChange:
    """A key of machine.toml whose value differs; None stands for a table that one of the two does not have."""

    key: str
    """As messages write it: "network.link[0].mtu"."""
    old: object
    new: object


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigPlan:
    """What applying a configuration would do to a machine."""

    path: str
    """The file that was given."""
    sha256: str
    sequence: int
    key: str
    """The public key that signed it, where the machine asks for one; "" otherwise."""
    keys: tuple[KeyChange, ...]
    """Against what is in force."""
    files: tuple[FileChange, ...]
    actions: tuple[UnitAction, ...]
    """What the service manager is asked then."""
    notes: tuple[str, ...]
    """What does not take effect at once, or not on this host, each a sentence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigOutcome:
    """What applying came to."""

    plan: ConfigPlan
    identity: ConfigIdentity | None
    """What is in force now; None where nothing had to change, or nothing was to be changed."""
    waits_s: int | None = None
    """It is taken back after that time unless it is confirmed; None: it stays."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownConfig:
    """The configuration that counts on a machine."""

    source: str
    """The machine.toml that is read; "" where there is none, and every key has its default."""
    values: Mapping[str, object]
    """Every key with its value."""
    defaults: Mapping[str, object]
    """The same of an empty file."""
    identity: ConfigIdentity | None
    """How it came into force; None where nothing was ever applied."""
    waits: bool
    """It is taken back unless it is confirmed."""
    by_hand: bool
    """The file is not what was applied last."""


def unit_actions(changes: tuple[FileChange, ...]) -> tuple[UnitAction, ...]:
    """What to ask after these changes, each once, by verb and then in the order of the files: unit files are read first, and
    the network is there before what is restarted."""
    asked = dict.fromkeys(action for change in changes for action in change.actions)
    order = list(UnitVerb)
    return tuple(sorted(asked, key=lambda action: order.index(action.verb)))
