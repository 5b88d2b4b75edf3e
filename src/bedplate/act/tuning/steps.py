"""From what is applied and what is wanted to the steps between them. Reads, and changes nothing.

Undo is the plan that wants nothing; another policy replaces one plan by the next. What was there before the first of them
is remembered, so that undo always goes back to the machine as it was found. What no longer has the value that bedplate wrote
belongs to whoever changed it: it is left as it is, and reported.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from bedplate.act.tuning.kinds.kind import Stage
from bedplate.act.tuning.kinds.registry import COMMANDS, by_kind, kind_of
from bedplate.act.tuning.place import Place
from bedplate.act.tuning.step import AppliedValue, Step, Target, Wanted
from bedplate.errors import BedplateError, GoneError
from bedplate.host.root.root import Root
from bedplate.model.tuning import Change, Plan


@dataclass(slots=True, kw_only=True)
class StepPlan:
    """The steps to a plan, or back from one, in their order; and what stands in the record when all are made."""

    steps: list[Step] = field(default_factory=list)
    checks: dict[int, Change] = field(default_factory=dict)
    """Index of a step -> what must hold after it."""
    results: dict[int, AppliedValue] = field(default_factory=dict)
    """Index of a step -> the value that is applied by it; what is written is known only when it was read back."""
    unchanged: list[AppliedValue] = field(default_factory=list)
    """Applied before and after, without a step."""
    drifted: list[str] = field(default_factory=list)
    """What is left as it is, since something else changed it: a sentence each."""
    problems: list[str] = field(default_factory=list)
    """What is wrong with the plan: a sentence each. Any of them: it must not be carried out."""

    def values(self, done: dict[int, str]) -> tuple[AppliedValue, ...]:
        """What is applied after all steps. done: index of a step -> the text that was read back after it.

        Raises KeyError for a step without a text.
        """
        return (*self.unchanged, *(replace(value, written=done[index]) for index, value in self.results.items()))


def plan_steps(plan: Plan | None, place: Place, applied: tuple[AppliedValue, ...], *, same_boot: bool) -> StepPlan:
    """The steps from what is applied to the plan; None: to nothing. same_boot: it was applied in this boot."""
    made = StepPlan()
    changes = plan.changes if plan is not None else ()
    _check(changes, place.root, made)
    if made.problems:
        return made
    targets = _plan_targets(plan, place) if plan is not None else {}
    gone = [value for value in reversed(applied) if value.target.address not in targets]
    for value in sorted(gone, key=lambda value: value.target.kind.stage, reverse=True):
        _plan_revert(value, place.root, made, same_boot=same_boot, refuse=plan is not None)
    known = {value.target.address: value for value in applied}
    for stage in Stage:
        if stage is Stage.RUN:
            made.steps += [Step(target=Target(kind=command)) for command in COMMANDS if command.is_due(made.steps)]
        for address, wanted in targets.items():
            if wanted.target.kind.stage is stage:
                _plan_write(wanted, known.get(address), place.root, made)
    return made


def _check(changes: tuple[Change, ...], root: Root, made: StepPlan) -> None:
    seen = set()
    for change in changes:
        kind = kind_of(change.setting)
        problem = kind.check(change, root)
        identity = kind.identity(change)
        if problem is None and identity in seen:
            problem = f"{change.setting}: is in the plan twice"
        seen.add(identity)
        if problem is not None:
            made.problems.append(problem)


def _plan_targets(plan: Plan, place: Place) -> dict[tuple[str, str, str], Wanted]:
    """Address -> what shall be there: generated files by kind, then values in the order of the plan."""
    found: list[Wanted] = []
    for kind, changes in by_kind(plan.changes):
        found += kind.plan_targets(changes, place, plan.digest)
    order = {change: index for index, change in enumerate(plan.changes)}
    found.sort(key=lambda wanted: order[wanted.change] if wanted.change is not None else -1)
    targets: dict[tuple[str, str, str], Wanted] = {}
    for wanted in found:
        targets.setdefault(wanted.target.address, wanted)  # two files may need one directory
    return targets


def _plan_revert(value: AppliedValue, root: Root, made: StepPlan, *, same_boot: bool, refuse: bool) -> None:
    """refuse: whether a file that is there and cannot be read now is a problem of the plan; else the step is tried, and says
    why it failed: what may still have the value that bedplate wrote is not forgotten."""
    target = value.target
    if not same_boot and not target.lasts:
        return  # the boot reverted it
    try:
        now = target.kind.read(target, root)
    except GoneError as error:
        made.drifted.append(f"{error.message}: it is gone, so there is nothing to restore")
        return
    except BedplateError as error:
        if refuse:
            made.problems.append(error.message)
            return
        now = value.written
    if target.kind.is_same(target, now, value.before):
        return
    if not target.kind.is_same(target, now, value.written):
        made.drifted.append(target.kind.say_changed(value, now))
        return
    made.steps.append(Step(target=target, before=now, after=value.before))


def _plan_write(wanted: Wanted, value: AppliedValue | None, root: Root, made: StepPlan) -> None:
    target = wanted.target
    try:
        now = target.kind.read(target, root)
    except BedplateError as error:
        made.problems.append(error.message)
        return
    if value is not None and not target.kind.is_same(value.target, now, value.written):
        value = None  # something else wrote there since
    problem = target.kind.find_conflict(wanted, now, root, applied=value is not None)
    if problem is not None:
        made.problems.append(problem)
        return
    if target.kind.is_wanted(wanted, now):
        if value is not None:
            made.unchanged.append(value)
        return
    index = len(made.steps)
    if wanted.change is not None:
        made.checks[index] = wanted.change
    if value is not None:
        first = replace(value, target=replace(target, counterpart=value.target.counterpart))
    else:
        first = AppliedValue(target=target, before=now, written="")
    made.results[index] = first
    made.steps.append(Step(target=target, before=now, after=wanted.text))
