"""What the transaction asks of each kind of thing that tuning can change; it knows nothing else of them.

A plan names settings, and a step writes a target. A file of the kernel is both: its step writes the value. A property of a
unit and a parameter of the kernel are settings only: they become lines of a generated file, and a step writes that file.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from enum import IntEnum
from typing import TYPE_CHECKING, ClassVar

from bedplate.act.tuning.place import Place
from bedplate.act.tuning.services import Services
from bedplate.host.root.root import Root
from bedplate.model.tuning import Change, Held, Setting, Verified

if TYPE_CHECKING:
    from bedplate.act.tuning.step import AppliedValue, Step, StepContext, Target, Wanted


TextsBefore = dict[str, str | None]
"""Path -> the text of a file as it was before the applied plan; None: it was not there."""


class Stage(IntEnum):
    """When a transaction makes the steps of a kind. What it reverts of an earlier plan it reverts in the other order."""

    GENERATE = 1
    """Files and directories that other programs read."""
    RUN = 2
    """The programs that read those files again."""
    WRITE = 3
    """Values that the kernel takes at once."""


class SettingKind(ABC):
    """One kind of setting that a plan can name."""

    settles_later: ClassVar[bool] = False
    """Whether the kernel may show a new value only some time after the last step."""
    needs_boot: ClassVar[bool] = False
    """Whether its changes take effect only at a boot, and so only in a mode whose files last until then."""
    generated: ClassVar[tuple[str, ...]] = ()
    """Patterns of the files that its settings are written to, relative to "/": `uninstall` looks for forgotten ones."""

    @abstractmethod
    def owns(self, setting: Setting) -> bool:
        """Whether the setting is of this kind. The first kind of the registry that says so counts."""

    def identity(self, change: Change) -> tuple[object, ...]:
        """What two changes of one plan must not have in common: they would overwrite each other."""
        return (change.setting,)

    def files_of(self, setting: Setting) -> tuple[str, ...]:
        """Paths of the kernel's files that are the setting itself; () where it has none of its own."""
        return ()

    def refuse(self, place: Place, services: Services) -> str | None:
        """Why no change of this kind can be made on this host in this mode; None when they can be."""
        return None

    @abstractmethod
    def check(self, change: Change, root: Root) -> str | None:
        """Why this change must not be made, whatever the value is now; None when nothing is wrong. Reads only."""

    @abstractmethod
    def plan_targets(self, changes: Sequence[Change], place: Place, digest: str) -> Iterable[Wanted]:
        """The targets with the texts that put the changes in force, and make them last where the place is for all boots.

        digest: of the plan, for the heads of generated files. The changes were checked.
        """

    @abstractmethod
    def satisfies(self, change: Change, text: str) -> bool | None:
        """Whether an effective text is what the change wants; None when they cannot be compared."""

    @abstractmethod
    def verify(
        self, changes: Sequence[Change], *, root: Root, services: Services, since_s: float | None
    ) -> tuple[Verified, ...]:
        """What is in force of each change, in their order. Never raises for what cannot be read: that is UNKNOWN.

        since_s: CLOCK_MONOTONIC in seconds at which they were applied; None when that was in another boot.
        """

    def find_unreverted(self, changes: Sequence[Change], *, root: Root, services: Services) -> tuple[Verified, ...]:
        """Changes of a plan that was undone whose old value is not back, each as a change to that value.

        Of a kind whose steps are read back there are none: `StepKind.restore` says what did not go back.
        """
        return ()

    @abstractmethod
    def texts_before(self, changes: Sequence[Change], values: Sequence[AppliedValue], root: Root) -> TextsBefore:
        """Path -> text of files that would read otherwise without the applied plan, whose changes and values these are.

        None: the file was not there. What somebody else changed since is left out. The planner reads the machine with these
        texts, and needs to know nothing else of what is applied.
        """

    def judge(self, change: Change, text: str) -> Verified:
        """HOLDS or DIFFERS for an effective text; UNKNOWN when it cannot be compared with what the change wants."""
        answer = self.satisfies(change, text)
        if answer is None:
            return report(change, Held.UNKNOWN, text, f"{text[:60]!r} cannot be compared with {change.new!r}")
        if answer:
            return report(change, Held.HOLDS, text)
        return report(change, Held.DIFFERS, text, f"wanted {change.new}, the kernel shows {text or 'nothing'}")


class StepKind(ABC):
    """One kind of target that a step writes. A text of None means: not there."""

    journal_name: ClassVar[str]
    """In journals and applied.json ("act"). Renaming it makes those of interrupted changes unreadable."""
    stage: ClassVar[Stage]

    def owns_path(self, path: str) -> bool:
        """Whether it writes this path, of kinds that have one name in journals."""
        return True

    @abstractmethod
    def describe(self, step: Step) -> str:
        """The step in words, "write /proc/sys/vm/swappiness"."""

    def read(self, target: Target, root: Root) -> str | None:
        """What is there now, as it can be written again; None when nothing is.

        Raises GoneError for a file of the kernel that went away, BedplateError for one that is there and cannot be read.
        """
        return None

    def is_same(self, target: Target, text: str | None, other: str | None) -> bool:
        """Whether two texts of the target mean the same."""
        return text == other

    def find_conflict(self, wanted: Wanted, now: str | None, root: Root, *, applied: bool) -> str | None:
        """Why what is there now must not be overwritten; None when it may be. applied: it is what bedplate wrote."""
        return None

    def is_wanted(self, wanted: Wanted, now: str | None) -> bool:
        """Whether nothing has to be done, since `now` is as wanted already."""
        return now == wanted.text

    def say_changed(self, value: AppliedValue, now: str | None) -> str:
        """A sentence for what is left as it is, since it is not what bedplate wrote."""
        return f"{value.target.path}: was changed since it was written: left as it is"

    @abstractmethod
    def write(self, step: Step, context: StepContext) -> str:
        """Make the step, and return what is read back after it.

        Raises GoneError when the target is not there any more, BedplateError with the kernel's word when it is refused.
        """

    def took(self, step: Step, now: str, change: Change | None) -> bool:
        """Whether the text that was read back is what the step, or the change that it is made for, wanted."""
        return True

    @abstractmethod
    def restore(self, step: Step, context: StepContext, *, left: str | None, torn: bool) -> str | None:
        """Bring the target to `step.after`, whatever was done of it; return why it was left alone, None when it was not.

        left: what bedplate left there last. torn: a process was killed while it wrote there, so that it may hold anything.
        Raises as `write` does, and OSError.
        """

    def sweep(self, step: Step, root: Root) -> None:  # noqa: B027 (most kinds are written at once)
        """Remove what a process that was killed left half written."""

    def finish(self, step: Step, root: Root) -> None:  # noqa: B027 (most kinds leave nothing behind)
        """Remove what the step left behind for a way back, when the transaction has ended."""


class Command(StepKind):
    """A program that reads generated files again. Its way back is to run once more, when all files are as they were."""

    stage = Stage.RUN

    @abstractmethod
    def is_due(self, steps: Sequence[Step]) -> bool:
        """Whether one of these steps writes a file that the program reads."""

    def run_again(self, step: Step, begun: Sequence[Step], context: StepContext) -> None:
        """Make the command's step once more after files were restored, where it is due; raises as `write` does.

        begun: the steps that may have changed something.
        """
        if self.is_due(begun):
            self.write(step, context)

    def restore(self, step: Step, context: StepContext, *, left: str | None, torn: bool) -> str | None:
        return None


def report(change: Change, held: Held, effective: str | None, because: str = "") -> Verified:
    """What reading one change back showed; because: "" where it holds."""
    return Verified(change=change, held=held, effective=effective, because=because)
