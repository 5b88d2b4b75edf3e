"""One thing that a transaction does, with what was there before and what shall be there after; and what it then holds."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from bedplate.model.knob_value import Parse


class Act(StrEnum):
    """What a step does. The values stand in journals: renaming one makes those of interrupted changes unreadable."""

    KERNEL = "kernel"
    """A file of the kernel is written."""
    FILE = "file"
    """A generated file comes, changes or goes."""
    DIRECTORY = "directory"
    RELOAD = "reload"
    """The service manager reads its files again. Its undo is the same."""
    GRUB = "grub"
    """The boot loader's configuration is made again. Its undo is the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """before and after are texts; None: not there. For a directory "" means: there."""

    act: Act
    path: str
    """As on the machine; "" for RELOAD and GRUB."""
    before: str | None = None
    after: str | None = None
    parse: Parse = Parse.WORDS
    twin: str = ""
    """KERNEL: text of the file that says the same in another unit, where writing one clears the other (vm.dirty_bytes and
    vm.dirty_ratio); "" where there is none."""
    lasts: bool = True
    """KERNEL: whether the value comes back after a boot, by a generated file."""
    key: str = ""
    """KERNEL: the device whose line of the file is meant, "259:0"; "" for a file of one value."""
    unit_file: bool = False
    """FILE, DIRECTORY: whether systemd must read its files again after it."""

    def __str__(self) -> str:
        match self.act:
            case Act.KERNEL:
                return f"write {self.path}"
            case Act.FILE:
                return f"remove {self.path}" if self.after is None else f"write {self.path}"
            case Act.DIRECTORY:
                return f"remove directory {self.path}" if self.after is None else f"make directory {self.path}"
            case Act.RELOAD:
                return "reload systemd"
            case Act.GRUB:
                return "make the boot menu again"


@dataclass(frozen=True, slots=True, kw_only=True)
class Holding:
    """What is ours now: the text that was there before we came, and the one that says that nobody came after us."""

    act: Act
    path: str
    baseline: str | None
    ours: str
    parse: Parse = Parse.WORDS
    twin: str = ""
    lasts: bool = True
    key: str = ""
    unit_file: bool = False
