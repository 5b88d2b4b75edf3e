"""Import bundles of rows: devices, releases, known-bad combinations, models, signed by whoever publishes them.

A bundle is one TOML file with a name, a sequence and a date, signed with Ed25519. It is imported only if a line of
/etc/bedplate/catalog.keys trusts its key for its name; there is no such line before you add one. `stack` and `fit` then
use its rows beside those that ship and those in /etc/bedplate/catalog.d, and each lock names it. A bundle that is unsigned,
changed, older than the one in force, or that contradicts other rows is refused, and nothing is changed.

examples:
  bedplate catalog import acme-12.toml              import a bundle, or replace the one of its name
  bedplate catalog import acme-12.toml --dry-run    show what the import would add, change and remove
  bedplate catalog list                             list the bundles in force
  bedplate catalog show acme                        print a bundle as it was signed
  bedplate catalog remove acme                      remove a bundle with its rows
  bedplate catalog make-key publisher.pem           make a key to sign bundles with
  bedplate catalog sign rows.toml --key publisher.pem --output acme-12.toml
"""

from __future__ import annotations

import argparse
from pathlib import Path

from bedplate.cli.result import print_result
from bedplate.cli.subcommand import AnyOrderParser, Subcommands, add_subcommand, run_subcommand
from bedplate.cli.talk import Talk
from bedplate.flows import catalog
from bedplate.model.bundle import BundleChange
from bedplate.report.catalog import change_object, listed_object, render_change, render_listed


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verbs of `bedplate catalog`."""
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--json", action="store_true", help="print one JSON object")
    shared.add_argument(
        "--root", type=Path, default=Path("/"), metavar="DIR", help="use DIR/etc/bedplate instead of /etc/bedplate"
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB", parser_class=AnyOrderParser)
    take = add_subcommand(
        verbs,
        "import",
        run=_import,
        parents=[shared],
        help="import a bundle, or replace the one of its name that is in force",
        examples=("bedplate catalog import acme-12.toml", "bedplate catalog import acme-12.toml --dry-run"),
    )
    take.add_argument("bundle", metavar="BUNDLE", type=Path, help="file of the bundle")
    take.add_argument("--dry-run", action="store_true", help="only show what the import would add, change and remove")
    add_subcommand(
        verbs,
        "list",
        run=_list,
        parents=[shared],
        help="list the bundles in force, and verify each again",
        examples=("bedplate catalog list", "bedplate catalog list --json"),
    )
    show = add_subcommand(
        verbs,
        "show",
        run=_show,
        parents=[shared],
        help="print a bundle in force as it was signed",
        examples=("bedplate catalog show acme", "bedplate catalog show acme --json"),
    )
    show.add_argument("name", metavar="NAME", help="name of the bundle")
    remove = add_subcommand(
        verbs,
        "remove",
        run=_remove,
        parents=[shared],
        help="remove a bundle with its rows",
        examples=("bedplate catalog remove acme",),
    )
    remove.add_argument("name", metavar="NAME", help="name of the bundle")
    _add_publisher(verbs)


def _add_publisher(verbs: Subcommands) -> None:
    make = add_subcommand(
        verbs,
        "make-key",
        run=_make_key,
        help="make a private key to sign bundles with, and print the public one",
        examples=("bedplate catalog make-key publisher.pem",),
    )
    make.add_argument("key", metavar="FILE", type=Path, help="file of the new private key; it must not be there yet")
    sign = add_subcommand(
        verbs,
        "sign",
        run=_sign,
        help="check a bundle, and write it with a signature",
        examples=("bedplate catalog sign rows.toml --key publisher.pem --output acme-12.toml",),
    )
    sign.add_argument(
        "rows", metavar="ROWS", type=Path, help="file with the head [bundle] and the rows, without a signature"
    )
    sign.add_argument("--key", metavar="FILE", type=Path, required=True, help="private key, as `make-key` makes it")
    sign.add_argument("--output", metavar="FILE", type=Path, required=True, help="write the signed bundle to this file")


def main(arguments: argparse.Namespace) -> int:
    """Exit status 0 when the change is made, or the bundles are listed; 1 where a listed one would not be imported now.

    Raises ReadError, DataError and UsageError for a bundle that is refused, PreflightError without openssl, BusyError beside
    another import.
    """
    return run_subcommand(arguments)


def _make_key(arguments: argparse.Namespace) -> int:
    print(f"NAME ed25519 {catalog.make_publisher_key(arguments.key)}")
    Talk().note(f"wrote {arguments.key}; the line above, with the name of a bundle, goes into catalog.keys of your users")
    return 0


def _sign(arguments: argparse.Namespace) -> int:
    bundle, public = catalog.sign_bundle(arguments.rows, arguments.key, arguments.output)
    key = f"{bundle.name} ed25519 {public}"
    Talk().note(f"wrote {arguments.output}: {bundle.label}, sha256 {bundle.sha256}; its key: {key}")
    return 0


def _import(arguments: argparse.Namespace) -> int:
    change = catalog.import_bundle(arguments.bundle, catalog.find_places(arguments.root), dry_run=arguments.dry_run)
    return _print_change(arguments, change, removed=False, dry_run=arguments.dry_run)


def _remove(arguments: argparse.Namespace) -> int:
    change = catalog.remove_bundle(arguments.name, catalog.find_places(arguments.root))
    return _print_change(arguments, change, removed=True, dry_run=False)


def _print_change(arguments: argparse.Namespace, change: BundleChange, *, removed: bool, dry_run: bool) -> int:
    record = change_object(change, removed=removed, dry_run=dry_run)
    return print_result(arguments, record, render_change(change, removed=removed, dry_run=dry_run))


def _list(arguments: argparse.Namespace) -> int:
    bundles = catalog.list_bundles(catalog.find_places(arguments.root))
    record = {"bundles": [listed_object(listed) for listed in bundles]}
    print_result(arguments, record, "".join(map(render_listed, bundles)))
    if not bundles and not arguments.json:
        Talk().note("no bundle was imported; import one: bedplate catalog import BUNDLE")
    return 1 if any(listed.doubt for listed in bundles) else 0


def _show(arguments: argparse.Namespace) -> int:
    listed = catalog.show_bundle(arguments.name, catalog.find_places(arguments.root))
    # An import takes none with characters that a terminal would act on.
    print_result(arguments, {**listed_object(listed), "text": listed.text}, listed.text)
    if listed.doubt:
        Talk().note(f"warning: {listed.doubt}")
    return 1 if listed.doubt else 0
