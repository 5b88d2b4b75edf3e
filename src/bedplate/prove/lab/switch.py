"""Turning a change on and off during an experiment, and putting back what was before, whatever happens."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from bedplate.act.lock import hold_lock
from bedplate.act.paths import Paths
from bedplate.act.tuning import apply_plan, needs_boot, recover, undo
from bedplate.errors import BedplateError, PreflightError
from bedplate.model.knob import ChangeNeed
from bedplate.model.tuning import Plan
from bedplate.plan.tune.refusals import UNIT_NEEDS

STATE = "/run/bedplate/prove"


@contextmanager
def one_experiment(verb: str = "prove") -> Iterator[None]:
    """One at a time on a host: a second would take back the first one's change, and be its foreign load.

    verb: who holds it, for those who come second.

    What one that was killed left switched on is taken back first. Raises PreflightError for who is not root, BusyError.
    """
    directory = Path(f"{STATE}.lock")
    try:
        with hold_lock(Paths(cache=directory, state=directory), verb):
            recover(state=STATE)
            undo(state=STATE)
            yield
    except PermissionError as error:
        raise PreflightError(f"{directory}: {error.strerror}", hint="Run the command with sudo: it needs root.") from error


class Switch(Protocol):
    """A change that can be turned on and off at run time."""

    @property
    def restarts(self) -> bool:
        """Whether the victim must start anew for it to take effect."""

    def turn(self, *, on: bool) -> None:
        """Make it so; does nothing when it is. Raises BedplateError when it cannot."""


def check_provable(plan: Plan) -> None:
    """Raise PreflightError for a plan that cannot be turned on and off here: each reason in a sentence."""
    problems = [f"{refusal.what}: {refusal.because}" for refusal in plan.refusals]
    for change in plan.changes:
        if needs_boot(change.setting) or ChangeNeed.REBOOT in change.needs:
            problems.append(f"{change.setting}: takes effect at a reboot, so one host cannot run both arms")
        elif ChangeNeed.FIRMWARE in change.needs:
            problems.append(f"{change.setting}: is set in the firmware")
        elif not change.reversible:
            problems.append(f"{change.setting}: cannot be undone, so it has no second arm")
    if problems:
        raise PreflightError("cannot be tested on this host:\n" + "\n".join(problems), hint=_hint_of(plan))
    if not plan.changes:
        skipped = "; ".join(f"{skip.knob}: {skip.reason}" for skip in plan.skips[:3])
        raise BedplateError(
            f"no change to test: the plan changes nothing{f' ({skipped})' if skipped else ''}",
            hint="It may be applied already; undo it first: bedplate tune undo.",
        )


def _hint_of(plan: Plan) -> str:
    """What to do about a plan that cannot be proved here."""
    if any(refusal.what in UNIT_NEEDS for refusal in plan.refusals):
        return (
            "Properties of units need systemd and control groups of version 2: test it on a host that has both. "
            "A file of the kernel, such as vm.stat_interval, needs neither."
        )
    if plan.refusals:
        return "\n".join(dict.fromkeys(refusal.hint for refusal in plan.refusals if refusal.hint))
    return "Test a setting that can be switched at run time, such as vm.stat_interval=10."


class PlanSwitch:
    """A plan that is applied and undone as a transaction of its own: written, read back, taken back from its journal.

    Within one_experiment(). What `bedplate tune apply` has in force is left alone below it.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._on = False

    @property
    def restarts(self) -> bool:
        """Whether any change of the plan takes effect only in an engine that starts anew."""
        return any(ChangeNeed.ENGINE_RESTART in change.needs for change in self._plan.changes)

    def turn(self, *, on: bool) -> None:
        """Apply the plan, or take it back from its journal; does nothing when it is so already.

        Raises BedplateError when a change does not take, or when somebody else has changed a setting meanwhile.
        """
        if on == self._on:
            return
        if on:
            self._on = True  # also where it fails half-way: then undo has nothing or little to do
            apply_plan(self._plan, state=STATE)
            return
        undone = undo(state=STATE)
        self._on = False
        if undone.drifted:
            raise BedplateError(
                f"something else changed the tested settings: {', '.join(undone.drifted)}",
                hint="Find the program that changes them, and repeat the test.",
            )

    def close(self) -> None:
        """Put back what was before; called more than once without harm."""
        self.turn(on=False)


def keep_applied(plan: Plan) -> None:
    """Leave a plan applied after its experiment, as `bedplate tune apply` would: `bedplate tune undo` takes it back."""
    apply_plan(plan)
