"""Standard output and standard error of the command, when they are full, closed or nobody reads them.

Results that cannot be written are an error, told once: OutputError, or BrokenPipeError where the reader went away. What is
said on the way (stderr) must never end what is done: lost, it is lost.
"""

from __future__ import annotations

import contextlib
import io
import os
import select
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from bedplate.errors import OutputError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


class _Output(io.FileIO):
    """Writes all or raises. After a failure it drops everything: Python flushes again when it ends."""

    lost = False

    def write(self, data: ReadableBuffer, /) -> int:
        if not self.lost:
            try:
                _write_all(super().write, self.fileno(), data)
            except OSError as error:
                self.lost = True
                if isinstance(error, BrokenPipeError):
                    raise
                raise OutputError(
                    f"standard output: cannot be written: {error.strerror}",
                    hint="The result is incomplete: run the command again.",
                ) from error
            except BaseException:  # Ctrl-C while nobody reads: the last flush must not wait again
                self.lost = True
                raise
        return memoryview(data).nbytes


class _Talk(io.FileIO):
    """Drops what cannot be written."""

    def write(self, data: ReadableBuffer, /) -> int:
        with contextlib.suppress(OSError):
            _write_all(super().write, self.fileno(), data)
        return memoryview(data).nbytes


def _write_all(write: Callable[[ReadableBuffer], int | None], descriptor: int, data: ReadableBuffer) -> None:
    """FileIO.write calls write(2) once: it returns how much was taken, None where a non-blocking pipe is full.

    A pipe is non-blocking when a program that shares it made it so (ssh, node); then this waits as the kernel would.
    """
    left = memoryview(data).cast("B")
    while left:
        done = write(left)
        if done is None:
            waiting = select.poll()
            waiting.register(descriptor, select.POLLOUT)
            waiting.poll()
        else:
            left = left[done:]


def guard_streams() -> None:
    """Put the two in place of Python's own. A closed descriptor is opened first: the next file would get its number."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            # For reading: what is written to it fails, as it would on a closed one. The lowest free number is this one.
            os.open(os.devnull, os.O_RDONLY if number == 1 else os.O_RDWR)
    sys.stdout = _wrap(1, sys.stdout, _Output)
    sys.stderr = _wrap(2, sys.stderr, _Talk)


def _wrap(number: int, old: io.TextIOWrapper | object | None, make: Callable[..., io.FileIO]) -> io.TextIOWrapper:
    raw = make(number, "wb", closefd=False)
    if not isinstance(old, io.TextIOWrapper):
        return io.TextIOWrapper(
            io.BufferedWriter(raw), encoding="utf-8", errors="backslashreplace", line_buffering=number == 2
        )
    # Unbuffered (PYTHONUNBUFFERED), Python has no buffer below the text either.
    buffer = raw if old.write_through and number == 1 else io.BufferedWriter(raw)
    return io.TextIOWrapper(
        buffer,
        encoding=old.encoding,
        errors=old.errors,
        line_buffering=old.line_buffering,
        write_through=old.write_through,
    )
