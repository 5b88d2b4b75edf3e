"""Files in /run that HAProxy reads beside its configuration: maps of keys, certificate, CA of clients. A boot forgets them.

They belong to root and the group `bedplate-front`, which HAProxy's user is in and no engine. Beside them stands what the
running HAProxy is owed: names of files that were written and that it was not given yet, whoever failed to or was killed.
"""

from __future__ import annotations

import grp
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from bedplate.act.files import write_whole

FRONT_GROUP = "bedplate-front"
RELOAD = "reload"
"""Owed like a file: that HAProxy reads its configuration again."""
_OWED = ".owed"
_EVERYTHING = "*"


def write_front_files(directory: Path, texts: Mapping[str, str]) -> tuple[str, ...]:
    """Write these files, name -> text; the names of those that differed or that the running HAProxy is owed. Raises OSError.

    They are owed until `settle_front` says that HAProxy has them. Modes are 0640 and the group's where the group exists,
    else 0600. The directory is made where it is missing.
    """
    group = _find_group()
    directory.mkdir(parents=True, exist_ok=True)
    _give(directory, group, 0o750, 0o700)
    differing = [name for name, text in texts.items() if _read(directory / name) != text]
    owed = owe_front(directory, differing)
    for name in differing:
        write_whole(directory / name, texts[name], sync=False, mode=0o600)
        _give(directory / name, group, 0o640, 0o600)
    return tuple(texts if _EVERYTHING in owed else (name for name in texts if name in owed))


def read_owed(directory: Path) -> frozenset[str]:
    """Names of files, and RELOAD, that the running HAProxy was not given yet. Raises OSError."""
    try:
        text = (directory / _OWED).read_bytes().decode()
    except FileNotFoundError:
        return frozenset()
    except UnicodeDecodeError:
        return frozenset((_EVERYTHING, RELOAD))
    return frozenset(text.split())


def owe_front(directory: Path, names: Iterable[str]) -> frozenset[str]:
    """Write down that HAProxy is owed these, too; all that it is owed now. Raises OSError."""
    before = read_owed(directory)
    return _write_owed(directory, before, before | frozenset(names))


def settle_front(directory: Path, names: Iterable[str] | None = None) -> None:
    """Write down that HAProxy has these; None for all of them, since it reads them when it starts. Raises OSError."""
    before = read_owed(directory)
    _write_owed(directory, before, before - frozenset(names) if names is not None else frozenset())


def _write_owed(directory: Path, before: frozenset[str], owed: frozenset[str]) -> frozenset[str]:
    if owed != before:
        directory.mkdir(parents=True, exist_ok=True)
        write_whole(directory / _OWED, "".join(f"{name}\n" for name in sorted(owed)), sync=False, mode=0o600)
    return owed


def _give(path: Path, group: int | None, shared: int, private: int) -> None:
    if group is not None:
        os.chown(path, -1, group)
    path.chmod(private if group is None else shared)


def _find_group() -> int | None:
    try:
        return grp.getgrnam(FRONT_GROUP).gr_gid
    except KeyError:
        return None


def _read(path: Path) -> str | None:
    try:
        return path.read_text()
    except FileNotFoundError:
        return None
