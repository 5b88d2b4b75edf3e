"""Ctrl-C, SIGTERM and SIGHUP: a program that they end unwinds, and moments in which they must wait."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

_AGAIN_S = 0.05


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


@contextmanager
def signals_interrupt(say: Callable[[str], None]) -> Iterator[None]:
    """SIGTERM and SIGHUP end a program as Ctrl-C does: by unwinding, so that what it started is ended; `say` is told which.

    SIGINT too is set: a shell starts `bedplate up &` with it ignored. SIGHUP stays ignored where it is: nohup asks for that.
    One that comes while Python runs a finalizer, whose exceptions it only prints, is sent again.
    """

    def interrupt(signum: int, _: FrameType | None) -> None:
        if signum != signal.SIGINT:
            with suppress(RuntimeError):  # it came while `say` wrote
                say(f"ended by {signal.Signals(signum).name}")
        raise KeyboardInterrupt

    signals = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        signals.append(signal.SIGHUP)
    before = {signum: signal.signal(signum, interrupt) for signum in signals}
    hook_before, sys.unraisablehook = sys.unraisablehook, _send_again(sys.unraisablehook)
    try:
        yield
    finally:
        sys.unraisablehook = hook_before
        for signum, handler in before.items():
            signal.signal(signum, handler)


def _send_again(otherwise: Callable[[sys.UnraisableHookArgs], object]) -> Callable[[sys.UnraisableHookArgs], object]:
    """A sys.unraisablehook that does not lose a KeyboardInterrupt; otherwise gets all else."""

    def hook(lost: sys.UnraisableHookArgs) -> None:
        if issubclass(lost.exc_type, KeyboardInterrupt):
            # From a thread and a little later: raised here, it would be lost once more.
            timer = threading.Timer(_AGAIN_S, signal.pthread_kill, (threading.main_thread().ident, signal.SIGINT))
            timer.daemon = True
            timer.start()
        else:
            otherwise(lost)

    return hook
