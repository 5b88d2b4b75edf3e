"""Being ended from outside: every verb unwinds, so that what it started is ended and nothing is left half done."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

_AGAIN_S = 0.05


@contextmanager
def signals_interrupt() -> Iterator[None]:
    """SIGTERM and SIGHUP end a verb as Ctrl-C does: by unwinding, so that what it started is ended.

    SIGINT too is set: a shell starts `bedplate up &` with it ignored. SIGHUP stays ignored where it is: nohup asks for that.
    One that comes while Python runs a finalizer, whose exceptions it only prints, is sent again.
    """

    def interrupt(signum: int, _: FrameType | None) -> None:
        if signum != signal.SIGINT:
            with suppress(RuntimeError):  # it came while stderr was written
                print(f"ended by {signal.Signals(signum).name}", file=sys.stderr)
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
