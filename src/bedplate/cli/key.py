"""Add, list, revoke and rotate the keys of the front end's clients.

In the operating system these are the keys of this machine, and the front end takes each change at once, without a lost
request. On a host they are the keys that go into each image that you build from then on. A key is shown once; only its
SHA-256 is stored. A client sends it as `Authorization: Bearer KEY` or as `x-api-key: KEY`.

examples:
  bedplate key add                                    make a key for all models
  bedplate key add chat-ui --model qwen --requests-per-minute 60
  bedplate key add ci --expires-after 2592000 --note "build server"
  bedplate key add gateway-1 --certificate            let the client certificate with the common name gateway-1 in
  bedplate key list
  bedplate key rotate chat-ui                         make a new key; the old one is valid for another day
  bedplate key revoke chat-ui
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import TYPE_CHECKING

from bedplate.cli.argument_types import whole_number
from bedplate.cli.subcommand import add_subcommand
from bedplate.errors import BedplateError, OutputError
from bedplate.report.client_keys import key_object, render_key

if TYPE_CHECKING:
    from bedplate.flows.key import ListedKey, ShownKey
    from bedplate.model.client_key import ClientKey

HELP = "add, list, revoke and rotate the keys of the front end's clients"
_MOST = 1_000_000
_LONGEST_S = 20 * 366 * 86_400
_DAY_S = 86_400


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verbs of `bedplate key`. A bound that is not given is that of machine.toml."""
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--json", action="store_true", help="print JSON")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    add = add_subcommand(
        verbs,
        "add",
        parents=[common],
        help="make a key and show it once",
        examples=("bedplate key add", "bedplate key add chat-ui --model qwen --max-tokens 2048"),
    )
    add.add_argument("id", nargs="?", metavar="ID", help="name of the client: a-z, 0-9 and - (default: random)")
    add.add_argument(
        "--model",
        action="append",
        default=[],
        metavar="NAME",
        help="a model that the key may use; repeatable (default: all)",
    )
    add.add_argument(
        "--requests-per-minute", type=whole_number(0, _MOST), metavar="N", help="requests in a minute; 0 means no limit"
    )
    add.add_argument(
        "--concurrency", type=whole_number(0, _MOST), metavar="N", help="requests at the same time; 0 means no limit"
    )
    add.add_argument(
        "--max-tokens", type=whole_number(0, _MOST), metavar="N", help="longest answer, in tokens; 0 means no limit"
    )
    add.add_argument(
        "--expires-after",
        type=whole_number(1, _LONGEST_S),
        metavar="SECONDS",
        help="how long the key is valid (default: ever)",
    )
    add.add_argument("--note", default="", metavar="TEXT", help="what `key list` shows beside the key")
    add.add_argument(
        "--certificate", action="store_true", help="the client shows a certificate whose common name is ID, and no key"
    )
    add_subcommand(verbs, "list", parents=[common], help="list the keys that hold", examples=("bedplate key list --json",))
    rotate = add_subcommand(
        verbs,
        "rotate",
        parents=[common],
        help="make a new key for a client, and let the old one end",
        examples=("bedplate key rotate chat-ui", "bedplate key rotate chat-ui --grace 0"),
    )
    rotate.add_argument("id", metavar="ID", help="name of the client")
    rotate.add_argument(
        "--grace",
        type=whole_number(0, _LONGEST_S),
        default=_DAY_S,
        metavar="SECONDS",
        help="how long the old key is still valid (default: %(default)s)",
    )
    revoke = add_subcommand(
        verbs, "revoke", parents=[common], help="refuse a key from now on", examples=("bedplate key revoke chat-ui",)
    )
    revoke.add_argument("id", metavar="ID", help="name of the client")


def main(arguments: argparse.Namespace) -> int:
    """Exit status 0 when the change is stored and the running front end has it.

    Raises UsageError for an id that is taken or unknown, DataError for a damaged file, BedplateError where the file was
    written but the front end did not take it.
    """
    from bedplate.flows import key as keys

    store, now_s = keys.open_key_store(), int(time.time())
    if arguments.verb == "list":
        return _print_list(keys.list_keys(store), arguments, now_s)
    if arguments.verb == "revoke":
        return _print_revoked(keys.revoke_key(store, arguments.id), arguments)
    if arguments.verb == "rotate":
        return _print_made(keys.rotate_key(store, arguments.id, grace_s=arguments.grace, now_s=now_s), arguments)
    request = keys.KeyRequest(
        id=arguments.id,
        models=tuple(arguments.model),
        requests_per_minute=arguments.requests_per_minute,
        concurrency=arguments.concurrency,
        max_tokens=arguments.max_tokens,
        lasts_s=arguments.expires_after,
        note=arguments.note,
        certificate=arguments.certificate,
    )
    made = keys.add_key(store, request, now_s=now_s)
    if not store.on_machine:
        print(f"{store.file}: images that you build from now on accept this client", file=sys.stderr)
    for opening in keys.find_open_front(store):
        print(f"warning: {opening}", file=sys.stderr)
    return _print_made(made, arguments)


def _print_made(made: ShownKey, arguments: argparse.Namespace) -> int:
    try:
        if arguments.json:
            print(json.dumps(key_object(made.key) | {"secret": made.secret}, indent=2))
        elif not made.secret:
            print(f"{made.key.id}: clients with this common name in their certificate are let in")
        else:
            print(made.secret)
        sys.stdout.flush()
    except (OutputError, BrokenPipeError) as error:
        if not made.secret:
            raise
        raise OutputError(
            f"{made.key.id}: the key is stored, but its secret was not shown: standard output cannot be written",
            hint=f"Make another secret for this client: bedplate key rotate {made.key.id} --grace 0",
        ) from error
    if made.secret and not arguments.json:
        print("This key is shown only now; only its SHA-256 is stored.", file=sys.stderr)
    if made.not_taken:
        from bedplate.flows.key import NOT_TAKEN_HINT

        raise BedplateError(made.not_taken, hint=NOT_TAKEN_HINT)
    return 0


def _print_list(listed: tuple[ListedKey, ...], arguments: argparse.Namespace, now_s: int) -> int:
    if arguments.json:
        print(json.dumps([key_object(item.key) | {"origin": item.origin} for item in listed], indent=2))
        return 0
    if not listed:
        print("no keys; add one: bedplate key add", file=sys.stderr)
        return 0
    for item in listed:
        print(render_key(item.key, item.origin, now_s))
    return 0


def _print_revoked(key: ClientKey, arguments: argparse.Namespace) -> int:
    print(json.dumps(key_object(key), indent=2) if arguments.json else f"revoked {key.id}")
    return 0
