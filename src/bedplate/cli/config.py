"""The configuration of a machine: one file, machine.toml, put in force as one transaction.

`apply` checks the whole file, shows which files and units change, applies it, and takes it back by itself unless you confirm
it in time: if a mistake cuts the machine off, you only have to wait. If one step fails, everything is put back. A production
image accepts only files that the owner's key has signed and that are not older than the one in force. Passwords, tokens and
private keys have no place in the file and are refused.

examples:
  bedplate config check machine.toml               report every mistake in the file, with what was expected
  bedplate config diff machine.toml                show which keys, files and units would change
  bedplate config make-key                         make the key that signs configurations; new images trust it
  bedplate config sign machine.toml --output machine-12.toml
  bedplate config apply machine-12.toml            apply it; without `confirm` it is taken back after ten minutes
  bedplate config confirm                          keep it
  bedplate config revert                           take it back now
  bedplate config show                             show what is in force, and where it came from
  bedplate config history                          list what was applied, confirmed and taken back
  bedplate config schema > machine.schema.json     print the JSON Schema, for editors

Exit status: 6 when the file must not be applied on this host (nothing was changed); 8 when confirm or revert finds nothing
that waits to be confirmed.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from bedplate.cli.argument_types import directory
from bedplate.cli.escape import escape_lines
from bedplate.cli.subcommand import AnyOrderParser, add_subcommand
from bedplate.errors import UsageError
from bedplate.model.units import parse_duration

if TYPE_CHECKING:
    from bedplate.model.config_change import ConfigPlan, FileChange

HELP = "check, show, sign, apply and take back the configuration of a machine"
_WITHIN = "10m"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verbs of `bedplate config`."""
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB", parser_class=AnyOrderParser)
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--json", action="store_true", help="print one JSON object")
    rooted = argparse.ArgumentParser(add_help=False, parents=[shared])
    rooted.add_argument(
        "--root", type=directory, default=Path("/"), help="read and write below this directory (default: %(default)s)"
    )
    check = add_subcommand(
        verbs,
        "check",
        parents=[shared],
        help="report every mistake in a configuration file",
        examples=("bedplate config check machine.toml",),
    )
    check.add_argument("file", metavar="FILE", type=Path, help="machine.toml, signed or not")
    show = add_subcommand(
        verbs,
        "show",
        parents=[rooted],
        help="show what is in force, where it came from, and each key that differs from its default",
        examples=("bedplate config show", "bedplate config show --all", "bedplate config show --json"),
    )
    show.add_argument("--all", action="store_true", help="show every key, not only those that differ from their default")
    add_subcommand(
        verbs,
        "schema",
        help="print the JSON Schema of machine.toml, for editors and other programs",
        examples=("bedplate config schema",),
    )
    diff = add_subcommand(
        verbs,
        "diff",
        parents=[rooted],
        help="show which keys, files and units a configuration would change; change nothing",
        examples=("bedplate config diff machine.toml",),
    )
    diff.add_argument("file", metavar="FILE", type=Path, help="machine.toml, signed or not")
    _add_signing(verbs)
    _add_changes(verbs, rooted)
    add_subcommand(
        verbs,
        "history",
        parents=[rooted],
        help="list what was applied, confirmed and taken back on this machine",
        examples=("bedplate config history", "bedplate config history --json"),
    )


def _add_signing(verbs: argparse._SubParsersAction[AnyOrderParser]) -> None:
    make = add_subcommand(
        verbs,
        "make-key",
        help="make the private key that signs configurations, and print the public one",
        examples=("bedplate config make-key", "bedplate config make-key /media/safe/config.key"),
    )
    make.add_argument(
        "key",
        metavar="FILE",
        type=Path,
        nargs="?",
        help="file of the new key (default: beside the owner's other keys, and every new image trusts it)",
    )
    sign = add_subcommand(
        verbs,
        "sign",
        help="check a configuration, and write it with a signature",
        examples=("bedplate config sign machine.toml --output machine-12.toml",),
    )
    sign.add_argument("file", metavar="FILE", type=Path, help="machine.toml without a signature, with a sequence")
    sign.add_argument("--key", metavar="FILE", type=Path, help="private key (default: the one that `make-key` made)")
    sign.add_argument("--output", metavar="FILE", type=Path, required=True, help="write the signed file to this name")


def _add_changes(verbs: argparse._SubParsersAction[AnyOrderParser], rooted: argparse.ArgumentParser) -> None:
    apply = add_subcommand(
        verbs,
        "apply",
        parents=[rooted],
        help="put a configuration in force, all of it or nothing",
        examples=(
            "bedplate config apply machine-12.toml",
            "bedplate config apply machine-12.toml --dry-run",
            "bedplate config apply machine-12.toml --confirm-within 1h",
        ),
    )
    apply.add_argument("file", metavar="FILE", type=Path, help="machine.toml; signed, where the machine asks for that")
    apply.add_argument("--dry-run", action="store_true", help="only show what would change")
    apply.add_argument(
        "--confirm-within",
        metavar="TIME",
        default=_WITHIN,
        help="take it back after TIME unless you confirm it (default: %(default)s)",
    )
    apply.add_argument("--no-confirm", action="store_true", help="keep it without confirmation")
    add_subcommand(
        verbs,
        "confirm",
        parents=[rooted],
        help="keep the configuration that was applied last",
        examples=("bedplate config confirm",),
    )
    revert = add_subcommand(
        verbs,
        "revert",
        parents=[rooted],
        help="take back the configuration that waits to be confirmed",
        examples=("bedplate config revert",),
    )
    revert.add_argument("--unless-confirmed", action="store_true", help="used by the timer: do nothing if confirmed")
    add_subcommand(
        verbs,
        "restore",
        parents=[rooted],
        help="write the files of what is in force again, as each boot of an image does",
        examples=("bedplate config restore",),
    )


def main(arguments: argparse.Namespace) -> int:
    """Exit status 0 when the verb did its work.

    Raises ReadError, DataError and UsageError for a file that is refused, PlanRefused (6) for a host that it must not be
    applied on, NotAppliedError (8) where nothing waits, BusyError beside another change, BedplateError when a step failed.
    """
    match arguments.verb:
        case "check":
            return _check(arguments)
        case "show":
            return _show(arguments)
        case "schema":
            return _schema()
        case "diff":
            return _diff(arguments)
        case "make-key" | "sign":
            return _sign(arguments)
        case "apply":
            return _apply(arguments)
        case "history":
            return _history(arguments)
    return _change(arguments)


def _check(arguments: argparse.Namespace) -> int:
    from bedplate.flows import config

    given, notes = config.check(arguments.file)
    if arguments.json:
        sequence = given.config.sequence
        print(json.dumps({"path": str(given.path), "sha256": given.sha256, "sequence": sequence, "notes": notes}))
    else:
        print(f"{given.path}: no mistakes.")
        print("".join(f"note    {note}\n" for note in notes), end="")
    return 0


def _show(arguments: argparse.Namespace) -> int:
    from bedplate.flows import config
    from bedplate.report.config import render_shown, shown_object

    shown = config.show(arguments.root)
    if arguments.json:
        print(json.dumps(shown_object(shown), indent=1))
    else:
        print(render_shown(shown, everything=arguments.all), end="")
    return 0


def _schema() -> int:
    from bedplate.report.config_schema import render_config_schema

    print(render_config_schema(), end="")
    return 0


def _diff(arguments: argparse.Namespace) -> int:
    from bedplate.flows import config
    from bedplate.report.config import plan_object, render_plan

    plan = config.diff(arguments.file, arguments.root)
    print(f"{json.dumps(plan_object(plan), indent=1)}\n" if arguments.json else render_plan(plan), end="")
    return 0


def _sign(arguments: argparse.Namespace) -> int:
    from bedplate.cli.talk import Talk
    from bedplate.flows import config_file

    if arguments.verb == "make-key":
        path, line = config_file.make_key(arguments.key)
        print(line)
        where = "config.keys of a machine or of the owner's keys takes this line"
        Talk().note(f"wrote {path}; " + ("new images trust it" if arguments.key is None else where))
        return 0
    signed = config_file.sign_config(arguments.file, arguments.key, arguments.output)
    Talk().note(f"wrote {signed.path}: sequence {signed.config.sequence}, sha256 {signed.sha256}; its key: {signed.key}")
    return 0


def _apply(arguments: argparse.Namespace) -> int:
    from bedplate.cli.talk import Talk
    from bedplate.flows import config
    from bedplate.report.config import outcome_object, render_outcome, render_plan

    within_s = None if arguments.no_confirm else _parse_within(arguments.confirm_within)

    def show(plan: ConfigPlan) -> None:
        if not arguments.json and (plan.files or arguments.dry_run):
            print(render_plan(plan), end="", flush=True)

    outcome = config.apply(
        arguments.file, arguments.root, Talk(), within_s=within_s, dry_run=arguments.dry_run, on_plan=show
    )
    if arguments.json:
        print(json.dumps({**outcome_object(outcome), "dry_run": arguments.dry_run}, indent=1))
    elif not arguments.dry_run:
        print(render_outcome(outcome), end="")
    return 0


def _change(arguments: argparse.Namespace) -> int:
    """confirm, revert and restore."""
    from bedplate.cli.talk import Talk
    from bedplate.flows import config
    from bedplate.report.config import identity_object

    if arguments.verb == "confirm":
        kept = config.confirm(arguments.root, Talk())
        print(json.dumps(identity_object(kept)) if arguments.json else f"Configuration {kept.number} is kept.")
        return 0
    if arguments.verb == "restore":
        return _print_files(config.restore(arguments.root, Talk()), arguments, "All files of the configuration are there.")
    changes = config.revert(arguments.root, Talk(), unless_confirmed=arguments.unless_confirmed)
    return _print_files(changes or (), arguments, "No configuration waits." if changes is None else "It is taken back.")


def _print_files(changes: tuple[FileChange, ...], arguments: argparse.Namespace, said: str) -> int:
    if arguments.json:
        print(json.dumps({"files": [{"path": change.path, "what": change.what} for change in changes]}))
    else:
        print("".join(f"{change.what:<8}{change.path}\n" for change in changes) + said)
    return 0


def _history(arguments: argparse.Namespace) -> int:
    from bedplate.flows import config
    from bedplate.report.config import render_history

    rows = config.history(arguments.root)
    print(json.dumps(rows, indent=1) if arguments.json else "\n".join(escape_lines(render_history(rows))))
    return 0


def _parse_within(text: str) -> int:
    try:
        found = round(parse_duration(text))
    except ValueError:
        found = 0
    if not 10 <= found <= 7 * 86400:
        raise UsageError(f"--confirm-within: got {text!r}, expected a time from 10s to 7 days, such as 90s, 10m or 2h")
    return found
