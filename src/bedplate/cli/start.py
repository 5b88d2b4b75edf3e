"""The first lines of the `bedplate` command: a signal that comes while its modules are loaded ends it without a traceback.

This module loads nothing that Python has not loaded already, so that it takes over at once: not `signal`, which brings
`enum` and a dozen more, and not even `__future__`. What runs before it, Python's own start, cannot be covered from inside.
"""

import _signal  # type: ignore[import-not-found]  # the built-in module that `signal` wraps; the numbers are those of POSIX
import os


def start() -> None:
    """Entry point of the installed command: `bedplate.cli.main.entry`, loaded with its signals already handled."""
    for signum in (_signal.SIGINT, _signal.SIGTERM, _signal.SIGHUP):
        if _signal.getsignal(signum) != _signal.SIG_IGN:
            _signal.signal(signum, _end)
    from bedplate.cli.main import entry

    entry()


def _end(_signum: int, _frame: object) -> None:
    """Nothing is started or written yet, or all is done, so nothing has to unwind."""
    try:
        os.write(2, b"interrupted\n")
    finally:  # standard error may be closed
        os._exit(130)
