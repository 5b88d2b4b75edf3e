"""Runs in a guest: writes down every file and kernel value that tuning could change, and compares what was written down.

    python3 snapshot.py write FILE
    python3 snapshot.py compare BEFORE AFTER QUIET_A QUIET_B

compare prints what differs as JSON, less what differs in the quiet pair. Files below /etc and the places of generated
configuration: kind, mode, owner and SHA-256. Kernel values: their text; only those that can be written, since the rest is no
setting, and of control groups not their processes and records of the past (cgroup-v2.rst of the kernel). Which of
the others change by themselves is found out with the quiet pair: two snapshots with nothing but ordinary work between them.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

FILES = (
    "/boot",
    "/etc",
    "/run/bedplate",
    "/run/modprobe.d",
    "/run/sysctl.d",
    "/run/systemd/system",
    "/run/systemd/system.conf.d",
    "/run/systemd/system.control",
    "/run/systemd/transient",
    "/run/tmpfiles.d",
    "/run/udev/rules.d",
    "/usr/lib/sysctl.d",
    "/usr/lib/systemd",
    "/usr/lib/tmpfiles.d",
    "/usr/lib/udev/rules.d",
    "/usr/local/bin",
    "/usr/local/lib/systemd",
    "/var/lib/bedplate",
)
VALUES = (
    "/proc/sys",
    "/proc/irq",
    "/sys/kernel/mm",
    "/sys/devices/system/cpu",
    "/sys/devices/system/node",
    "/sys/devices/virtual/workqueue",
    "/sys/module",
    "/sys/fs/cgroup",
    "/sys/class/net",
    "/sys/block",
)
_BELOW_LINKS = {"/sys/block": ("queue",), "/sys/class/net": ("queues", "napi_defer_hard_irqs", "gro_flush_timeout")}
# The last is found by the kernel itself, from the traffic (ABI/testing/sysfs-class-net-queues).
_NO_SETTINGS = (
    ".pressure",
    ".peak",
    "cgroup.procs",
    "cgroup.threads",
    "cgroup.kill",
    "memory.reclaim",
    "/byte_queue_limits/limit",
)
_BOUND = 64 * 1024  # bytes of one value


def main() -> int:
    match sys.argv[1:]:
        case ["write", file]:
            Path(file).write_text(json.dumps(take()))
        case ["compare", before, after, quiet_a, quiet_b]:
            print(json.dumps(compare_files(Path(before), Path(after), (Path(quiet_a), Path(quiet_b)))))
        case _:
            print(__doc__, file=sys.stderr)
            return 2
    return 0


def take() -> dict[str, str]:
    """Path -> what it is, of all files and values. Plain strings and calls: an emulated guest walks 10,000 files."""
    found: dict[str, str] = {}
    for top in FILES:
        for path in _walk(top):
            found[path] = _describe(path)
    for top in VALUES:
        for path in _values(top):
            text = _read(path)
            if text is not None:
                found[path] = text
    return found


def compare_files(before: Path, after: Path, quiet: tuple[Path, Path]) -> dict[str, list[str | None]]:
    """Path -> [before, after] of what differs between two snapshots, less what differs between the quiet ones."""
    volatile = compare(_load(quiet[0]), _load(quiet[1])).keys()
    return {path: texts for path, texts in compare(_load(before), _load(after)).items() if path not in volatile}


def compare(before: dict[str, str], after: dict[str, str]) -> dict[str, list[str | None]]:
    """Path -> [before, after] of what differs; None where it was not there."""
    paths = sorted(before.keys() | after.keys())
    return {path: [before.get(path), after.get(path)] for path in paths if before.get(path) != after.get(path)}


def _load(file: Path) -> dict[str, str]:
    found: dict[str, str] = json.loads(file.read_text())
    return found


def _walk(top: str) -> Iterator[str]:
    """The directory itself and all below it, links not followed."""
    if not os.path.lexists(top):
        return
    yield top
    for directory, directories, files in os.walk(top):
        for name in directories:
            yield f"{directory}/{name}"
        for name in files:
            yield f"{directory}/{name}"


def _describe(path: str) -> str:
    try:
        status = os.lstat(path)
        if stat.S_ISLNK(status.st_mode):
            return f"link to {Path(path).readlink()}"
        words = f"{stat.filemode(status.st_mode)} {status.st_uid}:{status.st_gid}"
        if stat.S_ISREG(status.st_mode):
            # Of a larger one, a program, size and time: an emulated guest would be hashing for minutes.
            small = status.st_size <= _BOUND
            content = hashlib.sha256(_bytes(path)).hexdigest() if small else f"{status.st_size} {status.st_mtime_ns}"
            words += f" {content}"
        return words
    except FileNotFoundError:
        return "gone while it was looked at"


def _values(top: str) -> Iterator[str]:
    """Files that can be written, links not followed; of the directories of _BELOW_LINKS what is below that name."""
    bases = [top]
    if top in _BELOW_LINKS:
        bases = [f"{device}/{sub}" for sub in _BELOW_LINKS[top] for device in Path(top).glob("*")]
    for base in bases:
        yield from _walk(base)


def _read(path: str) -> str | None:
    """The text of a value that can be written; None of anything else."""
    if path.endswith(_NO_SETTINGS):
        return None
    try:
        mode = os.lstat(path).st_mode
        if not stat.S_ISREG(mode) or not mode & 0o222:
            return None
        return _bytes(path).decode(errors="replace")
    except OSError:
        return None  # write-only, or of a device that does not answer


def _bytes(path: str) -> bytes:
    file = os.open(path, os.O_RDONLY)
    try:
        content = b""
        while len(content) < _BOUND and (piece := os.read(file, _BOUND)):
            content += piece
        return content[:_BOUND]
    finally:
        os.close(file)


if __name__ == "__main__":
    sys.exit(main())
