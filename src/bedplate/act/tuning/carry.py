"""Carry out the steps of a transaction: forward, and back as far as each is as it was left.

Every step is brought to one of two texts; what has a third one was changed by somebody else, is left as it is, and said.
What could not be brought is said too, and the caller decides what becomes of the transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from bedplate.act.tuning.durable import (
    before,
    bring_before,
    keep_before,
    make_directories,
    remove_if_empty,
    remove_whole,
    unfinished,
    write_whole,
)
from bedplate.act.tuning.effective import satisfies
from bedplate.act.tuning.journal import Journal, no_space
from bedplate.act.tuning.kernel_file import read_kernel_file, restore_kernel_file
from bedplate.act.tuning.meaning import holds_keyed, is_keyed, is_same
from bedplate.act.tuning.place import Place
from bedplate.act.tuning.services import Services
from bedplate.act.tuning.step import Act, Step
from bedplate.act.tuning.steps import Way
from bedplate.errors import BedplateError, GoneError

OnStep = Callable[[str], None]
"""Called before each step, with what it does."""
_GRUB_S = 300.0


@dataclass(slots=True)
class Carried:
    """How far a transaction has come. Steps by their index; a done one with what was there after it."""

    started: set[int] = field(default_factory=set)
    done: dict[int, str] = field(default_factory=dict)
    drifted: list[str] = field(default_factory=list)
    """What was left, since it was no longer as it is known, a sentence each."""
    failed: list[str] = field(default_factory=list)
    """What could not be brought, a sentence each."""


def run_steps(
    way: Way, place: Place, services: Services, journal: Journal, carried: Carried, on_step: OnStep | None
) -> None:
    """Carry out the steps. Raises BedplateError at the first that does not take; `carried` says how far it came."""
    units = _units_of(way.steps)
    for index, step in enumerate(way.steps):
        if on_step is not None:
            on_step(str(step))
        carried.started.add(index)
        journal.start(index)
        change = way.checks.get(index)
        try:
            now = _do(step, place, services, units, keep=True)
        except GoneError as error:
            if change is not None:
                raise
            carried.drifted.append(_gone(error))  # of the plan before: there is nothing to give back
            now = ""
            carried.done[index] = now
            journal.done(index, now)
            continue
        if change is not None and not satisfies(change, now):
            raise BedplateError(f"{step.path}: wrote {step.after}, the kernel says {now}", hint="Everything was reverted.")
        if change is None and step.act is Act.KERNEL and not _is_back(step, now, step.after):
            raise BedplateError(
                f"{step.path}: wrote back {step.after}, the kernel says {now}", hint="Everything was reverted."
            )
        carried.done[index] = now
        journal.done(index, now)


def _do(step: Step, place: Place, services: Services, units: tuple[str, ...] = (), *, keep: bool = False) -> str:
    """Carry out one step; gives what is there after it. units: whose properties the transaction changes. keep: a file that
    changes or goes gets a second name first."""
    path = place.at(step.path)
    match step.act:
        case Act.KERNEL:
            restore_kernel_file(place.root, step.path, step.after or "", twin=step.twin, key=step.key)
            return read_kernel_file(place.root, step.path, step.parse, key=step.key)
        case Act.FILE:
            try:
                if keep and step.before is not None:
                    keep_before(path)
                remove_whole(path) if step.after is None else write_whole(path, step.after)
            except OSError as error:
                raise no_space(Path(step.path), error) from error
            return step.after or ""
        case Act.DIRECTORY:
            try:
                if step.after is None:
                    remove_if_empty(path)
                else:
                    make_directories(path, place.top)
            except OSError as error:
                raise no_space(Path(step.path), error) from error
            return ""
        case Act.RELOAD:
            services.reload(units)
            return ""
        case Act.GRUB:
            _update_grub()
            return ""


def roll_back(
    steps: list[Step] | tuple[Step, ...], place: Place, services: Services, carried: Carried, *, same_boot: bool
) -> None:
    """Bring each step that was begun to its text before, in reverse. What drifted or failed stands in `carried`.

    same_boot False: what lasts only until the next boot is gone already, and is not touched.
    """
    for index in sorted(carried.started, reverse=True):
        step = steps[index]
        if step.act in (Act.RELOAD, Act.GRUB):
            continue
        back = replace(step, before=step.after, after=step.before)
        _bring(back, index, place, services, carried, lost=not same_boot and not step.lasts)
    finish_steps([step for step in steps if step.act is Act.FILE], place)
    _run_again(steps, carried.started, services, carried)


def roll_forward(
    steps: list[Step] | tuple[Step, ...],
    place: Place,
    services: Services,
    carried: Carried,
    *,
    journal: Journal | None = None,
    on_step: OnStep | None = None,
    same_boot: bool = True,
) -> None:
    """Bring each step to its text after, whatever was done of it already. What drifted or failed stands in `carried`.

    journal: gets a line before each step, and raises BedplateError when it cannot be written. on_step: is called with each
    step's text. same_boot False: what lasts only until the next boot is gone already, and is not touched.
    """
    for index, step in enumerate(steps):
        if on_step is not None:
            on_step(str(step))
        if step.act in (Act.RELOAD, Act.GRUB):
            continue
        if journal is not None:
            journal.start(index)
        _bring(step, index, place, services, carried, lost=not same_boot and not step.lasts)
    _run_again(steps, set(range(len(steps))), services, carried)


def _bring(step: Step, index: int, place: Place, services: Services, carried: Carried, *, lost: bool) -> None:
    """Bring one target to step.after if it is as we know it; what somebody else changed meanwhile is left, and said."""
    try:
        if step.act is Act.KERNEL:
            # A step that was begun and not ended may have left anything; only the process that was killed wrote there.
            torn = index in carried.started and index not in carried.done
            if lost:
                return
            try:
                now = read_kernel_file(place.root, step.path, step.parse, key=step.key)
            except GoneError:
                raise
            except BedplateError:
                if not torn:
                    raise
                now = ""
            if _is_back(step, now, step.after):
                return
            known = (step.before or "", carried.done.get(index, step.before or ""))
            if not torn and not any(is_same(step.path, now, text, step.parse) for text in known):
                carried.drifted.append(f"{step.path}: is {now!r}, which bedplate did not write: left as it is")
                return
            now = _do(step, place, services)
            if not _is_back(step, now, step.after):
                carried.failed.append(f"{step.path}: wrote {step.after}, the kernel says {now}")
        elif step.act is Act.FILE:
            path = place.at(step.path)
            remove_whole(unfinished(path))
            text = path.read_text(errors="surrogateescape") if path.exists() else None
            if text == step.after:
                return
            if text not in (step.before, None):
                carried.drifted.append(f"{step.path}: was changed by something else: left as it is")
                return
            if step.after is not None and bring_before(path, step.after):
                return
            make_directories(path.parent, place.top)
            _do(step, place, services)
        else:
            _do(step, place, services)
    except GoneError as error:
        carried.drifted.append(_gone(error))
    except (BedplateError, OSError) as error:
        carried.failed.append(say_error(error))


def _is_back(step: Step, now: str, wanted: str | None) -> bool:
    if is_keyed(step.path) and not wanted:
        return not now or "enable=0" in now or ("ctrl=auto" in now and step.path.endswith("model"))
    if is_keyed(step.path):
        return holds_keyed(now, wanted or "")
    return is_same(step.path, now, wanted or "", step.parse)


def _units_of(steps: Sequence[Step]) -> tuple[str, ...]:
    """Units of whose files or drop-ins a step is."""
    names = (part.removesuffix(".d") for step in steps if step.unit_file for part in step.path.split("/"))
    return tuple(dict.fromkeys(name for name in names if name.endswith((".slice", ".service", ".scope"))))


def _run_again(steps: list[Step] | tuple[Step, ...], begun: set[int], services: Services, carried: Carried) -> None:
    try:
        if any(steps[index].unit_file for index in begun) and services.is_running():
            services.reload(_units_of(steps))
        if any(step.act is Act.GRUB for step in steps) and any(steps[index].act is Act.FILE for index in begun):
            _update_grub()
    except BedplateError as error:
        carried.failed.append(error.message)


def finish_steps(steps: Sequence[Step], place: Place) -> None:
    """After a commit or a roll-back: take second names of changed files away, and directories that these kept."""
    for step in steps:
        if step.act is Act.FILE and step.before is not None:
            beside = before(place.at(step.path))
            if beside.exists():
                remove_whole(beside)
    for step in steps:
        if step.act is Act.DIRECTORY and step.after is None:
            remove_if_empty(place.at(step.path))


def _gone(error: GoneError) -> str:
    return f"{error.message}: it is gone, so there is nothing to restore"


def say_error(error: BaseException) -> str:
    """An error as one sentence: an OSError with its file, any other with its message, or its class where it has none."""
    if isinstance(error, OSError):
        return f"{error.filename or 'the journal'}: {error.strerror or error}"
    return str(error) or type(error).__name__


def _update_grub() -> None:
    from bedplate.act.run import find_program, run

    program = find_program("update-grub")
    if program is not None:
        run([program], timeout_s=_GRUB_S)
