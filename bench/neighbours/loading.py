"""The loader of cold loads as a process that waits for its sample to begin."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from bedplate.errors import BedplateError

LOAD_LIMIT_S = 120.0


@contextmanager
def started(argv: Sequence[str]) -> Iterator[Callable[[], tuple[float, float]]]:
    """A loader that has started and waits; what comes back lets it read, and gives bytes and seconds."""
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()

        def load() -> tuple[float, float]:
            try:
                said, _ = process.communicate("go\n", timeout=LOAD_LIMIT_S)
                read, seconds = said.split()
            except (subprocess.TimeoutExpired, ValueError) as error:
                raise BedplateError(f"the loader read nothing within {LOAD_LIMIT_S:.0f} s") from error
            return float(read), float(seconds)

        try:
            yield load
        finally:
            process.kill()
