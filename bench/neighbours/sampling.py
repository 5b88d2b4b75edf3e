"""How a sample is taken: a load whose client is never late, a loader that waits, a neighbour that is watched."""

from __future__ import annotations

import ctypes
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

from bedplate.errors import BedplateError
from bedplate.host.root.root import Root
from bedplate.prove.antagonists import AntagonistError, AntagonistIdle, Noise
from bedplate.prove.antagonists.count import AT_THE_END
from bedplate.prove.sampler import CpuUsage, take_snapshot, usage_between
from bedplate.prove.victims.engine import EngineVictim

LOAD_LIMIT_S = 120.0


class Watch:
    """What the neighbour did and what the machine was used for in a sample: from the making of this to `end`."""

    problem = ""
    """What spoilt it."""
    cpu_s = 0.0
    """CPU seconds of the neighbour."""
    rate = 0.0
    """Of the neighbour's own work, in its unit a second."""
    usage: CpuUsage
    killed = False
    """Whether the neighbour was killed for the lack of memory in or before the sample."""

    def __init__(self, noise: Noise, pids: Sequence[int], *, confined: bool) -> None:
        self._noise, self._pids, self._confined = noise, pids, confined
        self._counts = not noise.quiet and noise.antagonist.work not in AT_THE_END  # it can be asked at any time
        self._before_s, self._work, self._began_s = noise.cpu_s(), self._count(), time.monotonic()
        self._snapshot = take_snapshot(Root(), pids)

    def end(self) -> None:
        """The sample is over; the load may still run."""
        self.usage = usage_between(self._snapshot, take_snapshot(Root(), self._pids), own=(os.getpid(), *self._pids))
        self._seconds = time.monotonic() - self._began_s
        self.cpu_s, self._work = self._noise.cpu_s() - self._before_s, self._count() - self._work
        try:
            _check(self._noise, confined=self._confined)
        except AntagonistError as error:
            self.problem = f"the neighbour did not do its part: {error.message}"
        self.killed = self._noise.killed

    def ask(self) -> None:
        """Ask the neighbour for its work, best when nothing holds it back any more: one that counts at its end is ended for
        that, and the sample's part is told by the CPU time that it took in it and in all."""
        if self.problem or self._noise.quiet:
            return
        if self._counts:
            self.rate = self._work / self._seconds
            return
        whole_s = self._noise.cpu_s()
        # One that was held back so far that it has nothing to count ran and consumed all the same: 0.
        with suppress(AntagonistError):
            self.rate = self._noise.work() * (self.cpu_s / whole_s) / self._seconds if whole_s > 0 else 0.0

    def _count(self) -> float:
        return self._noise.work() if self._counts else 0.0


@contextmanager
def watched(noise: Noise, pids: Sequence[int], *, wash_s: float, confined: bool) -> Iterator[Watch]:
    """Wash out, check that the neighbour is there, and watch while the block runs. Raises AntagonistError when it is not.

    The thread is punctual: reading what everybody used takes CPU time, for which it would wait minutes beside a busy engine.
    """
    with _punctual():
        time.sleep(wash_s)
        _check(noise, confined=confined)
        watch = Watch(noise, pids, confined=confined)
        yield watch
        watch.end()


@contextmanager
def started(argv: Sequence[str]) -> Iterator[Callable[[], tuple[float, float]]]:
    """A loader that has started and waits; what comes back lets it read, and gives bytes and seconds."""
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()

        def load() -> tuple[float, float]:
            try:
                said, _ = process.communicate("go\n", timeout=LOAD_LIMIT_S)
                read, seconds = said.split()
            except (subprocess.TimeoutExpired, ValueError) as error:
                raise BedplateError(f"the loader read nothing within {LOAD_LIMIT_S:.0f} s") from error
            return float(read), float(seconds)

        try:
            yield load
        finally:
            process.kill()


@contextmanager
def loaded(engine: EngineVictim) -> Iterator[None]:
    """The load, whose client is never late: real clients are elsewhere, and one that waits for a CPU sends less.

    Real-time priority for its threads, in every arm, and no weight: a heavy group for the client made stock Linux look
    several times worse, since the load balancer moves everything else away from it.
    """
    before = {thread.native_id for thread in threading.enumerate()}
    engine.start()
    try:
        for thread in threading.enumerate():
            if thread.native_id is not None and thread.native_id not in before:
                _prefer(thread.native_id)
        yield
    finally:
        engine.close()


@contextmanager
def _punctual() -> Iterator[None]:
    """The same for the thread that calls."""
    tid = threading.get_native_id()
    _prefer(tid)
    try:
        yield
    finally:
        os.sched_setscheduler(tid, os.SCHED_OTHER, os.sched_param(0))


def _prefer(tid: int) -> None:
    os.sched_setscheduler(tid, os.SCHED_RR, os.sched_param(1))


def stay_in_memory() -> None:
    """The client's pages are no prey of the neighbours: mlockall(2) with MCL_CURRENT and MCL_ONFAULT.

    Not MCL_FUTURE: a file that is mapped to be asked what of it is in the page cache would be read and kept.
    """
    if ctypes.CDLL(None, use_errno=True).mlockall(1 | 4) != 0:
        raise BedplateError(f"the load client cannot be locked in memory: {os.strerror(ctypes.get_errno())}")


def _check(noise: Noise, *, confined: bool) -> None:
    """Raise AntagonistError for a neighbour that is gone, or that nobody confines and that took nothing.

    One that is confined so that it got no CPU time at all for a whole sample was there: its sample counts, with that price.
    """
    try:
        noise.check(confined=confined)
    except AntagonistIdle:
        if not confined or noise.cpu_s() <= 0.0:
            raise
