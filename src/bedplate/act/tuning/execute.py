"""Carry out the steps of a transaction: forward, and back as far as each target is as it was left.

Every target is brought to one of two texts; what has a third one was changed by somebody else, is left as it is, and
reported. What could not be brought is reported too, and the caller decides what becomes of the transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from bedplate.act.tuning.journal import Journal
from bedplate.act.tuning.kinds.kind import Command
from bedplate.act.tuning.step import Step, StepContext
from bedplate.act.tuning.steps import StepPlan
from bedplate.errors import BedplateError, GoneError
from bedplate.host.root.root import Root

OnStep = Callable[[str], None]
"""Called before each step, with what it does."""


@dataclass(slots=True)
class Execution:
    """How far a transaction has come. Steps by their index; a done one with what was there after it."""

    started: set[int] = field(default_factory=set)
    done: dict[int, str] = field(default_factory=dict)
    drifted: list[str] = field(default_factory=list)
    """What was left, since it was no longer as it is known, a sentence each."""
    failed: list[str] = field(default_factory=list)
    """What could not be brought, a sentence each."""


def run_steps(
    step_plan: StepPlan, context: StepContext, journal: Journal, execution: Execution, on_step: OnStep | None
) -> None:
    """Carry out the steps. Raises BedplateError at the first that does not take; `execution` says how far it came."""
    for index, step in enumerate(context.steps):
        if on_step is not None:
            on_step(str(step))
        execution.started.add(index)
        journal.start(index)
        change = step_plan.checks.get(index)
        try:
            now = step.target.kind.write(step, context)
        except GoneError as error:
            if change is not None:
                raise
            execution.drifted.append(_say_gone(error))  # of the plan before: there is nothing to restore
            now = ""
        else:
            if not step.target.kind.took(step, now, change):
                wrote = "wrote" if change is not None else "wrote back"
                raise BedplateError(
                    f"{step.target.path}: {wrote} {step.after}, the kernel shows {now}", hint="Everything was reverted."
                )
        execution.done[index] = now
        journal.done(index, now)


def roll_back(context: StepContext, execution: Execution, *, same_boot: bool) -> None:
    """Bring each step that was begun to its text before, in reverse. What drifted or failed stands in `execution`.

    same_boot False: what lasts only until the next boot is gone already, and is not touched.
    """
    begun = sorted(execution.started, reverse=True)
    for index in begun:
        _restore(context.steps[index].inverse, index, context, execution, same_boot=same_boot)
    finish_steps([context.steps[index].inverse for index in begun], context.root)
    _run_again(begun, context, execution)


def roll_forward(
    context: StepContext,
    execution: Execution,
    *,
    journal: Journal | None = None,
    on_step: OnStep | None = None,
    same_boot: bool = True,
) -> None:
    """Bring each step to its text after, whatever was done of it already. What drifted or failed stands in `execution`.

    journal: gets a line before each step, and raises BedplateError when it cannot be written. on_step: is called with each
    step's text. same_boot False: what lasts only until the next boot is gone already, and is not touched.
    """
    for index, step in enumerate(context.steps):
        if on_step is not None:
            on_step(str(step))
        if journal is not None and not isinstance(step.target.kind, Command):
            journal.start(index)
        _restore(step, index, context, execution, same_boot=same_boot)
    _run_again(range(len(context.steps)), context, execution)


def finish_steps(steps: Iterable[Step], root: Root) -> None:
    """After a commit or a roll-back: remove what the steps kept for a way back, the deepest path first, so that a directory
    is empty when its turn comes."""
    for step in sorted(steps, key=lambda step: step.target.path.count("/"), reverse=True):
        step.target.kind.finish(step, root)


def say_error(error: BaseException) -> str:
    """An error as one sentence: an OSError with its file, any other with its message, or its class where it has none."""
    if isinstance(error, OSError):
        return f"{error.filename or 'the journal'}: {error.strerror or error}"
    return str(error) or type(error).__name__


def _restore(step: Step, index: int, context: StepContext, execution: Execution, *, same_boot: bool) -> None:
    """Bring one target to step.after if it is as bedplate left it; what somebody else changed meanwhile is left."""
    if not same_boot and not step.target.lasts:
        return
    left = execution.done.get(index, step.before)
    torn = index in execution.started and index not in execution.done
    try:
        drift = step.target.kind.restore(step, context, left=left, torn=torn)
        if drift is not None:
            execution.drifted.append(drift)
    except GoneError as error:
        execution.drifted.append(_say_gone(error))
    except (BedplateError, OSError) as error:
        execution.failed.append(say_error(error))


def _run_again(begun: Iterable[int], context: StepContext, execution: Execution) -> None:
    """Run each command of the transaction once more where a file that was restored makes it necessary."""
    changed = [context.steps[index] for index in begun]
    for step in context.steps:
        if isinstance(step.target.kind, Command):
            try:
                step.target.kind.run_again(step, changed, context)
            except BedplateError as error:
                execution.failed.append(error.message)


def _say_gone(error: GoneError) -> str:
    return f"{error.message}: it is gone, so there is nothing to restore"
