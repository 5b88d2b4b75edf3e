"""Files in /run that HAProxy reads beside its configuration: maps of keys, certificate, CA of clients. A boot forgets them.

They belong to root and the group `bedplate-front`, which HAProxy's user is in and no engine.
"""

from __future__ import annotations

import grp
import os
from collections.abc import Mapping
from pathlib import Path

from bedplate.act.files import write_whole

FRONT_GROUP = "bedplate-front"


def write_front_files(directory: Path, texts: Mapping[str, str]) -> tuple[str, ...]:
    """Write these files, name -> text, and return the names of those that differed. Raises OSError.

    Modes are 0640 and the group's where the group exists, else 0600. The directory is made where it is missing.
    """
    group = _find_group()
    directory.mkdir(parents=True, exist_ok=True)
    _give(directory, group, 0o750, 0o700)
    changed = []
    for name, text in texts.items():
        path = directory / name
        if _read(path) == text:
            continue
        write_whole(path, text, sync=False, mode=0o600)
        _give(path, group, 0o640, 0o600)
        changed.append(name)
    return tuple(changed)


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
