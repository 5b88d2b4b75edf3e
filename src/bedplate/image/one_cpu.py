"""A machine whose CPUs one thread of QEMU emulates runs on one CPU of this host, because it would lose interrupts on two.

QEMU leaves the guest's memory barriers out where one thread emulates: locked instructions become ordinary ones, and Linux's
full barrier is a locked instruction; until 8.1 the fence instructions are left out too. But the devices are in another
thread. A guest's "interrupt me at the next completion" and the device's "completed" then pass each other, and the guest
waits for ever: its disk hangs. On one CPU two threads see each other's stores in order.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_PROGRAM = "qemu-system-"  # the beginning of /proc/N/comm


@contextmanager
def on_one_cpu() -> Iterator[int]:
    """What this thread starts inside runs on one CPU, whose number it gives: one with the fewest bound QEMUs.

    It is one of the CPUs on which this thread may run, and afterwards it may run on all of them again.
    """
    allowed = os.sched_getaffinity(0)
    bound = Counter(_bound_cpus())
    fewest = min(bound[cpu] for cpu in allowed)
    chosen = random.choice([cpu for cpu in sorted(allowed) if bound[cpu] == fewest])
    os.sched_setaffinity(0, {chosen})
    try:
        yield chosen
    finally:
        os.sched_setaffinity(0, allowed)


def _bound_cpus() -> Iterator[int]:
    """The CPU of each QEMU that is bound to one; a process that ends meanwhile is none."""
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if (process / "comm").read_text(errors="replace").startswith(_PROGRAM):
                cpus = os.sched_getaffinity(int(process.name))
                if len(cpus) == 1:
                    yield from cpus
