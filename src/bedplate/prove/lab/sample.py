"""How one sample is taken: `bedplate prove` and the table of bench/ measure with this one instrument.

The neighbour runs before the load begins: beside a protected engine that is busy a neighbour takes minutes to start. Then a
wash-out passes unmeasured, the neighbour must be seen to be there, and the block is measured and watched. A neighbour that
is starved has done its part, one that is dead has not.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from bedplate.host.root.root import Root
from bedplate.prove.gauge.punctual import punctual
from bedplate.prove.gauge.sampler import CpuUsage, take_snapshot, usage_between
from bedplate.prove.lab.antagonists import AntagonistError, Noise
from bedplate.prove.lab.antagonists.count import AT_THE_END
from bedplate.prove.lab.victims import Victim, VictimMeasurement

MOST_LATE_S = 0.05
"""The 99th percentile of the load client's lateness above which a sample does not count."""


class Watch:
    """What the neighbour did and what the machine was used for in a sample: from the making of this to `end`."""

    problem = ""
    """Why the neighbour did not do its part; "" when it did."""
    cpu_s = 0.0
    """CPU seconds of the neighbour."""
    rate = 0.0
    """Of the neighbour's own work, in its unit a second."""
    usage: CpuUsage
    killed = False
    """Whether the neighbour was killed for the lack of memory in or before the sample."""

    def __init__(self, noise: Noise | None, pids: Sequence[int], *, confined: bool) -> None:
        self._noise, self._pids, self._confined = noise, pids, confined
        # Whether it can be asked for its work at any time.
        self._counts = noise is not None and not noise.quiet and noise.antagonist.work not in AT_THE_END
        self._before_s, self._work, self._began_s = self._consumed_s(), self._count(), time.monotonic()
        self._snapshot = take_snapshot(Root(), pids)

    def end(self) -> None:
        """The sample is over; the load may still run."""
        self.usage = usage_between(self._snapshot, take_snapshot(Root(), self._pids), own=(os.getpid(), *self._pids))
        self._seconds = time.monotonic() - self._began_s
        self.cpu_s, self._work = self._consumed_s() - self._before_s, self._count() - self._work
        if self._noise is None:
            return
        try:
            self._noise.check(confined=self._confined)
        except AntagonistError as error:
            self.problem = did_not_run(error)
        self.killed = self._noise.killed

    def ask(self) -> None:
        """Ask the neighbour for its work, best when nothing holds it back any more: one that counts at its end is ended for
        that, and the sample's part is told by the CPU time that it took in it and in all."""
        if self.problem or self._noise is None or self._noise.quiet:
            return
        if self._counts:
            self.rate = self._work / self._seconds
            return
        whole_s = self._noise.cpu_s()
        # One that was held back so far that it has nothing to count ran and consumed all the same: 0.
        with suppress(AntagonistError):
            self.rate = self._noise.work() * (self.cpu_s / whole_s) / self._seconds if whole_s > 0 else 0.0

    def _consumed_s(self) -> float:
        return self._noise.cpu_s() if self._noise is not None else 0.0

    def _count(self) -> float:
        return self._noise.work() if self._noise is not None and self._counts else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TakenSample:
    """What the victim did in a block, and what was watched beside it."""

    measured: VictimMeasurement
    watch: Watch


@contextmanager
def watched(noise: Noise | None, pids: Sequence[int], *, wash_s: float, confined: bool) -> Iterator[Watch]:
    """Wash out, check that the neighbour is there, and watch while the block runs. Raises AntagonistError when it is not.

    confined: something may give the neighbour less than it asks for; then only one that consumed nothing is not there.
    The thread is punctual: reading what everybody used takes CPU time, for which it would wait minutes beside a busy engine.
    """
    with punctual():
        time.sleep(wash_s)
        if noise is not None:
            noise.check(confined=confined)  # from here on "since the last check" is the block
        watch = Watch(noise, pids, confined=confined)
        yield watch
        watch.end()


def take_sample(
    victim: Victim,
    noise: Noise | None,
    pids: Sequence[int],
    *,
    wash_s: float,
    block_s: float,
    confined: bool,
    at_the_end: Callable[[], None] = lambda: None,
) -> TakenSample:
    """One block of a started victim beside a neighbour that runs, or None for a quiet one.

    pids: the victim's processes. at_the_end is called at the end of the block, while the load still runs. Raises
    AntagonistError for a neighbour that is not there before the block; what is wrong with it after is the watch's problem.
    """
    with victim.loaded(), watched(noise, pids, wash_s=wash_s, confined=confined) as watch:
        measured = victim.measure(block_s)
        at_the_end()
    watch.ask()
    return TakenSample(measured=measured, watch=watch)


def did_not_run(error: AntagonistError) -> str:
    """Why a sample does not count whose neighbour was not there."""
    return f"the antagonist did not do its part: {error.message}"


def foreign_problem(share: float, most: float) -> str:
    """Why a sample does not count in which others took this share of the CPUs; "" up to `most`."""
    return f"foreign load: {share:.0%} of the CPUs, at most {most:.0%} is allowed" if share > most else ""


def load_problem(measured: VictimMeasurement) -> str:
    """Why a sample does not count whose load was not what it should be: a late client, or requests that failed; or ""."""
    if measured.late_s > MOST_LATE_S:
        return f"the load client was late: {measured.late_s * 1000:.0f} ms, at most {MOST_LATE_S * 1000:.0f} ms is allowed"
    if measured.failed > measured.requests / 2:
        return f"requests failed: {measured.failed} of {measured.requests}"
    return ""
