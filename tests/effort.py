"""How much work something took, as CPU time: the clock on the wall says on a busy host what the others did."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

PATIENCE_S = 300.0
"""How long a test waits for a state before it gives up: far longer than the state takes on the busiest host. Nothing is
claimed by it."""
_LOOK_S = 0.02


@contextmanager
def at_most(cpu_s: float) -> Iterator[None]:
    """Fail when the block took more CPU time of this thread. Give ten times of what it takes, or more."""
    before = time.thread_time()
    yield
    took = time.thread_time() - before
    assert took < cpu_s, f"took {took:.2f} s of CPU time, at most {cpu_s:g} s were expected"


def wait_until(fact: Callable[[], bool], what: str, *, patience_s: float = PATIENCE_S) -> None:
    """Return when the fact is true; fails naming it."""
    ends = time.monotonic() + patience_s
    while not fact():
        assert time.monotonic() < ends, f"{what}: not within {patience_s:.0f} s"
        time.sleep(_LOOK_S)
