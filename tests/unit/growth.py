"""How the work of a reader grows with its input, in CPU time of this thread, so that a busy host changes nothing.

Other processes take the CPU away and its caches with it: a time is the least of several, and a ratio that is too large is
measured again before it counts.
"""

from __future__ import annotations

import gc
import time
import tracemalloc
from collections.abc import Callable

_TRIES = 3
_AGAIN = 8  # times that a ratio past its bound is measured once more
_SHORTEST_S = 0.001  # what is shorter is repeated: the clock of a thread has microseconds, and calls have their cost


def least_cpu_s(work: Callable[[], object], *, tries: int = _TRIES) -> float:
    """CPU seconds of one call of `work`, the least of several."""
    least, calls = cpu_s(work, 1), 1
    if least < _SHORTEST_S:
        calls = min(1000, int(_SHORTEST_S / max(least, 1e-7)) + 1)
        least = cpu_s(work, calls)
    for _ in range(tries - 1):
        least = min(least, cpu_s(work, calls))
    return least / calls


def cpu_s(work: Callable[[], object], calls: int = 1) -> float:
    """CPU seconds of some calls."""
    begun = time.thread_time()
    for _ in range(calls):
        work()
    return time.thread_time() - begun


def growth(small: Callable[[], object], large: Callable[[], object], *, most: float) -> float:
    """How many times as long `large` takes as `small`; measured again, up to a bound, while it is more than `most`."""
    ratio = float("inf")
    for _ in range(_AGAIN):
        ratio = min(ratio, least_cpu_s(large, tries=1) / least_cpu_s(small))
        if ratio <= most:
            break
    return ratio


def peak_bytes(work: Callable[[], object]) -> int:
    """The most memory that Python held at once for `work`, above what it held before."""
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        work()
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
