"""Remove what bedplate keeps in its cache and state directories. Your keys are kept unless you add --keys.

It refuses to run while a build uses the cache, even a build of another state directory. The two directories and their lock
files stay. Files in them that bedplate did not make stay as well, and are listed.

examples:
  bedplate clean                  list what would be removed, with sizes, and ask
  bedplate clean --cache --yes    remove only what can be made again
  bedplate clean --down --yes     power the machine off first
"""

from __future__ import annotations

import argparse
import sys

from bedplate.cli.result import print_result
from bedplate.cli.talk import Talk
from bedplate.cli.terminal import terminal_progress
from bedplate.errors import UsageError
from bedplate.flows.clean import Doomed, clean
from bedplate.report.clean import removed_objects, render_doomed, render_foreign, render_removed


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `bedplate clean`: how much goes, and whether it asks first."""
    parser.add_argument("--yes", action="store_true", help="remove without asking")
    parser.add_argument("--cache", action="store_true", help="remove only the cache: tools, packages, unfinished builds")
    parser.add_argument(
        "--keys",
        action="store_true",
        help="also remove your keys: no update can then be signed for machines that trust them",
    )
    parser.add_argument("--down", action="store_true", help="power the machine off first")
    parser.add_argument("--json", action="store_true", help="print what was removed as JSON")


def main(arguments: argparse.Namespace) -> int:
    """Exit status 0 when all that was to go is gone, 1 when the user said no: then nothing was removed.

    Raises BusyError while a machine runs (without --down) or a build works, UsageError where there is nobody to ask.
    """

    def agreed(doomed: Doomed) -> bool:
        progress.close()
        print(render_foreign(doomed.foreign), end="", file=sys.stderr)
        return not doomed.entries or arguments.yes or _agreed(doomed)

    with terminal_progress() as progress:
        removed = clean(progress, agreed, cache_only=arguments.cache, keys=arguments.keys, power_off=arguments.down)
    if removed is None:
        Talk().note("Nothing was removed.")
        return 1
    return print_result(arguments, {"schema": 1, "removed": removed_objects(removed)}, render_removed(removed), indent=None)


def _agreed(doomed: Doomed) -> bool:
    print(render_doomed(doomed.entries, keys_stay=doomed.keys_stay), end="", file=sys.stderr)
    if not sys.stdin.isatty():
        raise UsageError("cannot ask for confirmation: standard input is not a terminal", hint="Add --yes.")
    print("Remove all this? [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")
