"""The logs of the machine and of what was built."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from bedplate.act.paths import check_paths, find_paths
from bedplate.errors import ReadError, UsageError

_POLL_S = 0.3


def find_logs() -> dict[str, Path]:
    """Every log by its name: of builds and commands, then of the machine ("serial" is the guest's console).

    Raises PreflightError for a directory that is there and cannot be listed.
    """
    paths = find_paths()
    check_paths(paths)
    return {file.stem: file for folder in (paths.logs, paths.machine) for file in sorted(folder.glob("*.log"))}


def choose_log(name: str, logs: Mapping[str, Path]) -> Path:
    """The file of a log of `find_logs`. Raises UsageError for a name that none has, ReadError where there are no logs."""
    if not logs:
        raise ReadError("no log has been written yet", hint="Start the machine: bedplate up")
    if name not in logs:
        raise UsageError(f"{name!r}: no such log; the logs are {', '.join(sorted(logs))}")
    return logs[name]


def append_log(file: Path, text: str) -> None:
    """Add a line with the local time to a log, which is made where it is missing. Never raises OSError: a log that cannot be
    written is no reason for work to fail, least of all `down` on a full disk."""
    with contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("a", encoding="utf-8") as sink:
            sink.write(f"{time.strftime('%Y-%m-%dT%H:%M:%S%z')} {text}\n")


def read_log(file: Path, *, last: int | None = None, follow: bool = False) -> Iterator[bytes]:
    """The bytes of a log with plain line ends, piece by piece; last: only so many lines of what is there now.

    follow: go on as it grows, without an end, and from the beginning of a new file where the machine was started again.
    """
    with file.open("rb") as handle:
        data = handle.read()
        if last is not None:
            data = b"".join(data.splitlines(keepends=True)[-last:] if last > 0 else [])
        yield data.replace(b"\r\n", b"\n")
        while follow:
            time.sleep(_POLL_S)
            if file.exists() and file.stat().st_ino != os.fstat(handle.fileno()).st_ino:
                break
            yield handle.read().replace(b"\r\n", b"\n")
    if follow:
        yield from read_log(file, follow=True)
