"""A load client that is never late: real clients are elsewhere, and one that waits for a CPU or a page sends less.

Real-time priority for the threads that send and measure, in every arm, and no weight: a heavy group for the client made
stock Linux look several times worse, since the load balancer moves everything else away from it.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_MCL_CURRENT, _MCL_ONFAULT = 1, 4  # sys/mman.h


@contextmanager
def punctual() -> Iterator[None]:
    """The calling thread has real-time priority (SCHED_RR, the least) while the block runs; what it starts has not.

    Without the right to it (CAP_SYS_NICE) nothing changes: lateness is measured, and a late sample does not count.
    """
    tid = threading.get_native_id()
    before = os.sched_getscheduler(tid), os.sched_getparam(tid)
    try:
        os.sched_setscheduler(tid, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(1))
    except OSError:
        yield
        return
    try:
        yield
    finally:
        os.sched_setscheduler(tid, *before)


@contextmanager
def in_memory(note: Callable[[str], None]) -> Iterator[None]:
    """The client's pages are no prey of its neighbours while the block runs: mlockall(2), pages that were touched.

    Pages that are mapped later are left out: a file that is mapped to be asked what of it is in the page cache would be read
    and kept. A limit that forbids it is noted; so is a host that gives the client no real-time priority.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    locked = libc.mlockall(_MCL_CURRENT | _MCL_ONFAULT) == 0
    if not locked:
        note(f"the load client cannot be locked in memory: {os.strerror(ctypes.get_errno())}")
    with punctual():
        if os.sched_getscheduler(0) & ~os.SCHED_RESET_ON_FORK != os.SCHED_RR:
            note("the load client has no real-time priority; samples in which it is late do not count")
    try:
        yield
    finally:
        if locked:
            libc.munlockall()
