"""Turning a change on and off during an experiment, and putting back what was before, whatever happens."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from bedplate.errors import BedplateError, PreflightError
from bedplate.model.knob import Need
from bedplate.model.tuning import Means, Plan


class Switch(Protocol):
    """A change that can be turned on and off at run time."""

    @property
    def restarts(self) -> bool:
        """Whether the victim must start anew for it to take effect."""

    def turn(self, *, on: bool) -> None:
        """Make it so; does nothing when it is. Raises BedplateError when it cannot."""


def check_provable(plan: Plan) -> None:
    """Raise PreflightError for a plan that cannot be turned on and off here: each reason in a sentence."""
    problems = [f"{one.what}: {one.because}" for one in plan.refusals]
    for change in plan.changes:
        if change.setting.means is Means.CMDLINE or Need.REBOOT in change.needs:
            problems.append(f"{change.setting}: takes effect at a reboot, and one host cannot be both arms")
        elif Need.FIRMWARE in change.needs:
            problems.append(f"{change.setting}: is set in the firmware")
        elif not change.reversible:
            problems.append(f"{change.setting}: cannot be undone, so it has no second arm")
    if problems:
        raise PreflightError(
            "cannot be proved here:\n" + "\n".join(problems),
            hint="Prove one setting that can be switched at run time: bedplate prove --setting NAME=VALUE.",
        )
    if not plan.changes:
        skipped = "; ".join(f"{one.knob}: {one.reason}" for one in plan.skips[:3])
        raise BedplateError(
            f"there is nothing to prove: the plan changes nothing{f' ({skipped})' if skipped else ''}",
            hint="It may be applied already; undo it first: bedplate tune undo.",
        )


class PlanSwitch:
    """The changes of a plan that are files of the kernel, written directly."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        others = [str(one.setting) for one in plan.changes if one.setting.means is not Means.FILE]
        if others:
            raise PreflightError(f"{', '.join(others)}: only files of the kernel can be switched so far")

    @property
    def restarts(self) -> bool:
        return any(Need.ENGINE_RESTART in one.needs for one in self._plan.changes)

    def turn(self, *, on: bool) -> None:
        for one in self._plan.changes if on else reversed(self._plan.changes):
            text = one.new if on else one.old
            if text is None:
                raise BedplateError(f"{one.setting}: its old value is not known, and it cannot be put back")
            try:
                Path(one.setting.name).write_text(text)
            except OSError as error:
                raise BedplateError(f"{one.setting}: cannot write {text!r}: {error.strerror or error}") from error

    def close(self) -> None:
        """Put back what was before; called more than once without harm."""
        self.turn(on=False)


def keep_applied(plan: Plan) -> None:
    """Leave a plan applied after its experiment."""
    PlanSwitch(plan).turn(on=True)
