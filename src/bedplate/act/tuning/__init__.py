"""Tuning as a transaction: apply a plan, see whether it holds, take it back. What every other package calls.

`hold_tuning` takes the lock of a host and gives all that may be done with its transactions (session.py); the functions here
do one thing under the lock, after an interrupted change was brought to before or after. They raise BusyError when somebody
else is at it. What only reads needs no lock.

To understand it read kinds/kind.py, step.py, steps.py, execute.py and transaction.py, in this order.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bedplate.act.tuning import transaction
from bedplate.act.tuning.baseline import read_unapplied
from bedplate.act.tuning.execute import OnStep
from bedplate.act.tuning.journal import read_log, read_record
from bedplate.act.tuning.kinds.registry import kind_of
from bedplate.act.tuning.place import make_place
from bedplate.act.tuning.services import Services
from bedplate.act.tuning.session import OnRecovered, TuningSession, find_services, hold_tuning
from bedplate.act.tuning.transaction import Applied, Undone
from bedplate.host.root.root import Root
from bedplate.model.tuning import Plan, Recovered, Setting, Verified

__all__ = [
    "Applied",
    "Baseline",
    "OnRecovered",
    "OnStep",
    "Services",
    "TuningSession",
    "Undone",
    "apply_plan",
    "files_of",
    "find_services",
    "hold_tuning",
    "is_interrupted",
    "needs_boot",
    "read_applied",
    "read_baseline",
    "read_history",
    "recover",
    "undo",
    "verify_applied",
    "verify_plan",
]

_WHOLE = Path("/")


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """What a plan is made from: the machine before bedplate came, so that planning twice gives the same plan."""

    root: Root
    """The machine as it would be without what is applied."""
    applied: Plan | None
    """What is applied; None when nothing is."""


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
    when a step failed and all was taken back. `state`: as of hold_tuning."""
    with hold_tuning(root_dir, state=state, services=services) as session:
        session.recover(persist=persist)
        return session.apply(plan, persist=persist, on_step=on_step)


def undo(
    *,
    root_dir: Path = _WHOLE,
    state: str | None = None,
    persist: bool = False,
    on_step: OnStep | None = None,
    services: Services | None = None,
) -> Undone:
    """Revert what is applied, where it still has the value that bedplate wrote; what is drifted is named and left."""
    with hold_tuning(root_dir, state=state, services=services) as session:
        session.recover(persist=persist)
        return session.undo(persist=persist, on_step=on_step)


def recover(
    *, root_dir: Path = _WHOLE, state: str | None = None, persist: bool = False, services: Services | None = None
) -> Recovered | None:
    """Bring an interrupted change to before or after; None when there is none."""
    with hold_tuning(root_dir, state=state, services=services) as session:
        return next(iter(session.recover(persist=persist)), None)


def verify_plan(
    plan: Plan, *, root_dir: Path = _WHOLE, services: Services | None = None, since_s: float | None = None
) -> tuple[Verified, ...]:
    """Each change of a plan with what the kernel says of it now, whoever has applied it. Reads only.

    since_s: CLOCK_MONOTONIC at which it was applied, or None when that was in another boot (`verify_changes`). No error for
    a value that cannot be read: it is UNKNOWN.
    """
    from bedplate.act.tuning.verify import verify_changes

    manager = services or find_services(root_dir)
    return verify_changes(plan.changes, root=Root(root_dir), services=manager, since_s=since_s)


def verify_applied(*, root_dir: Path = _WHOLE, services: Services | None = None) -> tuple[Verified, ...] | None:
    """What is in force of what is applied, until the next boot or else for all boots; None when nothing is applied."""
    manager = services or find_services(root_dir)
    found = [transaction.verify(make_place(root_dir, persist=persist), manager) for persist in (False, True)]
    return next((verified for verified in found if verified is not None), None)


def read_applied(*, root_dir: Path = _WHOLE, state: str | None = None, persist: bool = False) -> Plan | None:
    """What `apply_plan` has put in force in this mode and nobody has taken back; None when nothing is.

    Needs no lock. Raises ReadError for a record that this bedplate cannot read.
    """
    record = read_record(make_place(root_dir, persist=persist, state=state))
    return record.plan if record is not None else None


def read_baseline(*, root_dir: Path = _WHOLE, persist: bool = False) -> Baseline:
    """The machine as it would be without what is applied, of the mode that is asked for or else of the other one."""
    place = make_place(root_dir, persist=persist)
    if read_record(place) is None:
        place = make_place(root_dir, persist=not persist)
    record = read_record(place)
    return Baseline(root=read_unapplied(place), applied=record.plan if record is not None else None)


def read_history(*, root_dir: Path = _WHOLE) -> tuple[dict[str, Any], ...]:
    """What was applied, undone and recovered on this host, oldest first, as rows of the log."""
    rows = [row for persist in (False, True) for row in read_log(make_place(root_dir, persist=persist))]
    return tuple(sorted(rows, key=lambda row: str(row.get("at"))))


def is_interrupted(*, root_dir: Path = _WHOLE, persist: bool = False) -> bool:
    """Whether a journal is there: a change was begun and not ended, or is being made now.

    Only the holder of the lock knows which.
    """
    return make_place(root_dir, persist=persist).journal.exists()


def needs_boot(setting: Setting) -> bool:
    """Whether a change of this setting takes effect only at a boot, and is left alone until then without persist."""
    return kind_of(setting).needs_boot


def files_of(setting: Setting) -> tuple[str, ...]:
    """Paths of the kernel's files that are the setting itself; () for a unit's property and for a kernel parameter."""
    return kind_of(setting).files_of(setting)
