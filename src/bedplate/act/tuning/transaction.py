"""Carry out a plan, or take it back: all of it, or nothing, whatever happens on the way.

Validate all -> journal -> write -> read back what is in force -> commit; else undo in reverse. See journal.py for what a
process that was killed leaves, and `recover` for what the next one makes of it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from bedplate.act.process import hold_signals
from bedplate.act.tuning.durable import make_directories, remove_if_empty, remove_whole, unfinished, write_whole
from bedplate.act.tuning.effective import satisfies, verify_changes
from bedplate.act.tuning.journal import (
    InForce,
    Interrupted,
    Journal,
    append_log,
    read_in_force,
    read_journal,
    remove_in_force,
    remove_journal,
    write_in_force,
)
from bedplate.act.tuning.kernel_file import holds_keyed, is_keyed, is_same, read_kernel_file, restore_kernel_file
from bedplate.act.tuning.place import PERSISTENT_STATE, Place
from bedplate.act.tuning.services import Services
from bedplate.act.tuning.step import Act, Step
from bedplate.act.tuning.steps import Way, make_way
from bedplate.errors import BedplateError, PlanRefused
from bedplate.model.tuning import UNIT_PROPERTIES, Held, Means, Plan, Verified

OnStep = Callable[[str], None]
"""Called before each step, with what it does."""
SETTLE_S = 60.0  # systemd writes control groups from a queue after it answered; beside a busy engine that takes its time
_GRUB_S = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    plan: Plan
    verified: tuple[Verified, ...]
    """Of each change: HOLDS or PENDING; anything else is not committed."""
    drifted: tuple[str, ...]
    """What of the plan before was left, since it no longer had our value."""
    steps: int
    """How many were made; 0: everything was as wanted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Undone:
    restored: tuple[str, ...]
    drifted: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovered:
    kind: str
    """What was interrupted: "apply" was rolled back, "undo" was brought to its end, "commit" had been made."""
    drifted: tuple[str, ...]


@dataclass(slots=True)
class _Trail:
    """How far a transaction has come."""

    started: set[int] = field(default_factory=set)
    done: dict[int, str] = field(default_factory=dict)
    drifted: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)


def apply(plan: Plan, place: Place, services: Services, *, on_step: OnStep | None = None, confirm: str = "") -> Applied:
    """Make it so. The lock is held and `recover` was called.

    Raises PlanRefused when it must not be applied, with everything that speaks against it, before anything is changed; and
    BedplateError when a step failed and all was taken back.
    """
    _refuse(plan, place, services)
    before = read_in_force(place)
    boot = read_boot(place)
    held = before.holdings if before is not None else ()
    way = make_way(plan, place, held, same_boot=before is None or before.boot == boot)
    if way.problems:
        raise PlanRefused("\n".join(way.problems), hint="Nothing was changed. Make the plan again: bedplate tune plan")
    number = os.urandom(8).hex()
    trail = _Trail()
    journal = Journal(place, kind="apply", number=number, boot=boot, steps=way.steps)
    try:
        try:
            _run(way, place, services, journal, trail, on_step)
            verified = _settle(plan, place, services)
            state = InForce(
                plan=plan,
                holdings=way.holdings(trail.done),
                number=number,
                boot=boot,
                made_s=time.monotonic(),
                made=_now(),
                confirm=confirm,
            )
            write_in_force(place, state)
        except BaseException as error:
            with hold_signals():  # a second Ctrl-C waits until all is back
                if (now := read_in_force(place)) is not None and now.number == number:
                    remove_journal(place)  # the interruption came after the commit
                    raise
                _roll_back(way.steps, place, services, trail, same_boot=True)
                _log(place, "failed", plan, error=str(error) or type(error).__name__, drifted=trail.drifted)
                if trail.failed:
                    raise BedplateError(
                        "\n".join([str(error) or type(error).__name__, *trail.failed]),
                        hint="Not all could be taken back; the next `bedplate tune` verb tries again.",
                    ) from error
                remove_journal(place)
                _tidy(place)
            raise
    finally:
        journal.close()
    with hold_signals():
        remove_journal(place)
        _log(place, "applied", plan, drifted=way.drifted)
    return Applied(plan=plan, verified=verified, drifted=tuple(way.drifted), steps=len(way.steps))


def undo(place: Place, services: Services, *, on_step: OnStep | None = None, why: str = "asked") -> Undone:
    """Take everything back that still has our value. The lock is held and `recover` was called.

    Interrupted, it is brought to its end by the next run. Nothing in force: nothing is done.
    """
    state = read_in_force(place)
    if state is None:
        _tidy(place)
        return Undone(restored=(), drifted=())
    boot = read_boot(place)
    way = make_way(None, place, state.holdings, same_boot=state.boot == boot)
    trail = _Trail(drifted=list(way.drifted))
    journal = Journal(place, kind="undo", number=os.urandom(8).hex(), boot=boot, steps=way.steps)
    try:
        with hold_signals():
            _forward(way.steps, place, services, trail, journal=journal, on_step=on_step)
    finally:
        journal.close()
    _end_undo(place, trail)
    trail.drifted += _still_different(state.plan, place, services)
    _log(place, "undone", state.plan, drifted=trail.drifted, why=why)
    return Undone(restored=tuple(str(one) for one in way.steps), drifted=tuple(trail.drifted))


def recover(place: Place, services: Services) -> Recovered | None:
    """Bring a transaction that was killed to before or after; None when none was. The lock is held.

    Raises BedplateError when something could not be brought back; the journal stays for the next try.
    """
    found = read_journal(place)
    if found is None:
        if place.journal.exists():  # only its first line was being written: nothing was done yet
            remove_journal(place)
            _tidy(place)
        return None
    state = read_in_force(place)
    trail = _Trail(started=set(found.started), done=dict(found.done))
    same_boot = found.boot == read_boot(place)
    with hold_signals():
        if state is not None and state.number == found.number:
            kind = "commit"
            remove_journal(place)
        elif found.kind == "undo":
            kind = "undo"
            _forward(found.steps, place, services, trail, same_boot=same_boot)
            _end_undo(place, trail)
        else:
            kind = "apply"
            _sweep(found, place)
            _roll_back(found.steps, place, services, trail, same_boot=same_boot)
            if trail.failed:
                raise BedplateError(
                    "\n".join(["an interrupted change could not be taken back:", *trail.failed]),
                    hint="Its journal is kept; the next `bedplate tune` verb tries again.",
                )
            remove_journal(place)
            _tidy(place)
    if place.is_usual:
        append_log(place, {"at": _now(), "what": "recovered", "kind": kind, "drifted": trail.drifted})
    return Recovered(kind=kind, drifted=tuple(trail.drifted))


def verify(place: Place, services: Services) -> tuple[Verified, ...] | None:
    """What is in force of what was applied; None when nothing is."""
    state = read_in_force(place)
    if state is None:
        return None
    since_s = state.made_s if state.boot == read_boot(place) else None
    return verify_changes(state.plan.changes, root=place.root, services=services, since_s=since_s)


def read_boot(place: Place) -> str:
    """boot_id of this boot; "" where the kernel does not say."""
    return place.root.read("/proc/sys/kernel/random/boot_id").value or ""


def _refuse(plan: Plan, place: Place, services: Services) -> None:
    if plan.refusals:
        raise PlanRefused(
            "\n".join(f"{one.what}: {one.because}" for one in plan.refusals),
            hint="\n".join(one.hint for one in plan.refusals if one.hint) or None,
        )
    problems = []
    if any(one.setting.means is Means.UNIT for one in plan.changes) and not services.is_running():
        problems.append("the plan sets properties of units, and process 1 is not systemd here")
    if not place.persist and any(one.setting.means is Means.CMDLINE for one in plan.changes):
        problems.append("the plan sets kernel parameters, which only --persist can")
    if problems:
        raise PlanRefused("\n".join(problems), hint="The plan can be read all the same: bedplate tune plan")


def _run(way: Way, place: Place, services: Services, journal: Journal, trail: _Trail, on_step: OnStep | None) -> None:
    units = _units_of(way.steps)
    for index, step in enumerate(way.steps):
        if on_step is not None:
            on_step(str(step))
        trail.started.add(index)
        journal.start(index)
        now = _do(step, place, services, units)
        change = way.checks.get(index)
        if change is not None and not satisfies(change, now):
            raise BedplateError(f"{step.path}: wrote {step.after}, the kernel says {now}", hint="All was taken back.")
        if change is None and step.act is Act.KERNEL and not _is_back(step, now, step.after):
            raise BedplateError(f"{step.path}: wrote back {step.after}, the kernel says {now}", hint="All was taken back.")
        trail.done[index] = now
        journal.done(index, now)


def _do(step: Step, place: Place, services: Services, units: tuple[str, ...] = ()) -> str:
    """Carry out one step; gives what is there after it. units: whose properties the transaction changes."""
    path = place.at(step.path)
    match step.act:
        case Act.KERNEL:
            restore_kernel_file(place.root, step.path, step.after or "", twin=step.twin, key=step.key)
            return read_kernel_file(place.root, step.path, step.parse, key=step.key)
        case Act.FILE:
            try:
                remove_whole(path) if step.after is None else write_whole(path, step.after)
            except OSError as error:
                raise BedplateError(f"{step.path}: cannot be written: {error.strerror}") from error
            return step.after or ""
        case Act.DIRECTORY:
            try:
                if step.after is None:
                    remove_if_empty(path)
                else:
                    make_directories(path, place.top)
            except OSError as error:
                raise BedplateError(f"{step.path}: cannot be made: {error.strerror}") from error
            return ""
        case Act.RELOAD:
            services.reload(units)
            return ""
        case Act.GRUB:
            _update_grub()
            return ""


def _roll_back(
    steps: list[Step] | tuple[Step, ...], place: Place, services: Services, trail: _Trail, *, same_boot: bool
) -> None:
    """To before, in reverse, whatever of the steps was begun."""
    for index in sorted(trail.started, reverse=True):
        step = steps[index]
        if step.act in (Act.RELOAD, Act.GRUB):
            continue
        back = replace(step, before=step.after, after=step.before)
        _bring(back, index, place, services, trail, lost=not same_boot and not step.lasts)
    _run_again(steps, trail.started, services, trail)


def _forward(
    steps: list[Step] | tuple[Step, ...],
    place: Place,
    services: Services,
    trail: _Trail,
    *,
    journal: Journal | None = None,
    on_step: OnStep | None = None,
    same_boot: bool = True,
) -> None:
    """To after, whatever was done of it already."""
    for index, step in enumerate(steps):
        if on_step is not None:
            on_step(str(step))
        if step.act in (Act.RELOAD, Act.GRUB):
            continue
        if journal is not None:
            journal.start(index)
        _bring(step, index, place, services, trail, lost=not same_boot and not step.lasts)
    _run_again(steps, set(range(len(steps))), services, trail)


def _bring(step: Step, index: int, place: Place, services: Services, trail: _Trail, *, lost: bool) -> None:
    """Bring one target to step.after if it is as we know it; what somebody else changed meanwhile is left, and said."""
    try:
        if step.act is Act.KERNEL:
            # A step that was begun and not ended may have left anything; only the process that was killed wrote there.
            torn = index in trail.started and index not in trail.done
            try:
                now = read_kernel_file(place.root, step.path, step.parse, key=step.key)
            except BedplateError:
                if not torn:
                    raise
                now = ""
            if lost or _is_back(step, now, step.after):
                return
            known = (step.before or "", trail.done.get(index, step.before or ""))
            if not torn and not any(is_same(step.path, now, one, step.parse) for one in known):
                trail.drifted.append(f"{step.path}: is {now!r}, which is not ours: left as it is")
                return
            now = _do(step, place, services)
            if not _is_back(step, now, step.after):
                trail.failed.append(f"{step.path}: wrote {step.after}, the kernel says {now}")
        elif step.act is Act.FILE:
            path = place.at(step.path)
            remove_whole(unfinished(path))
            text = path.read_text(errors="surrogateescape") if path.exists() else None
            if text == step.after:
                return
            if text not in (step.before, None):
                trail.drifted.append(f"{step.path}: was changed by somebody else: left as it is")
                return
            make_directories(path.parent, place.top)
            _do(step, place, services)
        else:
            _do(step, place, services)
    except (BedplateError, OSError) as error:
        trail.failed.append(str(error))


def _is_back(step: Step, now: str, wanted: str | None) -> bool:
    if is_keyed(step.path) and not wanted:
        return not now or "enable=0" in now or ("ctrl=auto" in now and step.path.endswith("model"))
    if is_keyed(step.path):
        return holds_keyed(now, wanted or "")
    return is_same(step.path, now, wanted or "", step.parse)


def _units_of(steps: Sequence[Step]) -> tuple[str, ...]:
    """Units of whose files or drop-ins a step is."""
    names = (part.removesuffix(".d") for one in steps if one.unit_file for part in one.path.split("/"))
    return tuple(dict.fromkeys(name for name in names if name.endswith((".slice", ".service", ".scope"))))


def _run_again(steps: list[Step] | tuple[Step, ...], begun: set[int], services: Services, trail: _Trail) -> None:
    try:
        if any(steps[index].unit_file for index in begun) and services.is_running():
            services.reload(_units_of(steps))
        if any(one.act is Act.GRUB for one in steps) and any(steps[index].act is Act.FILE for index in begun):
            _update_grub()
    except BedplateError as error:
        trail.failed.append(error.message)


def _end_undo(place: Place, trail: _Trail) -> None:
    if trail.failed:
        raise BedplateError(
            "\n".join(["not all could be taken back:", *trail.failed]),
            hint="The journal is kept; the next `bedplate tune` verb tries again.",
        )
    remove_in_force(place)
    remove_journal(place)
    _tidy(place)


def _settle(plan: Plan, place: Place, services: Services) -> tuple[Verified, ...]:
    """What is in force, after the service manager had its time. Raises BedplateError when a change is not."""
    deadline = time.monotonic() + SETTLE_S
    pause_s = 0.01
    while True:
        verified = verify_changes(plan.changes, root=place.root, services=services, since_s=time.monotonic())
        wrong = [one for one in verified if one.held in (Held.DIFFERS, Held.UNKNOWN)]
        waits = [one for one in wrong if one.change.setting.means is Means.UNIT]
        if not wrong:
            return verified
        if not waits or len(waits) < len(wrong) or time.monotonic() > deadline:
            raise BedplateError(
                "\n".join(f"{one.change.setting}: {one.because}" for one in wrong), hint="All was taken back."
            )
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, 0.5)


def _still_different(plan: Plan, place: Place, services: Services) -> list[str]:
    """Properties of running units that did not go back to what they were, after the service manager had its time."""
    back = [
        replace(one, new=one.old)
        for one in plan.changes
        if one.setting.means is Means.UNIT and one.old is not None and one.setting.key in UNIT_PROPERTIES
    ]
    deadline = time.monotonic() + SETTLE_S
    while back:
        differs = [
            one
            for one in verify_changes(back, root=place.root, services=services)
            if one.held is Held.DIFFERS and not satisfies(one.change, UNIT_PROPERTIES[one.change.setting.key].neutral)
        ]
        if not differs:
            break
        if time.monotonic() > deadline:
            return [f"{one.change.setting}: is {one.effective}, was {one.change.new}" for one in differs]
        time.sleep(0.05)
    return []


def _update_grub() -> None:
    from bedplate.act.run import find_program, run

    program = find_program("update-grub")
    if program is not None:
        run([program], timeout_s=_GRUB_S)


def _sweep(found: Interrupted, place: Place) -> None:
    """Half-written files of a killed process."""
    for step in found.steps:
        if step.act is Act.FILE:
            remove_whole(unfinished(place.at(step.path)))
    remove_whole(unfinished(place.applied))


def _tidy(place: Place) -> None:
    """Directories of the journal that hold nothing any more."""
    if remove_if_empty(place.journal.parent) and place.state == PERSISTENT_STATE:
        remove_if_empty(place.journal.parent.parent)


def _log(place: Place, what: str, plan: Plan, **more: object) -> None:
    if not place.is_usual:
        return
    row: dict[str, object] = {"at": _now(), "what": what, "policy": plan.policy.value, "digest": plan.digest}
    row["changes"] = [[str(one.setting), one.old, one.new] for one in plan.changes]
    append_log(place, {**row, **{key: value for key, value in more.items() if value}})


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def remove_everything(place: Place) -> tuple[str, ...]:
    """For `uninstall`, after undo: the log, and generated files that no journal knows of. Gives what was removed."""
    from bedplate.act.tuning.generated import MARK

    gone: list[str] = []
    patterns = (
        *("etc/systemd/system/*/80-bedplate.conf", "run/systemd/system/*/80-bedplate.conf"),
        *("etc/sysctl.d/80-bedplate.conf", "etc/tmpfiles.d/80-bedplate.conf", "etc/udev/rules.d/80-bedplate.rules"),
        *("etc/default/grub.d/80-bedplate.cfg", "etc/bedplate/cmdline.d/80-bedplate.conf"),
        *("etc/systemd/system/*.slice", "run/systemd/system/*.slice"),
    )
    for pattern in patterns:
        for path in sorted(place.top.glob(pattern)):
            if path.is_file() and not path.is_symlink() and path.read_text(errors="replace").startswith(MARK):
                remove_whole(path)
                gone.append(f"/{path.relative_to(place.top)}")
                if path.parent.name.endswith(".d") and path.parent.parent.name == "system":
                    remove_if_empty(path.parent)
    if place.log.exists():
        remove_whole(place.log)
        gone.append(f"{place.state}/log")
    _tidy(place)
    return tuple(gone)
