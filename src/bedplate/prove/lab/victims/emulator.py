"""The dispatch-loop emulator as a victim: starts it, reads its steps, ends it."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from bisect import bisect_left
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import pairwise
from pathlib import Path
from typing import Protocol

import bedplate
from bedplate.act.run import last_lines, spawn
from bedplate.errors import BedplateError, UsageError
from bedplate.interrupts import hold_signals
from bedplate.prove.lab.antagonists.place import PLAIN, CgroupTarget, check_place, enter
from bedplate.prove.lab.victims import VictimMeasurement
from bedplate.prove.lab.victims.ring import StepRing

PERIOD_S = (0.005, 0.030)
WORK_S = (0.0002, 0.002)
_READY_S = 30.0
_END_S = 2.0
_SHM = Path("/dev/shm")
_NAME = "bedplate-prove-"


class _LoopProcess(Protocol):
    """What act/run.spawn returns, as far as it is used here."""

    @property
    def pid(self) -> int: ...
    def poll(self) -> int | None: ...
    def wait(self) -> int: ...
    def terminate(self) -> None: ...
    def kill(self) -> None: ...


class DispatchLoop:
    """The dispatch-loop emulator as a process of its own, in a slice or control groups where they are given."""

    def __init__(
        self,
        *,
        period_s: float = 0.010,
        work_s: float = 0.001,
        workers: int = 1,
        place: CgroupTarget = PLAIN,
        limit_s: float = 3600.0,
    ) -> None:
        _check("period", period_s, PERIOD_S)
        _check("work", work_s, WORK_S)
        if not 0 <= workers <= 64:
            raise UsageError(f"{workers} worker threads: expected 0 to 64")
        self._period_s, self._work_s, self._workers = period_s, work_s, workers
        self._place, self._limit_s = place, limit_s
        self._process: _LoopProcess | None = None
        self._directory: tempfile.TemporaryDirectory[str] | None = None
        self._ring: StepRing | None = None

    @property
    def name(self) -> str:
        """Work and period in milliseconds and the number of workers: proofs of other settings are another victim's."""
        return f"dispatch-loop, {self._work_s * 1000:g} ms of work in {self._period_s * 1000:g} ms, {self._workers} workers"

    @property
    def can_restart(self) -> bool:
        """Always True: the process is ours."""
        return True

    def start(self) -> None:
        """Spawn the loop in its place and wait until steps are fed. Raises BedplateError with its last words after 30 s."""
        _remove_left(_SHM)
        prefix = f"{_NAME}{os.getpid()}-"
        self._directory = tempfile.TemporaryDirectory(prefix=prefix, dir=_SHM if _SHM.is_dir() else None)
        directory = Path(self._directory.name)
        ring_file, log = directory / "steps", directory / "log"
        self._ring = StepRing(ring_file, create=True)
        argv = [sys.executable, "-m", "bedplate.prove.lab.victims.dispatch_loop", "--ring", str(ring_file)]
        argv += ["--period-ms", str(self._period_s * 1000), "--work-ms", str(self._work_s * 1000)]
        argv += ["--workers", str(self._workers), "--seconds", str(self._limit_s)]
        check_place(self._place)
        unit = f"bedplate-victim-{os.getpid()}-{directory.name.rpartition('-')[2]}"
        package = str(Path(bedplate.__file__).parent.parent)
        with hold_signals():
            self._process = spawn(enter(self._place, unit, tuple(argv)), log=log, env={"PYTHONPATH": package}, cwd=directory)
        deadline = time.monotonic() + _READY_S
        while self._ring.count < 2:  # calibrated, and steps are fed
            if self._process.poll() is not None or time.monotonic() > deadline:
                tail = last_lines(log.read_text(errors="replace"), 3)
                self.close()
                raise BedplateError(f"the dispatch loop did not start: {tail}")
            time.sleep(0.02)

    def loaded(self) -> AbstractContextManager[None]:
        """Nothing to do: the loop makes its own work, from its start to its end."""
        return nullcontext()

    def restart(self) -> None:
        """A fresh process with a new ring; its count begins at 0 again."""
        self.close()
        self.start()

    def pids(self) -> tuple[int, ...]:
        """The loop's process, whose threads do all the work; () while it does not run."""
        return (self._process.pid,) if self._process is not None else ()

    def measure(self, duration_s: float) -> VictimMeasurement:
        """The steps of the next seconds, which it sleeps through. Raises BedplateError when the loop does not run."""
        if self._process is None or self._ring is None:
            raise BedplateError("the dispatch loop is not running")
        first = max(0, self._ring.count - 1)
        begin = time.monotonic()
        time.sleep(duration_s)
        end = time.monotonic()
        status = self._process.poll()
        if status is not None:
            raise BedplateError(f"the dispatch loop ended by itself with status {status}")
        return parse_steps(self._ring.since(first), begin, end)

    def close(self) -> None:
        """End the loop, by force after 2 s, and remove its directory; called more than once without harm."""
        process, self._process = self._process, None
        if process is not None:
            process.terminate()
            deadline = time.monotonic() + _END_S
            while process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.01)
            process.kill()  # does nothing to one that has ended
            process.wait()
        if self._ring is not None:
            self._ring.close()
            self._ring = None
        if self._directory is not None:
            self._directory.cleanup()
            self._directory = None


def parse_steps(times: Sequence[float], begin_s: float, end_s: float) -> VictimMeasurement:
    """What was done from begin_s to end_s, of the times of steps with at least one before it.

    A step that is still waited for at the end counts with the time that it has waited: a loop that stands still for the
    whole block has one gap as long as the block, not none.
    """
    inside = [at_s for at_s in times if begin_s <= at_s < end_s]
    before = [at_s for at_s in times if at_s < begin_s][-1:]
    marks = [*before, *inside]
    gaps = [later - earlier for earlier, later in pairwise(marks)]
    waited = end_s - (marks[-1] if marks else begin_s)
    if not gaps or waited > max(gaps):
        gaps.append(waited)
    whole = int(end_s - begin_s)
    edges = [bisect_left(inside, begin_s + second) for second in range(whole + 1)]
    seconds = tuple(float(later - earlier) for earlier, later in pairwise(edges))
    return VictimMeasurement(duration_s=end_s - begin_s, work=float(len(inside)), seconds=seconds, gaps_s=tuple(gaps))


def _remove_left(parent: Path) -> None:
    """Directories of experiments that were killed: their names hold the process that made them."""
    for directory in parent.glob(f"{_NAME}*-*"):
        pid = directory.name.removeprefix(_NAME).partition("-")[0]
        if pid.isdigit() and not Path(f"/proc/{pid}").exists():
            shutil.rmtree(directory, ignore_errors=True)


def _check(what: str, value: float, bounds: tuple[float, float]) -> None:
    if not bounds[0] <= value <= bounds[1]:
        low, high = (f"{bound * 1000:g}" for bound in bounds)
        raise UsageError(f"{what} of the dispatch loop: {value * 1000:g} ms, expected {low} to {high} ms")


def default_workers() -> int:
    """Threads beside the serial one: one a CPU that is left, at most 8 as one a GPU would be."""
    return max(1, min(8, len(os.sched_getaffinity(0)) - 1))
