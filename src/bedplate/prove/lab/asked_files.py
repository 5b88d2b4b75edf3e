"""What a directory on a disk is, holds and has room for, asked through programs that have a time limit.

Whoever looks up a name on a disk that stopped answering sleeps in the kernel until it answers, and no signal ends that. So
not this process looks, but stat(1), find(1) and flock(1), which are left behind when their time is over.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from bedplate.act.run import Argument, run
from bedplate.errors import BedplateError, CommandError, CommandTimeout, UsageError

ANSWER_S = 15.0  # to look at a file, to make or to remove it: milliseconds on an idle disk, seconds behind a flush
_FILES_MOST = 64  # scratch files of runs that were killed
_KIND, _DIRECTORY = 0o170000, 0o040000  # inode(7): S_IFMT, S_IFDIR


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedDirectory:
    """A directory: the device of its file system, "259:2", and the bytes that an unprivileged user can still write on it."""

    device: str
    free_bytes: int


def read_directory(directory: Path) -> AskedDirectory:
    """Ask what a directory is. Raises UsageError where it is none, BedplateError where its disk does not answer in time."""
    hint = "Name a directory on the disk."
    try:
        kind, device = _ask(directory, ["stat", "-L", "-c", "%f %d", "--", directory]).split()
        if int(kind, 16) & _KIND != _DIRECTORY:
            raise UsageError(f"{directory}: is not a directory", hint=hint)
        blocks, size = _ask(directory, ["stat", "-f", "-c", "%a %S", "--", directory]).split()
    except CommandError as error:
        raise UsageError(f"{directory}: is not a directory: {error.tail.rpartition(': ')[2]}", hint=hint) from error
    number = int(device)
    return AskedDirectory(device=f"{os.major(number)}:{os.minor(number)}", free_bytes=int(blocks) * int(size))


def remove_abandoned(directory: Path, pattern: str, *, but: Path) -> None:
    """Remove the files of a directory that match and that no process holds a lock on: a killed one has dropped its own.

    Another user's file that cannot be removed stays. Raises BedplateError where the disk does not answer in time.
    """
    words: list[Argument] = ["find", directory, "-maxdepth", "1", "-type", "f", "-name", pattern, "-print0"]
    try:
        names = sorted(filter(None, _ask(directory, words).split("\0")))
    except CommandError:
        return
    for file in [Path(name) for name in names if Path(name) != but][:_FILES_MOST]:
        try:
            _ask(file, ["flock", "--nonblock", file, "rm", "-f", "--", file])
        except CommandError:
            continue


def _ask(file: Path, words: list[Argument]) -> str:
    try:
        return run(words, timeout_s=ANSWER_S, split=True).output
    except CommandTimeout as error:
        raise BedplateError(
            f"{file}: its disk does not answer: {words[0]} did not end within {ANSWER_S:.0f} s",
            hint="Look for errors of the disk in the kernel log: journalctl -k",
        ) from error
