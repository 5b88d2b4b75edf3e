"""Which form of progress standard error gets: a live line on a terminal that can draw, plain lines anywhere else.

In a pipe, with TERM=dumb or without rich there are plain lines. NO_COLOR keeps the live line and takes its colours.
"""

from __future__ import annotations

import os
import sys
from functools import partial
from pathlib import Path

from bedplate.report.progress import LiveProgress, PhaseClock, PlainProgress


def terminal_progress(log: Path | None = None) -> PhaseClock:
    """The Progress for this stderr: live where it is a terminal that can draw and rich is there, plain lines elsewhere.

    log: file that also gets each phase and note, with its time.
    """
    from bedplate.flows.logs import append_log

    write_log = partial(append_log, log) if log is not None else None
    if sys.stderr.isatty() and os.environ.get("TERM", "") not in ("", "dumb"):
        try:
            from rich.console import Console
        except ImportError:
            pass
        else:
            return LiveProgress(Console(stderr=True, highlight=False), log=write_log)  # rich itself respects NO_COLOR
    return PlainProgress(sys.stderr, log=write_log)
