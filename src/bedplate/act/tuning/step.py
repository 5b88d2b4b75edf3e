"""What a transaction does, step by step, and what is recorded of it: the values that journals and applied.json hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from bedplate.act.tuning.kinds.kind import StepKind
from bedplate.act.tuning.services import Services
from bedplate.host.root.root import Root
from bedplate.model.knob_value import Parse
from bedplate.model.tuning import Change, Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where a step writes, and what its kind must know to read and to restore it."""

    kind: StepKind
    path: str = ""
    """As on the machine; "" for a command."""
    key: str = ""
    """The device whose line of a file of the kernel is meant, "259:0"; "" for a file of one value."""
    parse: Parse = Parse.WORDS
    """Of a file of the kernel."""
    counterpart: str = ""
    """Text of the file that sets the same in another unit, where writing one clears the other (vm.dirty_bytes and
    vm.dirty_ratio); "" where there is none."""
    lasts: bool = True
    """Whether a boot brings the text back. False: only a file of the kernel without a generated file that sets it again."""
    unit_file: bool = False
    """Whether systemd must read its files again when this one, or this directory, changes."""

    @property
    def address(self) -> tuple[str, str, str]:
        """Equal for two targets that are the same place of the machine."""
        return self.kind.journal_name, self.path, self.key


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A target and the text that it shall have. Directories have the text ""."""

    target: Target
    text: str
    change: Change | None = None
    """The change that the text alone makes; None where a file makes several."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One target from one text to another; None: it is not there. Both are None for a command."""

    target: Target
    before: str | None = None
    after: str | None = None

    @property
    def inverse(self) -> Step:
        """The step back."""
        return replace(self, before=self.after, after=self.before)

    def __str__(self) -> str:
        return self.target.kind.describe(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class AppliedValue:
    """What an applied plan has written to a target, and what was there before bedplate first wrote it."""

    target: Target
    before: str | None
    """None: it was not there."""
    written: str
    """As it was read back. A target that reads otherwise now was changed by something else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AppliedRecord:
    """What applied.json holds: the plan that is applied, and what must be known to undo it."""

    plan: Plan
    values: tuple[AppliedValue, ...]
    """In the order in which they were written."""
    number: str
    boot: str
    """boot_id of the boot in which it was applied."""
    made_s: float
    """CLOCK_MONOTONIC of that boot: units started after it run with what it set."""
    made: str
    """UTC, ISO 8601."""
    confirm: str = ""
    """Name of the timer that undoes it; "" when it is confirmed or needs no confirmation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepContext:
    """Where the steps of one transaction are made, and all of them: a command depends on the others."""

    root: Root
    services: Services
    steps: Sequence[Step]
