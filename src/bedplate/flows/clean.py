"""Remove what bedplate keeps in its cache and state directories, and nothing that it did not make."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bedplate.act.lock import hold_cache_now, hold_lock
from bedplate.act.owned_names import CACHE_NAMES, STATE_NAMES, split_owned
from bedplate.act.paths import Paths, check_paths, find_paths
from bedplate.errors import BusyError
from bedplate.image.machine import clear_stale, read_machine, stop_machine
from bedplate.model.progress import Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class Doomed:
    """What a clean would remove, and what it would leave."""

    entries: tuple[tuple[Path, int], ...]
    """Files and directories, each with the bytes on disk that go with it."""
    foreign: tuple[Path, ...]
    """What stays because bedplate did not make it."""
    keys_stay: bool
    """Whether there are keys of the owner, and they stay."""


def clean(
    progress: Progress,
    agreed: Callable[[Doomed], bool],
    *,
    cache_only: bool = False,
    keys: bool = False,
    power_off: bool = False,
) -> tuple[tuple[Path, int], ...] | None:
    """Remove what `agreed` was shown and says yes to; what was removed, with its bytes, or None where it says no.

    keys: the owner's keys go too. power_off: a machine that runs is powered off first. Raises BusyError while one runs or
    a build works.
    """
    paths = find_paths()
    check_paths(paths)
    if not paths.cache.is_dir() and not paths.state.is_dir():
        return ()
    with hold_lock(paths, "clean"), hold_cache_now(paths, what="`bedplate clean`"):
        if (machine := read_machine(paths)) is not None:
            if not power_off:
                raise BusyError(
                    f"the running machine (process {machine.qemu.pid if machine.qemu else '?'}) uses what would be removed",
                    hint="Run `bedplate down` first, or add --down.",
                )
            with progress.phase("power off"):
                stop_machine(paths, progress)
        clear_stale(paths)
        found = find_doomed(paths, cache_only=cache_only, keys=keys)
        doomed = Doomed(
            entries=tuple((path, size_on_disk(path)) for path in found),
            foreign=tuple(find_foreign(paths, cache_only=cache_only)),
            keys_stay=not keys and paths.keys.is_dir(),
        )
        if not agreed(doomed):
            return None
        for path, _ in doomed.entries:
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    return doomed.entries


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
