"""A recording that comes through a pipe: `--from <(zcat host.tar.gz)`, /dev/stdin, a FIFO. Read whole, to a bound, in time.

A pipe cannot be read twice, and formats are told by their first bytes: so all of it is read before. A FIFO that nobody
writes to, and a writer that stops, end with a sentence, not never.
"""

from __future__ import annotations

import os
import select
import stat
import time
from pathlib import Path

from bedplate.errors import ReadError

PIPE_MOST = 64 << 20  # bytes as they come, packed or not
_QUIET_S = 30.0  # without a byte; a program that records another host over SSH takes some seconds
_WHOLE_S = 600.0
_CHUNK = 1 << 18


def read_pipe(path: Path, *, quiet_s: float = _QUIET_S) -> bytes | None:
    """All bytes that come through a pipe; None where the path is a file or a directory, which are read where they lie.

    Raises ReadError for what is neither, for more than PIPE_MOST bytes, and when nothing comes for `quiet_s` seconds.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except OSError as error:
        if stat.S_ISSOCK(_mode(path)):
            raise ReadError(f"{path}: is a socket, not a file, a directory or a pipe", hint="Put it into a file.") from error
        raise ReadError(f"{path}: cannot read: {error.strerror}") from error
    try:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISREG(mode) or stat.S_ISDIR(mode):
            return None
        if not stat.S_ISFIFO(mode):
            raise ReadError(
                f"{path}: is a device or a terminal, not a file, a directory or a pipe", hint="Put it into a file."
            )
        return _read_all(descriptor, path, quiet_s)
    finally:
        os.close(descriptor)


def _read_all(descriptor: int, path: Path, quiet_s: float) -> bytes:
    waiting = select.poll()
    waiting.register(descriptor, select.POLLIN)
    data = bytearray()
    ends_s = time.monotonic() + _WHOLE_S
    while True:
        if not waiting.poll(quiet_s * 1000) or time.monotonic() > ends_s:
            came = f"only {len(data)} bytes came" if data else "nothing came"
            raise ReadError(
                f"{path}: is a pipe through which {came} for {quiet_s:g} s",
                hint="Write into it from another program, or put the recording into a file.",
            )
        try:
            chunk = os.read(descriptor, _CHUNK)
        except BlockingIOError:
            continue
        if not chunk:
            return bytes(data)
        data += chunk
        if len(data) > PIPE_MOST:
            raise ReadError(f"{path}: the pipe delivered more than {PIPE_MOST >> 20} MiB", hint="Put it into a file.")


def _mode(path: Path) -> int:
    try:
        return path.stat().st_mode
    except OSError:
        return 0
