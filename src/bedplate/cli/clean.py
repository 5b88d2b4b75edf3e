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
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from bedplate.errors import UsageError
from bedplate.model.units import render_size

_FOREIGN_SHOWN = 8


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
    from bedplate.cli.terminal import terminal_progress
    from bedplate.flows.clean import Doomed, clean

    def agreed(doomed: Doomed) -> bool:
        progress.close()
        _say_foreign(doomed.foreign)
        return not doomed.entries or arguments.yes or _agreed(doomed.entries, keys_stay=doomed.keys_stay)

    with terminal_progress() as progress:
        removed = clean(progress, agreed, cache_only=arguments.cache, keys=arguments.keys, power_off=arguments.down)
    if removed is None:
        print("Nothing was removed.", file=sys.stderr)
        return 1
    return _report(arguments, removed)


def _say_foreign(foreign: Sequence[Path]) -> None:
    for path in foreign[:_FOREIGN_SHOWN]:
        print(f"kept, not made by bedplate: {path}", file=sys.stderr)
    if len(foreign) > _FOREIGN_SHOWN:
        print(f"kept, not made by bedplate: {len(foreign) - _FOREIGN_SHOWN} more", file=sys.stderr)


def _agreed(doomed: Sequence[tuple[Path, int]], *, keys_stay: bool) -> bool:
    for path, size in doomed:
        print(f"{render_size(size):>10}  {path}", file=sys.stderr)
    print(f"{render_size(sum(size for _, size in doomed)):>10}  in all", file=sys.stderr)
    if keys_stay:
        print("Your keys are kept (--keys removes them, too).", file=sys.stderr)
    if not sys.stdin.isatty():
        raise UsageError("cannot ask for confirmation: standard input is not a terminal", hint="Add --yes.")
    print("Remove all this? [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _report(arguments: argparse.Namespace, doomed: Sequence[tuple[Path, int]]) -> int:
    if arguments.json:
        rows = [{"path": str(path), "bytes": size} for path, size in doomed]
        print(json.dumps({"schema": 1, "removed": rows}))
    else:
        print(f"Removed {render_size(sum(size for _, size in doomed))}." if doomed else "There is nothing to remove.")
    return 0
