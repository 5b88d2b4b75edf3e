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
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from bedplate.cli.argument_types import directory, parse_time
from bedplate.cli.audit import reading_recording
from bedplate.cli.result import print_result
from bedplate.cli.screen import this_screen
from bedplate.cli.subcommand import Subcommands, add_subcommand, run_subcommand
from bedplate.cli.talk import Talk
from bedplate.errors import BedplateError
from bedplate.flows import tune
from bedplate.model.tuning import Plan, Policy
from bedplate.report.plan import render_applied, render_log, render_plan_text, render_undone, render_verified

_BOOT_S = 30.0  # a boot goes on after that, with everything taken back


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verbs of `bedplate tune`, each with the options it takes; --confirm-within is parsed by `apply`."""
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
        run=_verify,
        parents=[common],
        help="check that every applied value is in force",
        examples=("bedplate tune verify", "bedplate tune verify --json"),
    )
    _add_undo(verbs, common)
    add_subcommand(
        verbs,
        "confirm",
        run=_confirm,
        parents=[common],
        help="keep a plan that was applied with --confirm-within",
        examples=("bedplate tune confirm",),
    )
    add_subcommand(
        verbs,
        "log",
        run=_log,
        parents=[common],
        help="list what was applied, undone and recovered on this host",
        examples=("bedplate tune log", "bedplate tune log --json"),
    )
    add_subcommand(
        verbs,
        "uninstall",
        run=_uninstall,
        parents=[common],
        help="undo the plan, and remove the log and every generated file",
        examples=("bedplate tune uninstall",),
    )


def _add_plan(verbs: Subcommands, common: argparse.ArgumentParser, shown: argparse.ArgumentParser) -> None:
    plan = add_subcommand(
        verbs,
        "plan",
        run=_plan,
        parents=[common, shown],
        help="show what would change and why, and what is left alone; change nothing",
        examples=("bedplate tune plan", "bedplate tune plan --from host.tar.zst --policy latency"),
    )
    plan.add_argument("--from", dest="recording", metavar="PATH", type=Path, help="plan for this recording of a machine")


def _add_apply(verbs: Subcommands, common: argparse.ArgumentParser, shown: argparse.ArgumentParser) -> None:
    apply = add_subcommand(
        verbs,
        "apply",
        run=_apply,
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


def _add_undo(verbs: Subcommands, common: argparse.ArgumentParser) -> None:
    undo = add_subcommand(
        verbs,
        "undo",
        run=_undo,
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
    return run_subcommand(arguments)


# -- verbs


def _plan(arguments: argparse.Namespace) -> int:
    with reading_recording(arguments.recording):
        outcome = tune.plan(arguments.root, Policy(arguments.policy), Talk(), recording=arguments.recording)
    return print_result(
        arguments, outcome.make_record(), render_plan_text(outcome.plan, this_screen(), verbose=arguments.verbose)
    )


def _apply(arguments: argparse.Namespace) -> int:
    return _apply_at_boot(arguments) if arguments.boot else _apply_now(arguments)


def _apply_now(arguments: argparse.Namespace) -> int:
    within, expected = arguments.confirm_within, "a time from 10s to 7 days, such as 90s, 10m or 2h"
    within_s = round(parse_time(within, "--confirm-within", expected, least_s=10, most_s=7 * 86_400)) if within else None

    def show(plan: Plan) -> None:
        if not arguments.json and plan.changes and not plan.refusals:  # refusals are the error, with their hints
            print(render_plan_text(plan, this_screen(), verbose=arguments.verbose), flush=True)

    outcome = tune.apply(
        arguments.root,
        Policy(arguments.policy),
        Talk(),
        persist=arguments.persist,
        confirm_within_s=within_s,
        probe=arguments.probe,
        on_plan=show,
    )
    verified = outcome.applied.verified if outcome.applied is not None else None
    print_result(arguments, outcome.make_record(), render_applied(verified, this_screen()))
    if outcome.applied is not None and not arguments.json:
        _say("left alone", outcome.applied.drifted)
        if arguments.confirm_within:
            print(f"The plan is reverted in {arguments.confirm_within} unless you run: bedplate tune confirm")
    return 0


def _apply_at_boot(arguments: argparse.Namespace) -> int:
    """The same without questions: whatever goes wrong is said and the boot goes on."""

    def too_long(_: int, __: FrameType | None) -> None:
        raise BedplateError(f"not done after {_BOOT_S:.0f} s: everything was reverted")

    before = signal.signal(signal.SIGALRM, too_long)
    signal.setitimer(signal.ITIMER_REAL, _BOOT_S)
    try:
        return _apply_now(arguments)
    except (BedplateError, OSError) as error:
        print(f"tuning: {error}", file=sys.stderr)
        return 0
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _verify(arguments: argparse.Namespace) -> int:
    outcome = tune.verify(arguments.root, Talk())
    print_result(arguments, outcome.make_record(), render_verified(outcome.verified, this_screen()))
    return int(not outcome.holds)


def _undo(arguments: argparse.Namespace) -> int:
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
    outcome = tune.confirm(arguments.root, Talk())
    said = "Kept." if outcome.confirmed else "The applied plan does not wait for confirmation: it is kept."
    return print_result(arguments, outcome.make_record(), f"{said}\n")


def _log(arguments: argparse.Namespace) -> int:
    rows = tune.log(arguments.root, Talk())
    return print_result(arguments, rows, render_log(rows))


def _uninstall(arguments: argparse.Namespace) -> int:
    return _say_undone(arguments, tune.uninstall(arguments.root, Talk()))


# -- output


def _say_undone(arguments: argparse.Namespace, outcome: tune.UndoOutcome) -> int:
    undone = outcome.undone
    print_result(arguments, outcome.make_record(), render_undone(undone.restored))
    if not arguments.json:
        _say("left alone", undone.drifted)
        _say("given up", undone.abandoned)
        _say("the journal is kept", [undone.journal] if undone.journal else ())
    return 0


def _say(what: str, texts: Sequence[str]) -> None:
    for text in texts:
        Talk().note(f"{what}: {text}")
