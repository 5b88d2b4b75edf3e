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
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from bedplate.cli.subcommand import AnyOrderParser, add_subcommand

if TYPE_CHECKING:
    from bedplate.flows.catalog import CatalogPlaces
    from bedplate.model.bundle import BundleChange

HELP = "import signed bundles of rows that `stack` and `fit` use, and sign them"


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
        parents=[shared],
        help="import a bundle, or replace the one of its name that is in force",
        examples=("bedplate catalog import acme-12.toml", "bedplate catalog import acme-12.toml --dry-run"),
    )
    take.add_argument("bundle", metavar="BUNDLE", type=Path, help="file of the bundle")
    take.add_argument("--dry-run", action="store_true", help="only show what the import would add, change and remove")
    add_subcommand(
        verbs,
        "list",
        parents=[shared],
        help="list the bundles in force, and verify each again",
        examples=("bedplate catalog list", "bedplate catalog list --json"),
    )
    show = add_subcommand(
        verbs,
        "show",
        parents=[shared],
        help="print a bundle in force as it was signed",
        examples=("bedplate catalog show acme", "bedplate catalog show acme --json"),
    )
    show.add_argument("name", metavar="NAME", help="name of the bundle")
    remove = add_subcommand(
        verbs,
        "remove",
        parents=[shared],
        help="remove a bundle with its rows",
        examples=("bedplate catalog remove acme",),
    )
    remove.add_argument("name", metavar="NAME", help="name of the bundle")
    _add_publisher(verbs)


def _add_publisher(verbs: argparse._SubParsersAction[AnyOrderParser]) -> None:
    make = add_subcommand(
        verbs,
        "make-key",
        help="make a private key to sign bundles with, and print the public one",
        examples=("bedplate catalog make-key publisher.pem",),
    )
    make.add_argument("key", metavar="FILE", type=Path, help="file of the new private key; it must not be there yet")
    sign = add_subcommand(
        verbs,
        "sign",
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
    from bedplate.flows import catalog

    if arguments.verb == "make-key":
        print(f"NAME ed25519 {catalog.make_publisher_key(arguments.key)}")
        _say(f"wrote {arguments.key}; the line above, with the name of a bundle, goes into catalog.keys of your users")
        return 0
    if arguments.verb == "sign":
        bundle, public = catalog.sign_bundle(arguments.rows, arguments.key, arguments.output)
        _say(f"wrote {arguments.output}: {bundle.label}, sha256 {bundle.sha256}; its key: {bundle.name} ed25519 {public}")
        return 0
    places = catalog.find_places(arguments.root)
    match arguments.verb:
        case "import":
            return _print_change(catalog.import_bundle(arguments.bundle, places, dry_run=arguments.dry_run), arguments)
        case "remove":
            return _print_change(catalog.remove_bundle(arguments.name, places), arguments)
        case "list":
            return _print_list(places, arguments)
    return _print_bundle(places, arguments)


def _print_change(change: BundleChange, arguments: argparse.Namespace) -> int:
    from bedplate.report.catalog import change_object, render_change

    removed, dry_run = arguments.verb == "remove", arguments.verb == "import" and arguments.dry_run
    if arguments.json:
        print(json.dumps(change_object(change, removed=removed, dry_run=dry_run), indent=1))
    else:
        print(render_change(change, removed=removed, dry_run=dry_run), end="")
    return 0


def _print_list(places: CatalogPlaces, arguments: argparse.Namespace) -> int:
    from bedplate.flows.catalog import list_bundles
    from bedplate.report.catalog import listed_object, render_listed

    bundles = list_bundles(places)
    if arguments.json:
        print(json.dumps({"bundles": [listed_object(listed) for listed in bundles]}, indent=1))
    elif bundles:
        print("".join(render_listed(listed) for listed in bundles), end="")
    else:
        _say("no bundle was imported; import one: bedplate catalog import BUNDLE")
    return 1 if any(listed.doubt for listed in bundles) else 0


def _print_bundle(places: CatalogPlaces, arguments: argparse.Namespace) -> int:
    from bedplate.flows.catalog import show_bundle
    from bedplate.report.catalog import listed_object

    listed = show_bundle(arguments.name, places)
    if arguments.json:
        print(json.dumps({**listed_object(listed), "text": listed.text}, indent=1))
    else:
        print(listed.text, end="")  # an import takes none with characters that a terminal would act on
    if listed.doubt:
        _say(f"warning: {listed.doubt}")
    return 1 if listed.doubt else 0


def _say(text: str) -> None:
    from bedplate.report.escape import escape_line

    print(escape_line(text), file=sys.stderr)
