"""Carry out a plan, or revert it: all of it, or nothing, whatever happens meanwhile.

Check all -> journal -> write -> read back what is in force -> commit; else restore in reverse. What is written and how it is
read back, its kind knows (kinds/). See journal.py for what a process that was killed leaves, and `recover` for what the next
one makes of it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bedplate.act.durable import keep_aside, no_space, remove_if_empty, remove_whole, unfinished
from bedplate.act.tuning.execute import Execution, OnStep, finish_steps, roll_back, roll_forward, run_steps, say_error
from bedplate.act.tuning.journal import (
    Journal,
    append_log,
    drop_unbegun,
    read_journal,
    read_record,
    remove_journal,
    remove_record,
    reserve_undo,
    write_record,
)
from bedplate.act.tuning.kinds.registry import by_kind, find_forgotten, kind_of
from bedplate.act.tuning.place import PERSISTENT_STATE, Place
from bedplate.act.tuning.services import Services
from bedplate.act.tuning.step import AppliedRecord, Step, StepContext
from bedplate.act.tuning.steps import StepPlan, plan_steps
from bedplate.act.tuning.verify import verify_changes
from bedplate.errors import BedplateError, PlanRefused, ReadError
from bedplate.interrupts import hold_signals
from bedplate.model.tuning import Held, Plan, Recovered, Verified

SETTLE_S = 60.0  # systemd writes control groups from a queue after it answered; beside a busy engine that takes its time
_STUCK = (
    "The journal is kept, and the next `bedplate tune` command tries again. To give up what can never be restored: "
    "bedplate tune undo --abandon"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """What `apply` came to. It was committed; what failed raises instead."""

    plan: Plan
    verified: tuple[Verified, ...]
    """Of each change: HOLDS or PENDING; anything else is not committed."""
    drifted: tuple[str, ...]
    """What of the plan before was left, since it no longer had the value that bedplate wrote."""
    steps: int
    """How many were made; 0: everything was as wanted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Undone:
    """What `undo` came to: the steps that were made, and a sentence for each that did not go back."""

    restored: tuple[str, ...]
    drifted: tuple[str, ...]
    abandoned: tuple[str, ...] = ()
    """What could not be taken back and was given up, as was asked."""
    journal: str = ""
    """Where the journal of that lies now; "" when nothing was given up."""


def apply(plan: Plan, place: Place, services: Services, *, on_step: OnStep | None = None, confirm: str = "") -> Applied:
    """Make it so. The lock is held and `recover` was called.

    Raises PlanRefused when it must not be applied, with everything that speaks against it, before anything is changed; and
    BedplateError when a step failed and all was taken back.
    """
    _refuse(plan, place, services)
    before = read_record(place)
    boot = read_boot(place)
    values = before.values if before is not None else ()
    step_plan = plan_steps(plan, place, values, same_boot=before is None or before.boot == boot)
    if step_plan.problems:
        raise PlanRefused("\n".join(step_plan.problems), hint="Nothing was changed. Make the plan again: bedplate tune plan")
    number = os.urandom(8).hex()
    execution = Execution()
    context = _make_context(place, services, step_plan.steps)
    journal = _begin(step_plan, place, number=number, boot=boot)
    try:
        try:
            run_steps(step_plan, context, journal, execution, on_step)
            verified = _settle(plan, place, services)
            record = AppliedRecord(
                plan=plan,
                values=step_plan.values(execution.done),
                number=number,
                boot=boot,
                made_s=time.monotonic(),
                made=_now(),
                confirm=confirm,
            )
            write_record(place, record)
        except BaseException as error:
            with hold_signals():  # a second Ctrl-C waits until all is back
                if (now := read_record(place)) is not None and now.number == number:
                    finish_steps(context.steps, place.root)
                    remove_journal(place)  # the interruption came after the commit
                    raise
                roll_back(context, execution, same_boot=True)
                _log(place, "failed", plan, error=say_error(error), drifted=execution.drifted)
                if execution.failed:
                    raise BedplateError("\n".join([say_error(error), *execution.failed]), hint=_STUCK) from error
                remove_journal(place)
                _tidy(place)
            if isinstance(error, OSError) or (execution.drifted and isinstance(error, BedplateError)):
                hint = error.hint if isinstance(error, BedplateError) else no_space(place.applied, error).hint
                raise BedplateError("\n".join([say_error(error), *execution.drifted]), hint=hint) from error
            raise
    finally:
        journal.close()
    with hold_signals():
        finish_steps(context.steps, place.root)
        remove_journal(place)
        drifted = (*step_plan.drifted, *execution.drifted)
        _log(place, "applied", plan, drifted=drifted)
    return Applied(plan=plan, verified=verified, drifted=drifted, steps=len(context.steps))


def _make_context(place: Place, services: Services, steps: Sequence[Step]) -> StepContext:
    return StepContext(root=place.root, services=services, steps=tuple(steps))


def _begin(step_plan: StepPlan, place: Place, *, number: str, boot: str) -> Journal:
    """The journal of an apply, after the space for its undo. Raises BedplateError; then nothing was changed."""
    planned = {index: step.after or "" for index, step in enumerate(step_plan.steps)}
    try:
        reserve_undo(place, step_plan.values(planned))
        return Journal(place, kind="apply", number=number, boot=boot, steps=step_plan.steps)
    except BedplateError:
        _tidy(place)
        raise


def undo(
    place: Place, services: Services, *, on_step: OnStep | None = None, why: str = "asked", abandon: bool = False
) -> Undone:
    """Revert everything that still has the value that bedplate wrote. The lock is held and `recover` was called.

    Interrupted, it is brought to its end by the next run. Nothing in force: nothing is done. What cannot be taken back, now
    or ever, raises BedplateError, and the next verb tries again; with abandon it is given up, and the journal kept aside.
    """
    record = read_record(place)
    if record is None:
        _tidy(place)
        return Undone(restored=(), drifted=())
    boot = read_boot(place)
    step_plan = plan_steps(None, place, record.values, same_boot=record.boot == boot)
    context = _make_context(place, services, step_plan.steps)
    execution = Execution(drifted=list(step_plan.drifted))
    journal = Journal(place, kind="undo", number=os.urandom(8).hex(), boot=boot, steps=context.steps)
    try:
        with hold_signals():
            roll_forward(context, execution, journal=journal, on_step=on_step)
    finally:
        journal.close()
    kept = _end_undo(place, execution, abandon=abandon)
    execution.drifted += _still_different(record.plan, place, services)
    _log(place, "undone", record.plan, drifted=execution.drifted, why=why, abandoned=execution.failed, journal=kept)
    restored = tuple(str(step) for step in context.steps)
    return Undone(restored=restored, drifted=tuple(execution.drifted), abandoned=tuple(execution.failed), journal=kept)


def recover(place: Place, services: Services, *, abandon: bool = False) -> Recovered | None:
    """Bring a transaction that was killed to before or after; None when none was. The lock is held.

    What is gone since is drift, and the transaction ends. Raises BedplateError when something is there and could not be
    brought back, or a journal cannot be read; the journal stays for the next try. With abandon that is given up instead:
    it is named in what comes back, and the journal is moved aside.
    """
    try:
        found, record = read_journal(place), read_record(place)
    except ReadError as error:
        if not abandon:
            raise
        return _give_up(place, services, error)
    if found is None:
        if place.journal.exists():  # only its first line was being written: nothing was done yet
            drop_unbegun(place)
            _tidy(place)
        return None
    execution = Execution(started=set(found.started), done=dict(found.done))
    context = _make_context(place, services, found.steps)
    same_boot = found.boot == read_boot(place)
    kept = ""
    with hold_signals():
        if record is not None and record.number == found.number:
            kind = "commit"
            finish_steps(context.steps, place.root)
            remove_journal(place)
        elif found.kind == "undo":
            kind = "undo"
            roll_forward(context, execution, same_boot=same_boot)
            kept = _end_undo(place, execution, abandon=abandon)
        else:
            kind = "apply"
            for step in context.steps:
                step.target.kind.sweep(step, place.root)
            remove_whole(unfinished(place.applied))
            roll_back(context, execution, same_boot=same_boot)
            if execution.failed and not abandon:
                raise BedplateError(
                    "\n".join(["an interrupted change could not be reverted:", *execution.failed]), hint=_STUCK
                )
            kept = _end_journal(place, execution)
            _tidy(place)
    if place.is_usual:
        row = {"at": _now(), "what": "recovered", "kind": kind, "drifted": execution.drifted}
        append_log(place, row | ({"abandoned": execution.failed, "journal": kept} if kept else {}))
    return Recovered(kind=kind, drifted=tuple(execution.drifted), abandoned=tuple(execution.failed), journal=kept)


def _give_up(place: Place, services: Services, error: ReadError) -> Recovered:
    """Move aside what cannot be read of this place, its journal or what is applied, and go on with what can be."""
    kept = []
    for path, read in ((place.journal, read_journal), (place.applied, read_record)):
        try:
            read(place)
        except ReadError:
            kept.append(_on_machine(place, keep_aside(path)))
    if place.is_usual:
        append_log(place, {"at": _now(), "what": "abandoned", "error": error.message, "journal": ", ".join(kept)})
    rest = recover(place, services, abandon=True)
    _tidy(place)
    more = rest or Recovered(kind="", drifted=())
    return Recovered(
        kind="unreadable",
        drifted=more.drifted,
        abandoned=(error.message, *more.abandoned),
        journal=", ".join(filter(None, [*kept, more.journal])),
    )


def verify(place: Place, services: Services) -> tuple[Verified, ...] | None:
    """Each change of what was applied with what the kernel says of it now; None when nothing is applied.

    Reads only, and needs no lock. Raises ReadError for a record that cannot be read.
    """
    record = read_record(place)
    if record is None:
        return None
    since_s = record.made_s if record.boot == read_boot(place) else None
    return verify_changes(record.plan.changes, root=place.root, services=services, since_s=since_s)


def read_boot(place: Place) -> str:
    """boot_id of this boot, a UUID (proc_sys_kernel(5)); "" where the kernel does not say."""
    return place.root.read("/proc/sys/kernel/random/boot_id").value or ""


def _refuse(plan: Plan, place: Place, services: Services) -> None:
    if plan.refusals:
        raise PlanRefused(
            "\n".join(f"{refusal.what}: {refusal.because}" for refusal in plan.refusals),
            hint="\n".join(refusal.hint for refusal in plan.refusals if refusal.hint) or None,
        )
    problems = [kind.refuse(place, services) for kind, _ in by_kind(plan.changes)]
    if any(problems):
        raise PlanRefused("\n".join(filter(None, problems)), hint="You can still read the plan: bedplate tune plan")


def _end_undo(place: Place, execution: Execution, *, abandon: bool) -> str:
    """Commit an undo; gives where its journal is kept, "" when all was taken back."""
    if execution.failed and not abandon:
        raise BedplateError("\n".join(["some changes could not be reverted:", *execution.failed]), hint=_STUCK)
    remove_record(place)
    kept = _end_journal(place, execution)
    _tidy(place)
    return kept


def _end_journal(place: Place, execution: Execution) -> str:
    """Take the journal away, or keep it aside when it tells of what was given up, and give where."""
    if execution.failed:
        return _on_machine(place, keep_aside(place.journal))
    remove_journal(place)
    return ""


def _on_machine(place: Place, path: Path) -> str:
    return f"/{path.relative_to(place.top)}"


def _settle(plan: Plan, place: Place, services: Services) -> tuple[Verified, ...]:
    """What is in force, after the service manager had its time. Raises BedplateError when a change is not."""
    deadline = time.monotonic() + SETTLE_S
    pause_s = 0.01
    while True:
        verified = verify_changes(plan.changes, root=place.root, services=services, since_s=time.monotonic())
        wrong = [result for result in verified if result.held in (Held.DIFFERS, Held.UNKNOWN)]
        waits = [result for result in wrong if kind_of(result.change.setting).settles_later]
        if not wrong:
            return verified
        if not waits or len(waits) < len(wrong) or time.monotonic() > deadline:
            raise BedplateError(
                "\n".join(f"{result.change.setting}: {result.because}" for result in wrong), hint="Everything was reverted."
            )
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, 0.5)


def _still_different(plan: Plan, place: Place, services: Services) -> list[str]:
    """A sentence for each change that did not go back to what it was, after the service manager had its time."""
    deadline = time.monotonic() + SETTLE_S
    while True:
        differs = [
            result
            for kind, changes in by_kind(plan.changes)
            for result in kind.find_unreverted(changes, root=place.root, services=services)
        ]
        if not differs:
            return []
        if time.monotonic() > deadline:
            return [f"{result.change.setting}: is {result.effective}, expected {result.change.new}" for result in differs]
        time.sleep(0.05)


def _tidy(place: Place) -> None:
    """The reserve, and directories of the journal that hold nothing any more, unless something is applied."""
    if place.reserve.exists() and not place.applied.exists():
        remove_whole(place.reserve)
    if remove_if_empty(place.journal.parent) and place.state == PERSISTENT_STATE:
        remove_if_empty(place.journal.parent.parent)


def _log(place: Place, what: str, plan: Plan, **more: object) -> None:
    if not place.is_usual:
        return
    row: dict[str, object] = {"at": _now(), "what": what, "policy": plan.policy.value, "digest": plan.digest}
    row["changes"] = [[str(change.setting), change.old, change.new] for change in plan.changes]
    append_log(place, {**row, **{key: value for key, value in more.items() if value}})


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def remove_everything(place: Place) -> tuple[str, ...]:
    """For `uninstall`, after undo: the log, and generated files that no journal knows of. Gives what was removed."""
    gone: list[str] = []
    for path in find_forgotten(place.root):
        remove_whole(path)
        gone.append(_on_machine(place, path))
        if path.parent.name.endswith(".d") and path.parent.parent.name == "system":
            remove_if_empty(path.parent)
    for path in (place.log, *sorted(place.log.parent.glob("*.abandoned-*"))):
        if path.exists():
            remove_whole(path)
            gone.append(_on_machine(place, path))
    _tidy(place)
    return tuple(gone)
