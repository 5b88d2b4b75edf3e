"""Remove what bedplate keeps in its cache and state directories. The owner's keys stay unless --keys takes them too.

examples:
  bedplate clean                  show what would go, with sizes, and ask
  bedplate clean --cache --yes    only what can be made again
  bedplate clean --down --yes     power the machine off first
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from pathlib import Path

from bedplate.act.paths import Paths
from bedplate.errors import BusyError, UsageError
from bedplate.model.units import render_size

HELP = "remove what bedplate keeps in its cache and state directories"
_KEPT_FILES = {"lock"}  # held while we work; a removed lock could be held twice


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.add_argument("--cache", action="store_true", help="only the cache: tools, packages, half-made things")
    parser.add_argument("--keys", action="store_true", help="the owner's keys too; machines that trust them are lost")
    parser.add_argument("--down", action="store_true", help="power the machine off first")
    parser.add_argument("--json", action="store_true", help="what was removed, as JSON")


def main(arguments: argparse.Namespace) -> int:
    from bedplate.act.lock import hold_lock
    from bedplate.act.paths import find_paths
    from bedplate.cli.terminal import terminal_progress
    from bedplate.image.machine import clear_stale, read_machine, stop_machine

    paths = find_paths()
    if not paths.cache.is_dir() and not paths.state.is_dir():
        return _report(arguments, [])
    with hold_lock(paths, "clean"):
        if (machine := read_machine(paths)) is not None:
            if not arguments.down:
                raise BusyError(
                    f"the machine runs (process {machine.qemu.pid if machine.qemu else '?'}) on what would be removed",
                    hint="Run: bedplate down, or give --down.",
                )
            with terminal_progress() as progress, progress.phase("power off"):
                stop_machine(paths, progress)
        clear_stale(paths)
        doomed = [(path, size_on_disk(path)) for path in find_doomed(paths, cache_only=arguments.cache, keys=arguments.keys)]
        if doomed and not arguments.yes and not _agreed(doomed, keys_stay=not arguments.keys and paths.keys.is_dir()):
            print("Nothing was removed.", file=sys.stderr)
            return 1
        for path, _ in doomed:
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    for directory in (paths.cache, paths.state):
        if directory.is_dir() and not any(entry.name not in _KEPT_FILES for entry in directory.iterdir()):
            shutil.rmtree(directory)
    return _report(arguments, doomed)


def find_doomed(paths: Paths, *, cache_only: bool, keys: bool) -> list[Path]:
    """What would go: the entries of both directories, in order."""
    found = sorted(paths.cache.iterdir()) if paths.cache.is_dir() else []
    if not cache_only and paths.state.is_dir():
        kept = _KEPT_FILES | (set() if keys else {paths.keys.name})
        found += sorted(path for path in paths.state.iterdir() if path.name not in kept)
    return found


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


def _agreed(doomed: list[tuple[Path, int]], *, keys_stay: bool) -> bool:
    for path, size in doomed:
        print(f"{render_size(size):>10}  {path}", file=sys.stderr)
    print(f"{render_size(sum(size for _, size in doomed)):>10}  in all", file=sys.stderr)
    if keys_stay:
        print("The owner's keys stay (--keys takes them too).", file=sys.stderr)
    if not sys.stdin.isatty():
        raise UsageError("nobody is there to ask: standard input is not a terminal", hint="Give --yes.")
    print("Remove all this? [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _report(arguments: argparse.Namespace, doomed: list[tuple[Path, int]]) -> int:
    if arguments.json:
        rows = [{"path": str(path), "bytes": size} for path, size in doomed]
        print(json.dumps({"schema": 1, "removed": rows}))
    else:
        print(f"Removed {render_size(sum(size for _, size in doomed))}." if doomed else "There is nothing to remove.")
    return 0
