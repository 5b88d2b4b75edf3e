"""Being ended from outside: long verbs unwind, so that what they started is ended and nothing is left half done."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def signals_interrupt() -> Iterator[None]:
    """SIGTERM and SIGHUP end a verb as Ctrl-C does: by unwinding, so that what it started is ended.

    SIGINT too is set: a shell starts `bedplate up &` with it ignored.
    """

    def interrupt(signum: int, _: FrameType | None) -> None:
        if signum != signal.SIGINT:
            print(f"ended by {signal.Signals(signum).name}", file=sys.stderr)
        raise KeyboardInterrupt

    before = {signum: signal.signal(signum, interrupt) for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
