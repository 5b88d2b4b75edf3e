"""Tune this host for its engines: plan, apply, verify, undo, confirm, look at what was done, uninstall.

What is interesting on the way (a change that was interrupted and is ended now, each step) goes to Progress; results are
values. Each use case first ends what an earlier one left half done.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from bedplate.act.tuning import (
    Applied,
    TuningSession,
    Undone,
    find_services,
    hold_tuning,
    is_interrupted,
    needs_boot,
    read_baseline,
    read_history,
    verify_applied,
)
from bedplate.act.tuning.codec import render_plan
from bedplate.catalog.policies import find_policy, read_policies
from bedplate.errors import BedplateError, BusyError, NotAppliedError, PreflightError, UsageError
from bedplate.flows.machine import MachineState, read_machine
from bedplate.host.root.root import Root
from bedplate.model.progress import Progress
from bedplate.model.proof import Conditions, Proof
from bedplate.model.tuning import Held, Plan, Policy, Recovered, Skip, Verified
from bedplate.plan.tune import plan_tuning
from bedplate.report.plan import verified_objects

_PROBE_S = 10.0
_TIMER_WAIT_S = 600.0
_ENDED = {
    "apply": "reverted",
    "undo": "completed",
    "commit": "already complete",
    "unreadable": "given up",
}
_LAST = {
    "undone": "the plan was reverted",
    "failed": "applying a plan failed, and everything was reverted",
    "recovered": "an interrupted change was reverted",
    "abandoned": "the plan was given up",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanOutcome:
    """A plan that was made and not applied; it may hold refusals."""

    plan: Plan
    recovered: tuple[Recovered, ...]
    """Interrupted changes that were found and ended; here and below."""

    def make_record(self) -> dict[str, Any]:
        """For JSON, as `bedplate tune plan --json` prints it."""
        return {**render_plan(self.plan), **_recovered_rows(self.recovered)}


@dataclass(frozen=True, slots=True, kw_only=True)
class ApplyOutcome:
    """What applying a plan did; one that could not be applied whole raises instead, after all that can be was put back."""

    plan: Plan
    applied: Applied | None
    """None: everything was as the plan wants it, and nothing was done."""
    recovered: tuple[Recovered, ...]
    persist: bool
    """Whether it is applied at every boot."""

    def make_record(self) -> dict[str, Any]:
        """For JSON, as `bedplate tune apply --json` prints it."""
        row: dict[str, Any] = {"policy": self.plan.policy.value, "digest": self.plan.digest}
        if self.applied is None:
            row |= {"steps": 0, "drifted": [], "changes": []}
        else:
            row |= {"steps": self.applied.steps, "persist": self.persist, "drifted": list(self.applied.drifted)}
            row |= {"changes": verified_objects(self.applied.verified)}
        return row | _recovered_rows(self.recovered)


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyOutcome:
    """Each change that is applied, as it was read back now."""

    verified: tuple[Verified, ...]
    recovered: tuple[Recovered, ...]

    @property
    def holds(self) -> bool:
        """Whether all of it is known to be in force, or waits for what it needs."""
        return not any(found.held in (Held.DIFFERS, Held.UNKNOWN) for found in self.verified)

    def make_record(self) -> dict[str, Any]:
        """For JSON, as `bedplate tune verify --json` prints it."""
        return {"changes": verified_objects(self.verified), **_recovered_rows(self.recovered)}


class UndoEnd(StrEnum):
    """Whether an undo took anything back; CONFIRMED and KEPT come of undo_unless_confirmed alone, which a timer runs."""

    UNDONE = "undone"
    CONFIRMED = "confirmed"
    """Only what was not confirmed was to be taken back: it was confirmed, or nothing is applied."""
    KEPT = "kept"
    """Only what was not confirmed was to be taken back: the probe answered, and it is kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UndoOutcome:
    """How an undo ended and what it put back; `undone` names nothing unless `end` is UNDONE."""

    end: UndoEnd
    undone: Undone
    recovered: tuple[Recovered, ...]

    def make_record(self) -> dict[str, Any]:
        """For JSON, as `bedplate tune undo --json` prints it; `abandoned` and `journal` stand only where something was given
        up."""
        undone = self.undone
        given_up = {"abandoned": list(undone.abandoned), "journal": undone.journal} if undone.abandoned else {}
        row = {"restored": list(undone.restored), "drifted": list(undone.drifted), **given_up}
        return row | _recovered_rows(self.recovered)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfirmOutcome:
    """What confirming found to keep."""

    confirmed: bool
    """Whether something waited to be confirmed; False: what is applied is kept in any case."""
    recovered: tuple[Recovered, ...]

    def make_record(self) -> dict[str, Any]:
        """For JSON, as `bedplate tune confirm --json` prints it."""
        return {"confirmed": self.confirmed, **_recovered_rows(self.recovered)}


@dataclass(frozen=True, slots=True, kw_only=True)
class ProofsHere:
    """Verdicts of experiments on this host."""

    proofs: tuple[Proof, ...]
    now: Conditions
    """What they must have been made under to hold."""


# -- plans


def plan_machine(
    machine: MachineState, policy: Policy, *, proven: ProofsHere | None = None, applied: Plan | None = None
) -> Plan:
    """The plan of a machine that was read, by a policy of the catalog. applied: as of plan_tuning."""
    return plan_tuning(
        machine.facts,
        machine.groups,
        machine.knobs,
        find_policy(policy, read_policies()),
        proofs=proven.proofs if proven is not None else (),
        now=proven.now if proven is not None else None,
        io=machine.io,
        applied=applied,
    )


def plan_recording(recording: Path, policy: Policy) -> Plan:
    """The plan of a recorded machine. Raises ReadError for what is no recording."""
    from bedplate.host.root.recording import open_recording

    return plan_machine(read_machine(open_recording(recording), origin=recording.name), policy)


def plan_host(root_dir: Path, policy: Policy, *, persist: bool = False) -> Plan:
    """The plan of this machine, as it would be without what is applied."""
    before = read_baseline(root_dir=root_dir, persist=persist)
    return plan_machine(read_machine(before.root), policy, proven=_read_proofs(before.root), applied=before.applied)


def _read_proofs(root: Root) -> ProofsHere | None:
    """Verdicts of experiments on this host; None in the image, which is built without the package that makes them."""
    import importlib.util

    if importlib.util.find_spec("bedplate.prove.lab") is None:
        return None
    from bedplate.act.paths import find_paths
    from bedplate.prove.gauge.conditions import read_conditions
    from bedplate.prove.lab.ledger import proofs_directory, valid_proofs

    now = read_conditions(root, "")
    return ProofsHere(proofs=valid_proofs(proofs_directory(find_paths().state), now), now=now)


def _plan_for_mode(root_dir: Path, policy: Policy, *, persist: bool) -> Plan:
    """Kernel parameters need files that last: until the next boot they are left alone, with the reason."""
    plan = plan_host(root_dir, policy, persist=persist)
    if persist:
        return plan
    reason = "is a kernel parameter, which needs --persist and a reboot"
    parameters = [change for change in plan.changes if needs_boot(change.setting)]
    left = [Skip(knob=change.knob, reason=f"{change.setting}={change.new} {reason}") for change in parameters]
    return replace(
        plan,
        changes=tuple(change for change in plan.changes if change not in parameters),
        skips=(*left, *plan.skips),
    )


# -- use cases


def plan(root_dir: Path, policy: Policy, progress: Progress, *, recording: Path | None = None) -> PlanOutcome:
    """What `apply` would do to this machine, or to a recorded one. Changes nothing but what an interrupted change left."""
    if recording is not None:
        return PlanOutcome(plan=plan_recording(recording, policy), recovered=())
    recovered = _recover_if_root(root_dir, progress)
    return PlanOutcome(plan=plan_host(root_dir, policy), recovered=recovered)


def apply(
    root_dir: Path,
    policy: Policy,
    progress: Progress,
    *,
    persist: bool = False,
    confirm_within_s: int | None = None,
    probe: str | None = None,
    on_plan: Callable[[Plan], None] | None = None,
) -> ApplyOutcome:
    """Plan this machine and carry the plan out: all of it or nothing.

    persist: for all boots. confirm_within_s: taken back after that time unless it is confirmed, or the address `probe`
    answers then. on_plan gets the plan before anything is changed. Raises PlanRefused when the plan must not be applied,
    PreflightError without the timer that confirm_within_s needs, UsageError when a plan for all boots is in force.
    """
    if probe and confirm_within_s is None:
        raise UsageError("--probe: can only be used with --confirm-within", hint="Add --confirm-within 10m.")
    services = find_services(root_dir)
    with hold_tuning(root_dir, services=services) as session:
        recovered = _recover(session, progress)
        if not persist and session.is_applied(persist=True):
            raise UsageError(
                "the applied plan is persistent", hint="Add --persist, or undo the plan first: bedplate tune undo"
            )
        found = _plan_for_mode(root_dir, policy, persist=persist)
        if confirm_within_s is not None and not found.refusals and not services.is_running():
            raise PreflightError(
                "--confirm-within: needs a systemd timer, but process 1 is not systemd",
                hint="Nothing was changed. Without a timer, nothing reverts the plan if you lose the connection: "
                "apply it from the machine's own console.",
            )
        if persist and session.is_applied(persist=False) and not found.refusals:
            progress.note("undo the plan that was applied until the next boot")
            session.undo(persist=False, why="replaced by a plan for all boots")
            found = _plan_for_mode(root_dir, policy, persist=persist)
        if on_plan is not None:
            on_plan(found)
        if not found.changes and not found.refusals and not session.is_applied(persist=persist):
            return ApplyOutcome(plan=found, applied=None, recovered=recovered, persist=persist)
        applied = session.apply(
            found, persist=persist, on_step=progress.detail, confirm_within_s=confirm_within_s, probe=probe
        )
    return ApplyOutcome(plan=found, applied=applied, recovered=recovered, persist=persist)


def verify(root_dir: Path, progress: Progress) -> VerifyOutcome:
    """What is in force of what was applied. Raises NotAppliedError when nothing is."""
    recovered = _recover_if_root(root_dir, progress)
    verified = verify_applied(root_dir=root_dir)
    if verified is None:
        raise _not_applied(root_dir)
    return VerifyOutcome(verified=verified, recovered=recovered)


def undo(root_dir: Path, progress: Progress, *, abandon: bool = False) -> UndoOutcome:
    """Take back what is applied, where it still has our value. abandon: give up, by name, what can never be taken back."""
    with hold_tuning(root_dir) as session:
        return _undo(session, _recover(session, progress, abandon=abandon), progress, why="asked", abandon=abandon)


def undo_unless_confirmed(
    root_dir: Path, progress: Progress, *, probe: str | None = None, abandon: bool = False
) -> UndoOutcome:
    """Take back what waits to be confirmed, unless the address `probe` answers: what the timer runs.

    A timer comes once: it waits for who applies for longer than the time, or looks at what is applied just then.
    """
    with hold_tuning(root_dir, wait_s=_TIMER_WAIT_S) as session:
        recovered = _recover(session, progress, abandon=abandon)
        nothing = Undone(restored=(), drifted=())
        if not session.waits():
            session.disarm()
            return UndoOutcome(end=UndoEnd.CONFIRMED, undone=nothing, recovered=recovered)
        if probe and answers(probe):
            session.confirm()
            return UndoOutcome(end=UndoEnd.KEPT, undone=nothing, recovered=recovered)
        return _undo(session, recovered, progress, why="not confirmed in time", abandon=abandon)


def confirm(root_dir: Path, progress: Progress) -> ConfirmOutcome:
    """Keep what was applied until it is confirmed. Raises NotAppliedError when it was taken back, or never applied."""
    with hold_tuning(root_dir) as session:
        recovered = _recover(session, progress)
        confirmed = session.confirm()
        if not any(session.is_applied(persist=persist) for persist in (False, True)):
            raise _not_applied(root_dir)
        return ConfirmOutcome(confirmed=confirmed, recovered=recovered)


def log(root_dir: Path, progress: Progress) -> tuple[dict[str, Any], ...]:
    """What was applied, undone and recovered on this host, oldest first, as rows of the log."""
    _recover_if_root(root_dir, progress)
    return read_history(root_dir=root_dir)


def uninstall(root_dir: Path, progress: Progress) -> UndoOutcome:
    """Undo, and remove the log and every generated file."""
    with hold_tuning(root_dir) as session:
        outcome = _undo(session, _recover(session, progress), progress, why="uninstalled")
        gone = session.remove_everything()
    whole = (*outcome.undone.restored, *(f"remove {path}" for path in gone))
    return replace(outcome, undone=replace(outcome.undone, restored=whole))


def answers(url: str) -> bool:
    """Whether a GET of the address gives 200 in time; anything else, an unknown scheme too, is no."""
    if not url.startswith(("http://", "https://")):
        return False
    import urllib.request  # 50 modules, which the plan of a boot must not pay for

    try:
        with urllib.request.urlopen(url, timeout=_PROBE_S) as answer:
            return bool(answer.status == 200)
    except (OSError, ValueError):
        return False


# -- what they share


def _recovered_rows(recovered: Sequence[Recovered]) -> dict[str, Any]:
    """For JSON: interrupted changes that the verb found and ended; no key when there was none."""
    return {"recovered": [asdict(found) for found in recovered]} if recovered else {}


def _not_applied(root_dir: Path) -> NotAppliedError:
    return NotAppliedError(
        f"no plan is applied{_say_last(read_history(root_dir=root_dir))}", hint="Read the plan: bedplate tune plan"
    )


def _say_last(rows: Sequence[dict[str, Any]]) -> str:
    """What happened to the plan that is not there any more, by the rows of the log, oldest first."""
    row = next((row for row in reversed(rows) if row.get("what") in _LAST), None)
    if row is None:
        return ", and no plan was applied since the last boot"
    why = f" ({row['why']})" if row.get("why", "asked") != "asked" else ""
    return f": {_LAST[row['what']]} at {row.get('at')}{why}"


def _undo(
    session: TuningSession, recovered: tuple[Recovered, ...], progress: Progress, *, why: str, abandon: bool = False
) -> UndoOutcome:
    undone = session.undo(on_step=progress.detail, why=why, abandon=abandon)
    session.disarm()
    return UndoOutcome(end=UndoEnd.UNDONE, undone=undone, recovered=recovered)


def _recover(
    session: TuningSession, progress: Progress, *, persist: bool | None = None, abandon: bool = False
) -> tuple[Recovered, ...]:
    """End what an earlier use case left half done, and say so."""

    def say(found: Recovered) -> None:
        progress.note(f"an interrupted change was found; it was {_ENDED[found.kind]}")
        for text in found.drifted:
            progress.note(f"left alone: {text}")
        for text in found.abandoned:
            progress.note(f"given up: {text}")
        if found.journal:
            progress.note(f"the journal is kept: {found.journal}")

    return session.recover(persist=persist, abandon=abandon, on_recovered=say)


def _recover_if_root(root_dir: Path, progress: Progress) -> tuple[Recovered, ...]:
    """First thing of what only reads: it needs no root, and then says what waits; it goes on when that cannot be brought
    back. Raises BusyError."""
    waiting = [persist for persist in (False, True) if is_interrupted(root_dir=root_dir, persist=persist)]
    if not waiting:
        return ()
    if os.geteuid() != 0:
        progress.note("an interrupted change must be reverted: run this command with sudo")
        return ()
    try:
        with hold_tuning(root_dir) as session:
            return _recover(session, progress, persist=waiting[0] if len(waiting) == 1 else None)
    except BusyError:
        raise
    except BedplateError as error:
        for line in error.message.splitlines():
            progress.note(f"warning: {line}")
        for line in (error.hint or "").splitlines():
            progress.note(f"hint: {line}")
        return ()
