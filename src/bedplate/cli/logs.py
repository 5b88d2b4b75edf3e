"""What the machine and its build wrote.

examples:
  bedplate logs               the guest's serial console
  bedplate logs -f            and go on as it grows; Ctrl-C ends
  bedplate logs build -n 50   the last 50 lines of the build
  bedplate logs --list        which logs there are
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

from bedplate.errors import ReadError, UsageError

HELP = "what the machine and its build wrote"
_POLL_S = 0.3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", default="serial", help="a log (default: serial, the guest's console)")
    parser.add_argument("-f", "--follow", action="store_true", help="go on as the log grows")
    parser.add_argument("-n", "--lines", type=int, metavar="N", help="only the last N lines")
    parser.add_argument("--list", action="store_true", help="which logs there are, and where")
    parser.add_argument("--json", action="store_true", help="with --list: as JSON")


def main(arguments: argparse.Namespace) -> int:
    from bedplate.act.paths import find_paths

    paths = find_paths()
    logs = {file.stem: file for folder in (paths.logs, paths.machine) for file in sorted(folder.glob("*.log"))}
    if arguments.list:
        if arguments.json:
            print(json.dumps({"schema": 1, "logs": {name: str(file) for name, file in logs.items()}}))
        else:
            for name, file in logs.items():
                print(f"{name:<14} {file}")
        return 0
    if arguments.name not in logs:
        if logs:
            raise UsageError(f"{arguments.name!r} is not a log; there are {', '.join(sorted(logs))}")
        raise ReadError("there are no logs yet", hint="Start the machine: bedplate up")
    _show(logs[arguments.name], last=arguments.lines, follow=arguments.follow)
    return 0


def _show(file: Path, *, last: int | None, follow: bool) -> None:
    with file.open("rb") as handle:
        data = handle.read()
        if last is not None:
            data = b"".join(data.splitlines(keepends=True)[-last:] if last > 0 else [])
        _write(data)
        while follow:
            try:
                time.sleep(_POLL_S)
            except KeyboardInterrupt:
                return
            if file.exists() and file.stat().st_ino != _inode(handle.fileno()):  # the machine was started again
                _show(file, last=None, follow=True)
                return
            _write(handle.read())


def _inode(descriptor: int) -> int:
    import os

    return os.fstat(descriptor).st_ino


def _write(data: bytes) -> None:
    sys.stdout.buffer.write(data.replace(b"\r\n", b"\n"))
    sys.stdout.flush()
