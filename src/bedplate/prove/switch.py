"""Turning a change on and off during an experiment, and putting back what was before, whatever happens."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from bedplate.act.lock import hold_lock
from bedplate.act.paths import Paths
from bedplate.act.tuning import apply_plan, recover, undo
from bedplate.errors import BedplateError, PreflightError
from bedplate.model.knob import Need
from bedplate.model.tuning import Means, Plan

STATE = "/run/bedplate/prove"


@contextmanager
def one_experiment() -> Iterator[None]:
    """One at a time on a host: a second would take back the first one's change, and be its foreign load.

    What one that was killed left switched on is taken back first. Raises PreflightError for who is not root, BusyError.
    """
    directory = Path(f"{STATE}.lock")
    try:
        with hold_lock(Paths(cache=directory, state=directory), "prove"):
            recover(state=STATE)
            undo(state=STATE)
            yield
    except PermissionError as error:
        raise PreflightError(
            f"{directory}: {error.strerror}", hint="Proving a change needs root: run it with sudo."
        ) from error


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
    """A plan that is applied and undone as a transaction of its own: written, read back, taken back from its journal.

    Within one_experiment(). What `bedplate tune apply` has in force is left alone below it.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._on = False

    @property
    def restarts(self) -> bool:
        return any(Need.ENGINE_RESTART in one.needs for one in self._plan.changes)

    def turn(self, *, on: bool) -> None:
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
                f"somebody else changed what is being proved: {', '.join(undone.drifted)}",
                hint="Find out who sets it, and prove it again.",
            )

    def close(self) -> None:
        """Put back what was before; called more than once without harm."""
        self.turn(on=False)


def keep_applied(plan: Plan) -> None:
    """Leave a plan applied after its experiment, as `bedplate tune apply` would: `bedplate tune undo` takes it back."""
    apply_plan(plan)
