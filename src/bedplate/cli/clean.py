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
import os
import shutil
import sys
from pathlib import Path

from bedplate.act.owned_names import CACHE_NAMES, STATE_NAMES, split_owned
from bedplate.act.paths import Paths
from bedplate.errors import BusyError, UsageError
from bedplate.model.units import render_size

HELP = "remove what bedplate keeps in its cache and state directories"
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
    from bedplate.act.lock import hold_cache_now, hold_lock
    from bedplate.act.paths import check_paths, find_paths
    from bedplate.cli.terminal import terminal_progress
    from bedplate.image.machine import clear_stale, read_machine, stop_machine

    paths = find_paths()
    check_paths(paths)
    if not paths.cache.is_dir() and not paths.state.is_dir():
        return _report(arguments, [])
    with hold_lock(paths, "clean"), hold_cache_now(paths, what="`bedplate clean`"):
        if (machine := read_machine(paths)) is not None:
            if not arguments.down:
                raise BusyError(
                    f"the running machine (process {machine.qemu.pid if machine.qemu else '?'}) uses what would be removed",
                    hint="Run `bedplate down` first, or add --down.",
                )
            with terminal_progress() as progress, progress.phase("power off"):
                stop_machine(paths, progress)
        clear_stale(paths)
        _say_foreign(find_foreign(paths, cache_only=arguments.cache))
        doomed = [(path, size_on_disk(path)) for path in find_doomed(paths, cache_only=arguments.cache, keys=arguments.keys)]
        if doomed and not arguments.yes and not _agreed(doomed, keys_stay=not arguments.keys and paths.keys.is_dir()):
            print("Nothing was removed.", file=sys.stderr)
            return 1
        for path, _ in doomed:
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    return _report(arguments, doomed)


def find_doomed(paths: Paths, *, cache_only: bool, keys: bool) -> list[Path]:
    """What would go: the entries of both directories that bedplate made, but the locks, in order."""
    found, _ = split_owned(paths.cache, CACHE_NAMES)
    if not cache_only:
        # Half-published keys too (image/keys.py): the next build finishes them.
        kept = () if keys else (paths.keys, *paths.state.glob(f"{paths.keys.name}.partial-*"))
        found += [path for path in split_owned(paths.state, STATE_NAMES)[0] if path not in kept]
    return found


def find_foreign(paths: Paths, *, cache_only: bool) -> list[Path]:
    """What stays because bedplate did not make it: entries of both directories, with cache_only of the cache alone."""
    _, foreign = split_owned(paths.cache, CACHE_NAMES)
    return foreign if cache_only else foreign + split_owned(paths.state, STATE_NAMES)[1]


def size_on_disk(path: Path) -> int:
    """Bytes that removing it gives back, sparse files and hard links within it counted once."""
    seen: set[tuple[int, int]] = set()
    total = 0
    for folder, _, files in os.walk(path):
        for name in files:
            total += _blocks(Path(folder) / name, seen)
    return total if path.is_dir() else _blocks(path, seen)


def _blocks(path: Path, seen: set[tuple[int, int]]) -> int:
    stat = path.lstat()
    if (stat.st_dev, stat.st_ino) in seen:
        return 0
    seen.add((stat.st_dev, stat.st_ino))
    return stat.st_blocks * 512


def _say_foreign(foreign: list[Path]) -> None:
    for path in foreign[:_FOREIGN_SHOWN]:
        print(f"kept, not made by bedplate: {path}", file=sys.stderr)
    if len(foreign) > _FOREIGN_SHOWN:
        print(f"kept, not made by bedplate: {len(foreign) - _FOREIGN_SHOWN} more", file=sys.stderr)


def _agreed(doomed: list[tuple[Path, int]], *, keys_stay: bool) -> bool:
    for path, size in doomed:
        print(f"{render_size(size):>10}  {path}", file=sys.stderr)
    print(f"{render_size(sum(size for _, size in doomed)):>10}  in all", file=sys.stderr)
    if keys_stay:
        print("Your keys are kept (--keys removes them, too).", file=sys.stderr)
    if not sys.stdin.isatty():
        raise UsageError("cannot ask for confirmation: standard input is not a terminal", hint="Add --yes.")
    print("Remove all this? [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _report(arguments: argparse.Namespace, doomed: list[tuple[Path, int]]) -> int:
    if arguments.json:
        rows = [{"path": str(path), "bytes": size} for path, size in doomed]
        print(json.dumps({"schema": 1, "removed": rows}))
    else:
        print(f"Removed {render_size(sum(size for _, size in doomed))}." if doomed else "There is nothing to remove.")
    return 0
