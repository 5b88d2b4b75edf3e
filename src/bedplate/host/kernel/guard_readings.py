"""What the closed loop reads once a second: the engine's busiest threads, its pressure, and what the neighbours use.

An engine has hundreds of threads and a few that matter. All are read now and then; between, only those that ran most since:
what a reading costs stays below a millisecond. Sources: Documentation/scheduler/sched-stats.rst (schedstat: nanoseconds on a
CPU, nanoseconds waiting for one), accounting/psi.rst, admin-guide/cgroup-v2.rst.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence

from bedplate.host.kernel.attributes import parse_int
from bedplate.host.kernel.cgroup import parse_counters
from bedplate.host.kernel.processes import parse_schedstat
from bedplate.host.root.root import Root
from bedplate.model.guard import GuardReading, NeighbourLimits

MOUNT = "/sys/fs/cgroup"
THREADS = 8  # the dispatch loop, its workers and the front of one engine; few of them are ever busy
CHOOSE_S = 30.0  # how often all threads are looked at
_PIDS = 1024  # processes of an engine that are looked at
_ALL_THREADS = 8192
_GROUPS = 256  # cgroups below the engine's
_STALL = re.compile(r"^some .*total=(\d{1,18})$", re.MULTILINE)


class GuardReader:
    """Readings of an engine's group and the neighbours' group; keeps which threads it watches."""

    def __init__(self, root: Root, engine: str, neighbour: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._root = root
        self._engine = f"{MOUNT}/{engine.strip('/')}"
        self._neighbour = f"{MOUNT}/{neighbour.strip('/')}"
        self._clock = clock
        self._watched: tuple[str, ...] = ()
        self._ran: dict[str, int] = {}
        self._chosen_s: float | None = None
        self._base_ns = [0, 0]
        """Run and wait of threads that are watched no longer, so that the sums never go back."""

    def read(self) -> GuardReading:
        """The counters of this moment; it picks the busiest threads anew every CHOOSE_S, and their sums never go back."""
        now = self._clock()
        if self._chosen_s is None or now - self._chosen_s >= CHOOSE_S:
            self._choose()
            self._chosen_s = now
        run_ns, wait_ns = self._sum(self._watched)
        throttled = parse_counters(self._root.read(f"{self._engine}/cpu.stat").value or "").get("nr_throttled")
        memory = parse_counters(self._root.read(f"{self._engine}/memory.stat").value or "")
        neighbour_cpu = parse_counters(self._root.read(f"{self._neighbour}/cpu.stat").value or "").get("usage_usec")
        neighbour_memory = self._root.read(f"{self._neighbour}/memory.current").value or ""
        neighbour_io = self._root.read(f"{self._neighbour}/io.stat").value
        refaults = [memory[key] for key in ("workingset_refault_file", "workingset_refault_anon") if key in memory]
        return GuardReading(
            at_s=now,
            engine_run_s=(self._base_ns[0] + run_ns) / 1e9,
            engine_wait_s=(self._base_ns[1] + wait_ns) / 1e9,
            engine_throttled=throttled,
            engine_memory_stall_s=self._stall("memory.pressure"),
            engine_refaults=sum(refaults) if refaults else None,
            engine_io_stall_s=self._stall("io.pressure"),
            neighbour_cpu_s=None if neighbour_cpu is None else neighbour_cpu / 1e6,
            neighbour_memory_bytes=parse_int(neighbour_memory),
            neighbour_io_bytes=None if neighbour_io is None else parse_io_stat(neighbour_io),
        )

    def _choose(self) -> None:
        """Watch the threads that ran most since all were read last."""
        before = self._sum(self._watched)
        ran: dict[str, int] = {}
        for pid in self._pids():
            for tid in self._root.listdir(f"/proc/{pid}/task")[: _ALL_THREADS - len(ran)]:
                where = f"/proc/{pid}/task/{tid}/schedstat"
                ran[where] = parse_schedstat(self._root.read(where).value)[0]
        busiest = sorted(ran, key=lambda where: (self._ran.get(where, 0) - ran[where], where))
        self._watched, self._ran = tuple(busiest[:THREADS]), ran
        after = self._sum(self._watched)
        self._base_ns = [base + old - new for base, old, new in zip(self._base_ns, before, after, strict=True)]

    def _sum(self, where: Sequence[str]) -> tuple[int, int]:
        rows = [parse_schedstat(self._root.read(path).value) for path in where]
        return sum(row[0] for row in rows), sum(row[1] for row in rows)

    def _pids(self) -> list[str]:
        pids: list[str] = []
        groups = [self._engine]
        for _ in range(_GROUPS):
            if not groups:
                break
            group = groups.pop()
            pids += (self._root.read(f"{group}/cgroup.procs").value or "").split()
            below = (f"{group}/{name}" for name in self._root.listdir(group))
            groups += [path for path in below if self._root.exists(f"{path}/cgroup.procs")]
        return [pid for pid in pids[:_PIDS] if pid.isdigit()]

    def _stall(self, file: str) -> float | None:
        found = _STALL.search(self._root.read(f"{self._engine}/{file}").value or "")
        return int(found[1]) / 1e6 if found is not None else None


def parse_io_stat(text: str) -> int:
    """Bytes read and written of all devices: "254:0 rbytes=10 wbytes=5 rios=1 ..." -> 15."""
    return sum(int(number) for number in re.findall(r"\b[rw]bytes=(\d{1,18})", text))


def read_limits(root: Root, group: str, cpus: int) -> NeighbourLimits:
    """Limits of a group as they stand now; None each where there is none, or no such group.

    A quota that is no whole percent of all CPUs counts as the one below it: the guard never sets more than there was.
    """
    quota = (root.read(f"{MOUNT}/{group}/cpu.max").value or "max").split()
    high = root.read(f"{MOUNT}/{group}/memory.high").value or "max"
    weight = (root.read(f"{MOUNT}/{group}/io.weight").value or "").split()
    return NeighbourLimits(
        cpu_max_pct=None if quota[0] == "max" else 100 * int(quota[0]) // (int(quota[1]) * cpus),
        memory_high_bytes=None if high == "max" else int(high),
        io_weight=int(weight[-1]) if weight else None,
    )
