"""The first lines of the `bedplate` command: a signal that comes while its modules are loaded ends it without a traceback.

This module loads only `os` and `signal`, so that it takes over at once. What runs before it, Python's own start, cannot be
covered from inside.
"""

from __future__ import annotations

import os
import signal
from types import FrameType


def start() -> None:
    """Entry point of the installed command: `bedplate.cli.main.entry`, loaded with its signals already handled."""
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(signum) != signal.SIG_IGN:
            signal.signal(signum, _end)
    from bedplate.cli.main import entry

    entry()


def _end(_signum: int, _frame: FrameType | None) -> None:
    """Nothing is started or written yet, or all is done, so nothing has to unwind."""
    try:
        os.write(2, b"interrupted\n")
    finally:  # standard error may be closed
        os._exit(130)
