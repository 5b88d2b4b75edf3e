"""Which entries of the cache and state directories are bedplate's: what `clean` may remove.

Both directories can be any directory of the user's (a home, a checkout). What bedplate makes at their top has a name of this
list; a test compares the list with the code that makes it. Everything else belongs to somebody else.
"""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import Path

LOCK = "lock"
"""In both directories, and never removed: others may wait for it, and a removed lock can be held twice."""
CACHE_NAMES = (
    "tools",
    "tools.partial-*",
    "packages",
    "work",
    "engine-tree",
    "models-disk",
    "kvm.json",
    ".*.unfinished",  # of a killed write_whole (act/files.py)
    "bench",  # of the benchmarks in the repository
)
STATE_NAMES = ("keys", "keys.partial-*", "images", "engines", "drivers", "models", "machine", "logs", "locks", "proofs")


def split_owned(directory: Path, names: Iterable[str]) -> tuple[list[Path], list[Path]]:
    """(what bedplate made in a directory, what it did not make), sorted; the lock is in neither. No directory: ([], [])."""
    patterns = tuple(names)
    owned: list[Path] = []
    foreign: list[Path] = []
    for path in sorted(directory.iterdir()) if directory.is_dir() else ():
        if path.name != LOCK:
            matches = any(fnmatchcase(path.name, pattern) for pattern in patterns)
            (owned if matches else foreign).append(path)
    return owned, foreign
