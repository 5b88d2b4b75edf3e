"""Being ended from outside while Python does what cannot raise."""

import os
import signal
import sys
import time

import pytest

from bedplate.interrupts import signals_interrupt


class _Closing:
    """Gets a signal while it is finalized, where Python only prints what is raised."""

    def __init__(self, signum: int) -> None:
        self.signum = signum

    def __del__(self) -> None:
        os.kill(os.getpid(), self.signum)
        time.sleep(0.01)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_in_a_finalizer_is_not_lost(signum: int, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyboardInterrupt), signals_interrupt(lambda _: None):
        closing: _Closing | None = _Closing(signum)
        closing = None  # noqa: F841
        time.sleep(10)
        pytest.fail("the signal was lost")
    assert "Exception ignored" not in capfd.readouterr().err


def test_the_hook_is_put_back() -> None:
    before = sys.unraisablehook
    with signals_interrupt(lambda _: None):
        assert sys.unraisablehook is not before
    assert sys.unraisablehook is before
