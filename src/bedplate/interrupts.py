"""Moments in which Ctrl-C, SIGTERM and SIGHUP must wait."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def hold_signals() -> Iterator[None]:
    """Keep SIGINT, SIGTERM and SIGHUP back while the block runs, and deliver what came at its end.

    For the moment between starting a process and writing down that it was started: Ctrl-C there would lose it. A child
    started inside gets the default actions, since handlers do not survive exec (a blocked mask would). Does nothing in
    a thread: Python delivers signals to the main one.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []

    def remember(signum: int, _: FrameType | None) -> None:
        came.append(signum)

    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.signal(signum, remember) for signum in signals]
    try:
        yield
    finally:
        for signum, handler in zip(signals, before, strict=True):
            signal.signal(signum, handler)
        if came:
            signal.raise_signal(came[0])
