"""Resolve kernel, driver, CUDA or ROCm, framework and engine into one lock; explain a choice or a conflict.

A wish is a TOML file of a few lines, or the options of `resolve`. The answer is one lock that no row of the catalogue
forbids: each component with its version and source, why it is this version, and what held back a newer one. If there is
none, the answer is a chain of facts that excludes the wish, of which none can be left out, with the evidence of each, and
the nearest wishes that are possible. Rows that you add to /etc/bedplate/catalog.d count as well, and so do those of bundles
(`bedplate catalog`).

examples:
  bedplate stack resolve wish.toml                             resolve a wish and print the stack
  bedplate stack resolve wish.toml --output stack.lock         write the lock as a file
  bedplate stack resolve --engine vllm --accelerator h100      resolve a wish that the options state
  bedplate stack resolve wish.toml --lock stack.lock           change as little of the present lock as possible
  bedplate stack resolve wish.toml --python-locks locks        also lock the Python packages of each layer
  bedplate stack why nvidia-driver wish.toml                   explain why the driver has this version
  bedplate stack why "kernel >=7.4" wish.toml                  explain what excludes a version
  bedplate stack diff old.lock new.lock                        list what differs between two locks
  bedplate stack show stack.lock                               print a lock with all evidence
  bedplate stack check                                         check what is installed on this machine
  bedplate stack check --lock stack.lock                       check it against a lock, too

With --python-locks, uv locks the Python packages of each layer with hashes. It reads the registry's own metadata, with the
driver of the lock as a package, and so checks the rows: if it finds no solution, the rows are wrong or out of date.

`check` judges any Debian or Ubuntu host, with or without an image of bedplate: upgrades that ended half-way, and what the
next reboot will break. It changes nothing and starts no other program.

Exit status: 1 when the wish is not possible or uv disagrees (`resolve`, `why`), when the locks differ (`diff`), or when a
finding reaches --fail-on (`check`); 2 when `check` could not read the machine or the recording.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from bedplate.cli.audit import add_from, add_judging, finish_audit, judges
from bedplate.cli.result import print_result
from bedplate.cli.screen import this_screen
from bedplate.cli.subcommand import AnyOrderParser, Subcommands, add_subcommand, run_subcommand
from bedplate.cli.terminal import terminal_progress
from bedplate.errors import UsageError
from bedplate.flows import stack
from bedplate.flows.pages import check_page
from bedplate.flows.stack_check import check_stack
from bedplate.model.python_lock import PythonLock
from bedplate.model.stack import StackConflict, StackPolicy
from bedplate.report.stack import (
    bundle_differences,
    choice_object,
    conflict_object,
    difference_objects,
    lock_object,
    python_object,
    render_conflict_text,
    render_difference,
    render_python_lock,
    render_stack_text,
    render_why_text,
)
from bedplate.report.stack_check import render_installed


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verbs of `bedplate stack` with the options of each."""
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB", parser_class=AnyOrderParser)
    wished = argparse.ArgumentParser(add_help=False)
    wished.add_argument("wish", nargs="?", metavar="WISH", type=Path, help="TOML file of the wish")
    _add_wish_options(wished)
    resolve = add_subcommand(
        verbs,
        "resolve",
        run=_resolve,
        json="print one JSON object",
        parents=[wished],
        help="find the stack that meets a wish, or say why there is none",
        examples=(
            "bedplate stack resolve wish.toml --output stack.lock",
            'bedplate stack resolve --engine "vllm >=0.19" --accelerator h100 --require "kernel >=7"',
            "bedplate stack resolve --engine llama-cpp --accelerator this-host --json",
        ),
    )
    resolve.add_argument("--output", metavar="FILE", type=Path, help="also write the lock to this file")
    resolve.add_argument(
        "--python-locks",
        metavar="DIR",
        type=Path,
        help="also lock the Python packages of each layer with uv, and write DIR/LAYER.txt with their hashes",
    )
    resolve.add_argument("--verbose", action="store_true", help="show the evidence of each component")
    why = add_subcommand(
        verbs,
        "why",
        run=_why,
        help="explain why a component has its version, or what excludes a version",
        examples=(
            "bedplate stack why nvidia-driver wish.toml",
            'bedplate stack why "vllm ==0.33.0" --accelerator a100',
            "bedplate stack why kernel --from-lock stack.lock",
        ),
    )
    why.add_argument("component", metavar="COMPONENT", help='a component ("kernel"), or one with bounds ("kernel >=7.4")')
    why.add_argument("wish", nargs="?", metavar="WISH", type=Path, help="TOML file of the wish")
    _add_wish_options(why)
    why.add_argument("--from-lock", metavar="LOCK", type=Path, help="explain a component of this lock instead of a wish")
    why.add_argument("--json", action="store_true", help="print one JSON object")
    diff = add_subcommand(
        verbs,
        "diff",
        run=_diff,
        json="print one JSON object",
        help="list the components and bundles that differ between two locks",
        examples=("bedplate stack diff old.lock new.lock",),
    )
    diff.add_argument("old", metavar="OLD", type=Path, help="the lock to compare with")
    diff.add_argument("new", metavar="NEW", type=Path, help="the lock that is compared")
    show = add_subcommand(
        verbs,
        "show",
        run=_show,
        json="print one JSON object",
        help="print a lock with the evidence of each component",
        examples=("bedplate stack show stack.lock", "bedplate stack show stack.lock --json"),
    )
    show.add_argument("lock", metavar="LOCK", type=Path, help="file of the lock")
    _add_check(verbs)


def _add_check(verbs: Subcommands) -> None:
    check = add_subcommand(
        verbs,
        "check",
        run=_check,
        help="check what is installed on a machine, and what the next reboot will break",
        examples=(
            "bedplate stack check",
            "bedplate stack check --lock stack.lock --verbose",
            "bedplate stack check --venv /opt/vllm --fail-on high",
            "bedplate stack check --from host.tar.zst --json",
        ),
    )
    check.add_argument("--lock", metavar="LOCK", type=Path, help="also compare the machine with this lock")
    add_from(check)
    check.add_argument(
        "--venv",
        action="append",
        metavar="DIR",
        type=Path,
        help="also read this Python environment; may be repeated. Those of services, and in /opt, /srv, /home, /root, "
        "/usr/local, /data and /var/lib, are found without it",
    )
    check.add_argument(
        "--json", action="store_true", help="print one JSON object with all facts (docs/reference/audit.schema.json)"
    )
    add_judging(check)
    check.set_defaults(sarif=False)


def _add_wish_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--engine", action="append", metavar="ENGINE", help='engine, with bounds or without: "vllm >=0.19"; may be repeated'
    )
    parser.add_argument(
        "--accelerator",
        action="append",
        metavar="DEVICE",
        help='devices of the machine ("8x h100"), this-host for those of this machine, none for a machine without any',
    )
    parser.add_argument("--host", action="append", metavar="NAME[=VALUE]", help="property of the machine: nvswitch, nodes=2")
    parser.add_argument("--model", action="append", metavar="NAME", help="model of the catalog, or a file, that is served")
    parser.add_argument(
        "--require", action="append", metavar="CONDITION", help='condition on any component: "kernel >=7, <7.4"'
    )
    parser.add_argument("--source", action="append", metavar="SOURCE", help="source, or group of sources, that is allowed")
    parser.add_argument("--licence", action="append", metavar="LICENCE", help="licence that is allowed (default: all)")
    parser.add_argument(
        "--policy",
        choices=[policy.value for policy in StackPolicy],
        help="newest: the newest possible; stable: few changes of the present lock; pinned: none (default: stable)",
    )
    parser.add_argument(
        "--lock", metavar="LOCK", type=Path, help="the present lock, which the policies stable and pinned keep"
    )
    parser.add_argument("--from", dest="recording", metavar="PATH", type=Path, help="take the hardware from this recording")


def main(arguments: argparse.Namespace) -> int:
    """Exit status 0 for a lock, 1 where the wish is not possible, two locks differ, or a finding reaches --fail-on.

    Raises UsageError, DataError and ReadError for files and options that are wrong, PreflightError where the resolver is not
    installed, AuditError for what `check` could not read.
    """
    return run_subcommand(arguments)


def _request(arguments: argparse.Namespace) -> stack.StackRequest:
    named = arguments.accelerator
    return stack.StackRequest(
        file=arguments.wish,
        engines=tuple(arguments.engine or ()),
        accelerators=None if named is None else tuple(name for name in named if name != "none"),
        host=tuple(arguments.host or ()),
        models=tuple(arguments.model or ()),
        require=tuple(arguments.require or ()),
        sources=tuple(arguments.source or ()),
        licences=tuple(arguments.licence or ()),
        policy=StackPolicy(arguments.policy) if arguments.policy else None,
        present=arguments.lock,
        recording=arguments.recording,
    )


def _resolve(arguments: argparse.Namespace) -> int:
    answer = stack.resolve_stack(_request(arguments))
    if isinstance(answer, StackConflict):
        return _print_conflict(answer, arguments)
    if arguments.output is not None:
        stack.write_lock(arguments.output, answer)
    locks: tuple[PythonLock, ...] = ()
    if arguments.python_locks is not None:
        with terminal_progress() as progress:
            locks = stack.lock_python_packages(answer, arguments.python_locks, progress)
    print_result(
        arguments,
        {**lock_object(answer), "python": [python_object(lock) for lock in locks]},
        (render_stack_text(answer, this_screen(), verbose=arguments.verbose) + "".join(map(render_python_lock, locks))),
    )
    return 1 if any(lock.conflict for lock in locks) else 0


def _why(arguments: argparse.Namespace) -> int:
    if arguments.from_lock is not None and arguments.wish is not None:
        raise UsageError(f"{arguments.wish}: a wish, beside --from-lock {arguments.from_lock}", hint="Name one of the two.")
    if arguments.from_lock is not None:
        answer = stack.find_choices(stack.read_record(arguments.from_lock).lock, arguments.component)
    else:
        explained = stack.explain_component(_request(arguments), arguments.component)
        if isinstance(explained, StackConflict):
            return _print_conflict(explained, arguments)
        answer = explained
    return print_result(
        arguments,
        {"possible": True, "components": [choice_object(choice) for choice in answer]},
        render_why_text(answer, this_screen()),
    )


def _print_conflict(conflict: StackConflict, arguments: argparse.Namespace) -> int:
    print_result(arguments, conflict_object(conflict), render_conflict_text(conflict, this_screen()))
    return 1


def _diff(arguments: argparse.Namespace) -> int:
    old, new = stack.read_record(arguments.old), stack.read_record(arguments.new)
    rows, bundles = difference_objects(old, new), bundle_differences(old, new)
    text = render_difference(old, new) or "The locks have the same components.\n"
    print_result(arguments, {"differences": rows, "bundles": bundles}, text)
    return 1 if rows or bundles else 0


def _show(arguments: argparse.Namespace) -> int:
    record = stack.read_record(arguments.lock)
    return print_result(arguments, lock_object(record), render_stack_text(record, this_screen(), verbose=True))


@judges
def _check(arguments: argparse.Namespace) -> int:
    check_page(arguments.html)
    report = check_stack(
        arguments.recording, lock=arguments.lock, environments=tuple(arguments.venv or ()), suppress=arguments.suppress
    )
    head = "" if arguments.json else render_installed(report.facts, this_screen())
    return finish_audit(report, arguments, head=head, verb="stack check")
