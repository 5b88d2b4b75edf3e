"""Tuning as a transaction: apply a plan, see whether it holds, take it back. What another room calls.

Each function takes the lock of this host, first brings an interrupted change to before or after, and raises BusyError when
somebody else is at it. `state` names another directory for the journal than the usual: a transaction of its own over what is
applied (an arm of prove).
"""

from __future__ import annotations

from pathlib import Path

from bedplate.act.tuning import transaction
from bedplate.act.tuning.journal import read_in_force
from bedplate.act.tuning.place import hold_tune_lock, make_place
from bedplate.act.tuning.services import Services, Systemctl
from bedplate.act.tuning.transaction import Applied, OnStep, Recovered, Undone
from bedplate.model.tuning import Plan, Verified

__all__ = ["Applied", "Recovered", "Undone", "apply_plan", "read_applied", "recover", "undo", "verify_plan"]

_WHOLE = Path("/")


def apply_plan(
    plan: Plan,
    *,
    root_dir: Path = _WHOLE,
    state: str | None = None,
    persist: bool = False,
    on_step: OnStep | None = None,
    services: Services | None = None,
) -> Applied:
    """Carry out a plan, in place of the one that is applied. Raises PlanRefused before anything is changed, BedplateError
    when a step failed and all was taken back."""
    place, manager = make_place(root_dir, persist=persist, state=state), services or Systemctl(root_dir)
    with hold_tune_lock(root_dir):
        transaction.recover(place, manager)
        return transaction.apply(plan, place, manager, on_step=on_step)


def undo(
    *,
    root_dir: Path = _WHOLE,
    state: str | None = None,
    persist: bool = False,
    on_step: OnStep | None = None,
    services: Services | None = None,
) -> Undone:
    """Take back what is applied, where it still has our value; what is drifted is named and left."""
    place, manager = make_place(root_dir, persist=persist, state=state), services or Systemctl(root_dir)
    with hold_tune_lock(root_dir):
        transaction.recover(place, manager)
        return transaction.undo(place, manager, on_step=on_step)


def recover(
    *, root_dir: Path = _WHOLE, state: str | None = None, persist: bool = False, services: Services | None = None
) -> Recovered | None:
    """Bring an interrupted change to before or after; None when there is none."""
    with hold_tune_lock(root_dir):
        return transaction.recover(make_place(root_dir, persist=persist, state=state), services or Systemctl(root_dir))


def verify_plan(
    plan: Plan, *, root_dir: Path = _WHOLE, services: Services | None = None, since_s: float | None = None
) -> tuple[Verified, ...]:
    """What is in force of a plan, applied by whom ever. Needs no lock and changes nothing."""
    from bedplate.act.tuning.effective import verify_changes
    from bedplate.host.root import Root

    return verify_changes(plan.changes, root=Root(root_dir), services=services or Systemctl(root_dir), since_s=since_s)


def read_applied(*, root_dir: Path = _WHOLE, state: str | None = None, persist: bool = False) -> Plan | None:
    """The plan that is applied; None when none is."""
    found = read_in_force(make_place(root_dir, persist=persist, state=state))
    return found.plan if found is not None else None
