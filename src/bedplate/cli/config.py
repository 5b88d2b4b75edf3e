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
from pathlib import Path
from typing import TYPE_CHECKING

from bedplate.cli.argument_types import directory, parse_time
from bedplate.cli.result import print_result
from bedplate.cli.subcommand import AnyOrderParser, Subcommands, add_subcommand, run_subcommand
from bedplate.cli.talk import Talk
from bedplate.flows import config
from bedplate.report.config import (
    identity_object,
    outcome_object,
    plan_object,
    render_history,
    render_outcome,
    render_plan,
    render_shown,
    shown_object,
)
from bedplate.report.escape import escape_lines

if TYPE_CHECKING:
    from bedplate.model.config_change import ConfigPlan, FileChange

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
        run=_check,
        parents=[shared],
        help="report every mistake in a configuration file",
        examples=("bedplate config check machine.toml",),
    )
    check.add_argument("file", metavar="FILE", type=Path, help="machine.toml, signed or not")
    show = add_subcommand(
        verbs,
        "show",
        run=_show,
        parents=[rooted],
        help="show what is in force, where it came from, and each key that differs from its default",
        examples=("bedplate config show", "bedplate config show --all", "bedplate config show --json"),
    )
    show.add_argument("--all", action="store_true", help="show every key, not only those that differ from their default")
    add_subcommand(
        verbs,
        "schema",
        run=_schema,
        help="print the JSON Schema of machine.toml, for editors and other programs",
        examples=("bedplate config schema",),
    )
    diff = add_subcommand(
        verbs,
        "diff",
        run=_diff,
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
        run=_history,
        parents=[rooted],
        help="list what was applied, confirmed and taken back on this machine",
        examples=("bedplate config history", "bedplate config history --json"),
    )


def _add_signing(verbs: Subcommands) -> None:
    make = add_subcommand(
        verbs,
        "make-key",
        run=_make_key,
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
        run=_sign,
        help="check a configuration, and write it with a signature",
        examples=("bedplate config sign machine.toml --output machine-12.toml",),
    )
    sign.add_argument("file", metavar="FILE", type=Path, help="machine.toml without a signature, with a sequence")
    sign.add_argument("--key", metavar="FILE", type=Path, help="private key (default: the one that `make-key` made)")
    sign.add_argument("--output", metavar="FILE", type=Path, required=True, help="write the signed file to this name")


def _add_changes(verbs: Subcommands, rooted: argparse.ArgumentParser) -> None:
    apply = add_subcommand(
        verbs,
        "apply",
        run=_apply,
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
        run=_confirm,
        parents=[rooted],
        help="keep the configuration that was applied last",
        examples=("bedplate config confirm",),
    )
    revert = add_subcommand(
        verbs,
        "revert",
        run=_revert,
        parents=[rooted],
        help="take back the configuration that waits to be confirmed",
        examples=("bedplate config revert",),
    )
    revert.add_argument("--unless-confirmed", action="store_true", help="used by the timer: do nothing if confirmed")
    add_subcommand(
        verbs,
        "restore",
        run=_restore,
        parents=[rooted],
        help="write the files of what is in force again, as each boot of an image does",
        examples=("bedplate config restore",),
    )


def main(arguments: argparse.Namespace) -> int:
    """Exit status 0 when the verb did its work.

    Raises ReadError, DataError and UsageError for a file that is refused, PlanRefused (6) for a host that it must not be
    applied on, NotAppliedError (8) where nothing waits, BusyError beside another change, BedplateError when a step failed.
    """
    return run_subcommand(arguments)


def _check(arguments: argparse.Namespace) -> int:
    given, notes = config.check(arguments.file)
    record = {"path": str(given.path), "sha256": given.sha256, "sequence": given.config.sequence, "notes": notes}
    text = f"{given.path}: no mistakes.\n" + "".join(f"note    {note}\n" for note in notes)
    return print_result(arguments, record, text, indent=None)


def _show(arguments: argparse.Namespace) -> int:
    shown = config.show(arguments.root)
    return print_result(arguments, shown_object(shown), render_shown(shown, everything=arguments.all))


def _schema(arguments: argparse.Namespace) -> int:
    from bedplate.report.config_schema import render_config_schema

    print(render_config_schema(), end="")
    return 0


def _diff(arguments: argparse.Namespace) -> int:
    plan = config.diff(arguments.file, arguments.root)
    return print_result(arguments, plan_object(plan), render_plan(plan))


def _make_key(arguments: argparse.Namespace) -> int:
    from bedplate.flows import config_file

    path, line = config_file.make_key(arguments.key)
    print(line)
    where = "config.keys of a machine or of the owner's keys takes this line"
    Talk().note(f"wrote {path}; " + ("new images trust it" if arguments.key is None else where))
    return 0


def _sign(arguments: argparse.Namespace) -> int:
    from bedplate.flows import config_file

    signed = config_file.sign_config(arguments.file, arguments.key, arguments.output)
    Talk().note(f"wrote {signed.path}: sequence {signed.config.sequence}, sha256 {signed.sha256}; its key: {signed.key}")
    return 0


def _apply(arguments: argparse.Namespace) -> int:
    expected, most_s = "a time from 10s to 7 days, such as 90s, 10m or 2h", 7 * 86400
    within_s = None
    if not arguments.no_confirm:
        within_s = round(parse_time(arguments.confirm_within, "--confirm-within", expected, least_s=10, most_s=most_s))

    def show(plan: ConfigPlan) -> None:
        if not arguments.json and (plan.files or arguments.dry_run):
            print(render_plan(plan), end="", flush=True)

    outcome = config.apply(
        arguments.file, arguments.root, Talk(), within_s=within_s, dry_run=arguments.dry_run, on_plan=show
    )
    record = {**outcome_object(outcome), "dry_run": arguments.dry_run}
    return print_result(arguments, record, "" if arguments.dry_run else render_outcome(outcome))


def _confirm(arguments: argparse.Namespace) -> int:
    kept = config.confirm(arguments.root, Talk())
    return print_result(arguments, identity_object(kept), f"Configuration {kept.number} is kept.\n", indent=None)


def _restore(arguments: argparse.Namespace) -> int:
    return _print_files(config.restore(arguments.root, Talk()), arguments, "All files of the configuration are there.\n")


def _revert(arguments: argparse.Namespace) -> int:
    changes = config.revert(arguments.root, Talk(), unless_confirmed=arguments.unless_confirmed)
    said = "No configuration waits.\n" if changes is None else "It is taken back.\n"
    return _print_files(changes or (), arguments, said)


def _print_files(changes: tuple[FileChange, ...], arguments: argparse.Namespace, said: str) -> int:
    record = {"files": [{"path": change.path, "what": change.what} for change in changes]}
    text = "".join(f"{change.what:<8}{change.path}\n" for change in changes) + said
    return print_result(arguments, record, text, indent=None)


def _history(arguments: argparse.Namespace) -> int:
    rows = config.history(arguments.root)
    return print_result(arguments, rows, "".join(f"{line}\n" for line in escape_lines(render_history(rows))))
