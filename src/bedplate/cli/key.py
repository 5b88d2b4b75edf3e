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
import sys
import time

from bedplate.cli.argument_types import whole_number
from bedplate.cli.result import print_result
from bedplate.cli.subcommand import add_subcommand, run_subcommand
from bedplate.errors import BedplateError, OutputError
from bedplate.flows import key as keys
from bedplate.report.client_keys import key_object, render_key

_MOST = 1_000_000
_LONGEST_S = 20 * 366 * 86_400
_DAY_S = 86_400


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verbs of `bedplate key`. A bound that is not given is that of machine.toml."""
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    add = add_subcommand(
        verbs,
        "add",
        run=_add,
        json="print JSON",
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
    add_subcommand(
        verbs,
        "list",
        run=_list,
        json="print JSON",
        help="list the keys that hold",
        examples=("bedplate key list --json",),
    )
    rotate = add_subcommand(
        verbs,
        "rotate",
        run=_rotate,
        json="print JSON",
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
        verbs,
        "revoke",
        run=_revoke,
        json="print JSON",
        help="refuse a key from now on",
        examples=("bedplate key revoke chat-ui",),
    )
    revoke.add_argument("id", metavar="ID", help="name of the client")


def main(arguments: argparse.Namespace) -> int:
    """Exit status 0 when the change is stored and the running front end has it.

    Raises UsageError for an id that is taken or unknown, DataError for a damaged file, BedplateError where the file was
    written but the front end did not take it.
    """
    return run_subcommand(arguments)


def _add(arguments: argparse.Namespace) -> int:
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
    store = keys.open_key_store()
    made = keys.add_key(store, request, now_s=int(time.time()))
    if not store.on_machine:
        print(f"{store.file}: images that you build from now on accept this client", file=sys.stderr)
    for opening in keys.find_open_front(store):
        print(f"warning: {opening}", file=sys.stderr)
    return _print_made(made, arguments)


def _rotate(arguments: argparse.Namespace) -> int:
    store = keys.open_key_store()
    made = keys.rotate_key(store, arguments.id, grace_s=arguments.grace, now_s=int(time.time()))
    return _print_made(made, arguments)


def _print_made(made: keys.ShownKey, arguments: argparse.Namespace) -> int:
    let_in = f"{made.key.id}: clients with this common name in their certificate are let in"
    try:
        print_result(arguments, key_object(made.key) | {"secret": made.secret}, f"{made.secret or let_in}\n")
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
        raise BedplateError(made.not_taken, hint=keys.NOT_TAKEN_HINT)
    return 0


def _list(arguments: argparse.Namespace) -> int:
    now_s = int(time.time())
    listed = keys.list_keys(keys.open_key_store())
    if not listed and not arguments.json:
        print("no keys; add one: bedplate key add", file=sys.stderr)
    return print_result(
        arguments,
        [key_object(item.key) | {"origin": item.origin} for item in listed],
        "".join(f"{render_key(item.key, item.origin, now_s)}\n" for item in listed),
    )


def _revoke(arguments: argparse.Namespace) -> int:
    key = keys.revoke_key(keys.open_key_store(), arguments.id)
    return print_result(arguments, key_object(key), f"revoked {key.id}\n")
