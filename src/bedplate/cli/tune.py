"""Protect the engines of this host: plan what to set, apply it as one transaction, verify it, and undo it.

bedplate changes only what the plan lists, with the reason and the evidence. `apply` makes all changes or none: it journals
each change first, makes it, and reads the value back; if one value does not take effect, it reverts all of them. The changes
last until the next boot; with --persist they are also written as files below /etc. `undo` restores every value that still
has the setting bedplate wrote; it lists values that something else has changed since, and leaves them alone.

examples:
  bedplate tune plan                              show what would change and why, and what is left alone
  bedplate tune plan --policy latency --verbose   plan for another goal, and show all evidence
  bedplate tune plan --from host.tar.zst --json   plan for a recorded machine
  bedplate tune apply                             apply the plan until the next boot
  bedplate tune apply --persist                   apply it for every boot
  bedplate tune apply --confirm-within 10m --probe http://127.0.0.1:8080/health
  bedplate tune confirm                           keep a plan that waits for confirmation
  bedplate tune verify                            check that every applied value is in force
  bedplate tune undo                              restore everything
  bedplate tune undo --abandon                    restore what can be restored, list the rest, and give it up
  bedplate tune uninstall                         undo, and also remove the log

Exit status: 1 when verify finds a value that differs or cannot be read, or when a change failed and everything was reverted;
6 when the plan must not be applied on this host (the message gives the reason, and nothing was changed); 8 when confirm or
verify finds no applied plan (the message says when the plan was reverted).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bedplate.cli.argument_types import directory
from bedplate.cli.subcommand import add_subcommand
from bedplate.errors import BedplateError, UsageError
from bedplate.model.tuning import Policy, Verified
from bedplate.model.units import parse_duration
from bedplate.report.plan import render_log, verified_objects

if TYPE_CHECKING:
    from bedplate.flows.tune import ApplyOutcome, UndoOutcome
    from bedplate.model.tuning import Plan, Recovered

HELP = "plan, apply, verify and undo settings that protect the engines of this host"
_BOOT_S = 30.0  # a boot goes on after that, with everything taken back


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verbs of `bedplate tune`, each with the options it takes; --confirm-within is parsed by `main`."""
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--json", action="store_true", help="print one JSON object")
    common.add_argument(
        "--root", type=directory, default=Path("/"), help="read and write below this directory (default: %(default)s)"
    )
    shown = argparse.ArgumentParser(add_help=False)
    shown.add_argument(
        "--policy",
        choices=[policy.value for policy in Policy],
        default=Policy.SHARED_HOST.value,
        help="goal of the plan (default: %(default)s)",
    )
    shown.add_argument("--verbose", action="store_true", help="show all sources, and every knob that is left alone")
    _add_plan(verbs, common, shown)
    _add_apply(verbs, common, shown)
    add_subcommand(
        verbs,
        "verify",
        parents=[common],
        help="check that every applied value is in force",
        examples=("bedplate tune verify", "bedplate tune verify --json"),
    )
    _add_undo(verbs, common)
    add_subcommand(
        verbs,
        "confirm",
        parents=[common],
        help="keep a plan that was applied with --confirm-within",
        examples=("bedplate tune confirm",),
    )
    add_subcommand(
        verbs,
        "log",
        parents=[common],
        help="list what was applied, undone and recovered on this host",
        examples=("bedplate tune log", "bedplate tune log --json"),
    )
    add_subcommand(
        verbs,
        "uninstall",
        parents=[common],
        help="undo the plan, and remove the log and every generated file",
        examples=("bedplate tune uninstall",),
    )


def _add_plan(
    verbs: argparse._SubParsersAction[argparse.ArgumentParser],
    common: argparse.ArgumentParser,
    shown: argparse.ArgumentParser,
) -> None:
    plan = add_subcommand(
        verbs,
        "plan",
        parents=[common, shown],
        help="show what would change and why, and what is left alone; change nothing",
        examples=("bedplate tune plan", "bedplate tune plan --from host.tar.zst --policy latency"),
    )
    plan.add_argument("--from", dest="recording", metavar="PATH", type=Path, help="plan for this recording of a machine")


def _add_apply(
    verbs: argparse._SubParsersAction[argparse.ArgumentParser],
    common: argparse.ArgumentParser,
    shown: argparse.ArgumentParser,
) -> None:
    apply = add_subcommand(
        verbs,
        "apply",
        parents=[common, shown],
        help="make all changes of the plan, or none",
        examples=(
            "bedplate tune apply",
            "bedplate tune apply --persist --confirm-within 10m --probe http://127.0.0.1:8080/health",
        ),
    )
    apply.add_argument(
        "--persist", action="store_true", help="also write files below /etc, so that every boot applies the plan"
    )
    apply.add_argument("--boot", action="store_true", help="used by the boot unit: stop after 30 s and always exit with 0")
    apply.add_argument(
        "--confirm-within", metavar="TIME", help="revert the plan after TIME (such as 10m) unless you confirm it"
    )
    apply.add_argument(
        "--probe", metavar="URL", help="with --confirm-within: keep the plan if this URL answers 200 when the time is over"
    )


def _add_undo(verbs: argparse._SubParsersAction[argparse.ArgumentParser], common: argparse.ArgumentParser) -> None:
    undo = add_subcommand(
        verbs,
        "undo",
        parents=[common],
        help="restore every value that still has the setting bedplate wrote",
        examples=("bedplate tune undo", "bedplate tune undo --abandon"),
    )
    undo.add_argument(
        "--abandon",
        action="store_true",
        help="restore what can be restored, list the rest, and give it up; the journal is moved aside, not removed",
    )
    undo.add_argument(
        "--unless-confirmed", action="store_true", help="used by the timer of --confirm-within: do nothing if confirmed"
    )
    undo.add_argument("--probe", metavar="URL", help="with --unless-confirmed: keep the plan if this URL answers 200")


def main(arguments: argparse.Namespace) -> int:
    """Exit status 0 when the verb did its work; `verify` gives 1 when a value is not in force, `apply --boot` 0 whatever
    failed.

    Raises PlanRefused (6) when the plan must not be applied, NotAppliedError (8) where nothing is, BusyError beside another
    change, BedplateError when a step failed: then all was taken back.
    """
    if arguments.verb == "plan":
        return _plan(arguments)
    if arguments.verb == "verify":
        return _verify(arguments)
    if arguments.verb == "log":
        return _log(arguments)
    match arguments.verb:
        case "apply":
            return _boot(arguments) if arguments.boot else _apply(arguments)
        case "undo":
            return _undo(arguments)
        case "confirm":
            return _confirm(arguments)
        case _:
            return _uninstall(arguments)


# -- verbs


def _plan(arguments: argparse.Namespace) -> int:
    from bedplate.cli.audit import reading_recording
    from bedplate.cli.talk import Talk
    from bedplate.flows import tune

    policy = Policy(arguments.policy)
    with reading_recording(arguments.recording):
        outcome = tune.plan(arguments.root, policy, Talk(), recording=arguments.recording)
    if arguments.json:
        _print_plan(outcome.plan, outcome.recovered)
    else:
        _show(outcome.plan, verbose=arguments.verbose, end="")
    return 0


def _apply(arguments: argparse.Namespace) -> int:
    from bedplate.cli.talk import Talk
    from bedplate.flows import tune

    within_s = _parse_time(arguments.confirm_within) if arguments.confirm_within else None
    if arguments.probe and within_s is None:
        raise UsageError("--probe: can only be used with --confirm-within", hint="Add --confirm-within 10m.")

    def show(plan: Plan) -> None:
        if not arguments.json and plan.changes and not plan.refusals:  # refusals are the error, with their hints
            _show(plan, verbose=arguments.verbose)

    outcome = tune.apply(
        arguments.root,
        Policy(arguments.policy),
        Talk(),
        persist=arguments.persist,
        confirm_within_s=within_s,
        probe=arguments.probe,
        on_plan=show,
    )
    return _say_applied(arguments, outcome)


def _boot(arguments: argparse.Namespace) -> int:
    """The same without questions: whatever goes wrong is said and the boot goes on."""
    import signal
    from types import FrameType

    def too_long(_: int, __: FrameType | None) -> None:
        raise BedplateError(f"not done after {_BOOT_S:.0f} s: everything was reverted")

    before = signal.signal(signal.SIGALRM, too_long)
    signal.setitimer(signal.ITIMER_REAL, _BOOT_S)
    try:
        return _apply(arguments)
    except BedplateError as error:
        print(f"tuning: {error.message}", file=sys.stderr)
        return 0
    except OSError as error:
        print(f"tuning: {error}", file=sys.stderr)
        return 0
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _verify(arguments: argparse.Namespace) -> int:
    from bedplate.cli.talk import Talk
    from bedplate.flows import tune

    outcome = tune.verify(arguments.root, Talk())
    if arguments.json:
        print(json.dumps({"changes": verified_objects(outcome.verified), **_recovered_rows(outcome.recovered)}, indent=1))
    else:
        _print_verified(outcome.verified)
    return int(not outcome.holds)


def _undo(arguments: argparse.Namespace) -> int:
    from bedplate.cli.talk import Talk
    from bedplate.flows import tune

    if not arguments.unless_confirmed:
        return _say_undone(arguments, tune.undo(arguments.root, Talk(), abandon=arguments.abandon))
    outcome = tune.undo_unless_confirmed(arguments.root, Talk(), probe=arguments.probe, abandon=arguments.abandon)
    match outcome.end:
        case tune.UndoEnd.CONFIRMED:
            print("The plan was confirmed, or nothing is applied: nothing to do.")
            return 0
        case tune.UndoEnd.KEPT:
            print(f"{arguments.probe} answers: the plan is kept.")
            return 0
    return _say_undone(arguments, outcome)  # the timer's service is tried again when it fails: drift is no failure


def _confirm(arguments: argparse.Namespace) -> int:
    from bedplate.cli.talk import Talk
    from bedplate.flows import tune

    outcome = tune.confirm(arguments.root, Talk())
    if arguments.json:
        print(json.dumps({"confirmed": outcome.confirmed, **_recovered_rows(outcome.recovered)}))
    else:
        print("Kept." if outcome.confirmed else "The applied plan does not wait for confirmation: it is kept.")
    return 0


def _log(arguments: argparse.Namespace) -> int:
    from bedplate.cli.talk import Talk
    from bedplate.flows import tune

    rows = tune.log(arguments.root, Talk())
    if arguments.json:
        print(json.dumps(rows, indent=1))
        return 0
    print(render_log(rows), end="")
    return 0


def _uninstall(arguments: argparse.Namespace) -> int:
    from bedplate.cli.talk import Talk
    from bedplate.flows import tune

    return _say_undone(arguments, tune.uninstall(arguments.root, Talk()))


def _parse_time(text: str) -> int:
    try:
        found = round(parse_duration(text))
    except ValueError:
        found = 0
    if not 10 <= found <= 7 * 86400:
        raise UsageError(f"--confirm-within: got {text!r}, expected a time from 10s to 7 days, such as 90s, 10m or 2h")
    return found


# -- output


def _show(plan: Plan, *, verbose: bool, end: str = "\n") -> None:
    from bedplate.cli.screen import this_screen
    from bedplate.report.plan import render_plan_text

    print(render_plan_text(plan, this_screen(), verbose=verbose), end=end, flush=True)


def _print_plan(plan: Plan, recovered: Sequence[Recovered]) -> None:
    from bedplate.flows.tune import render_plan_record

    print(json.dumps({**render_plan_record(plan), **_recovered_rows(recovered)}, indent=1))


def _print_verified(verified: Sequence[Verified]) -> None:
    from bedplate.cli.screen import this_screen
    from bedplate.report.plan import render_verified

    print(render_verified(verified, this_screen()), end="")


def _say_applied(arguments: argparse.Namespace, outcome: ApplyOutcome) -> int:
    plan, applied = outcome.plan, outcome.applied
    row: dict[str, Any] = {"policy": plan.policy.value, "digest": plan.digest}
    if applied is None:
        if arguments.json:
            print(json.dumps({**row, "steps": 0, "drifted": [], "changes": [], **_recovered_rows(outcome.recovered)}))
        else:
            print("Every setting already has the value of the plan: nothing to change.")
        return 0
    if arguments.json:
        row |= {"steps": applied.steps, "persist": arguments.persist, "drifted": list(applied.drifted)}
        print(
            json.dumps(
                {**row, "changes": verified_objects(applied.verified), **_recovered_rows(outcome.recovered)}, indent=1
            )
        )
        return 0
    _print_verified(applied.verified)
    _say_drift(applied.drifted)
    if arguments.confirm_within:
        print(f"The plan is reverted in {arguments.confirm_within} unless you run: bedplate tune confirm")
    return 0


def _recovered_rows(recovered: Sequence[Recovered]) -> dict[str, Any]:
    """For --json: interrupted changes that this verb found and ended; no key when there was none."""
    return {"recovered": [asdict(found) for found in recovered]} if recovered else {}


def _say_undone(arguments: argparse.Namespace, outcome: UndoOutcome) -> int:
    undone = outcome.undone
    if arguments.json:
        given_up = {"abandoned": list(undone.abandoned), "journal": undone.journal} if undone.abandoned else {}
        row = {"restored": list(undone.restored), "drifted": list(undone.drifted), **given_up}
        print(json.dumps({**row, **_recovered_rows(outcome.recovered)}, indent=1))
        return 0
    count = len(undone.restored)
    print(f"{count} steps reverted." if count else "No plan of bedplate is applied on this host.")
    _say_drift(undone.drifted)
    for text in undone.abandoned:
        print(f"given up: {text}", file=sys.stderr)
    if undone.journal:
        print(f"the journal is kept: {undone.journal}", file=sys.stderr)
    return 0


def _say_drift(drifted: Sequence[str]) -> None:
    for text in drifted:
        print(f"left alone: {text}", file=sys.stderr)
