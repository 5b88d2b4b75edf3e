"""One antagonist that runs: started in its place, counted, checked, and ended with all that it started.

It is bounded twice: by its own argument where it has one, and by timeout(1) around it: it ends even if we are killed.
stress-ng, fio and iperf3 tell what they did when they end; so `work()` of those ends them. What they consumed is known all
the time. "98 % kept" was once measured beside an antagonist that had failed to start: `check()` is for every sample.
"""

from __future__ import annotations

import math
import os
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from bedplate.act.run import find_program, last_lines, spawn
from bedplate.errors import BedplateError, CommandError, PreflightError, ReadError, UsageError
from bedplate.host.kernel.caches import read_caches
from bedplate.host.kernel.memory import read_memory
from bedplate.host.root.root import Root
from bedplate.interrupts import hold_signals
from bedplate.model.proof import Antagonist
from bedplate.prove.lab.antagonists.count import AT_THE_END, count_fio_bytes, parse_iperf3, parse_stdout, parse_stress_ng
from bedplate.prove.lab.antagonists.fill import Scale, busy_cpus, fill, fill_server, wanted_bytes
from bedplate.prove.lab.antagonists.place import PLAIN, CgroupTarget, check_place, enter
from bedplate.prove.lab.antagonists.processes import (
    FamilyUsage,
    cgroup_of,
    end_cgroups,
    end_family,
    read_cgroup_cpu_s,
    read_family,
    read_oom_kills,
)
from bedplate.prove.lab.antagonists.residency import resident_bytes
from bedplate.prove.lab.antagonists.scratch import Scratch, prepared

_END_S = 10.0  # for a program to write down what it did, after it was asked to end
_SERVER_S = 30.0  # for a server to listen; it may be one that gets little
_SETTLE_S = 0.1  # a program that refuses its words ends before this on a quiet machine; check() finds it on a busy one
_MARGIN_S = 15  # how much longer than asked timeout(1) lets it live
_CPU_SHARE, _MEMORY_SHARE = 0.25, 0.5  # of what it asks for; see Antagonist.takes
_LOOP = 'while "$@"; do :; done'


class _LoadProcess(Protocol):
    """What act/run.spawn returns, as far as it is used here."""

    pid: int

    def wait(self, timeout: float | None = None) -> int: ...


class AntagonistError(BedplateError):
    """The antagonist does not run, or did not consume what it should: what was measured beside it does not count."""


class AntagonistIdle(AntagonistError):
    """Its processes are there and got no CPU time since the last look; for a confined one that may be the price."""


def read_scale(root: Root | None = None, *, memory_bytes: int | None = None) -> Scale:
    """This machine as levels see it; memory_bytes is a limit that binds engine and antagonist together."""
    root = Root() if root is None else root
    memory = read_memory(root)
    cpus = sorted(os.sched_getaffinity(0))
    caches = [cache for cache in read_caches(root, cpus, {cpu: (cpu,) for cpu in cpus}) if cache.kind != "Instruction"]
    last = max((cache.level for cache in caches), default=0)
    total = memory.total_bytes if memory_bytes is None else min(memory.total_bytes, memory_bytes)
    return Scale(
        cpus=len(cpus),
        memory_bytes=total,
        available_bytes=min(memory.available_bytes, total),
        llc_bytes=max((cache.size_bytes for cache in caches if cache.level == last), default=0),
    )


def missing_packages(antagonists: Sequence[Antagonist]) -> tuple[str, ...]:
    """Debian packages of the programs that are not installed, in the order of the rows."""
    missing: list[str] = []
    for antagonist in antagonists:
        programs = [antagonist.program, *antagonist.server[:1]] if antagonist.program else []
        if any(find_program(program) is None for program in [*programs, *_inner_programs(antagonist)]):
            missing += [package for package in antagonist.package.split() if package not in missing]
    return tuple(missing)


def require(antagonists: Sequence[Antagonist]) -> None:
    """Raise PreflightError that names everything to install, when a row's program is not there."""
    packages = missing_packages(antagonists)
    if packages:
        raise PreflightError(
            f"antagonists need packages that are not installed: {', '.join(packages)}",
            hint=f"apt-get install -y {' '.join(packages)}",
        )


def _inner_programs(antagonist: Antagonist) -> tuple[str, ...]:
    """Programs that the program itself starts."""
    return {"make": ("gcc",), "tar": ("zstd",), "prlimit": ("stress-ng",)}.get(antagonist.program, ())


class Noise:
    """One or more programs of one row. Made by `running`."""

    def __init__(self, antagonist: Antagonist, *, level_pct: int, scale: Scale, place: CgroupTarget) -> None:
        self.antagonist = antagonist
        self.level_pct = level_pct
        self.command: tuple[str, ...] = ()
        """The antagonist's own words, without what puts it into its place; () when quiet."""
        self._scale = scale
        self._place = place
        self._parts: tuple[Noise, ...] = ()
        self._sessions: list[_LoadProcess] = []
        self._cgroup: Path | None = None
        self._cgroup_before_s = 0.0
        self._desk = Path()
        self._own_file = Path()
        self._started_s = self._asked_s = self._ended_s = 0.0
        self._checked_cpu_s = 0.0
        self._peak_rss = 0
        self._last = FamilyUsage(cpu_s=0.0, rss_bytes=0, read_bytes=0, written_bytes=0, alive=0)
        self._work: float | None = None
        self._failure = ""
        self._killed = False
        self._oom_kills = 0

    @property
    def killed(self) -> bool:
        """Whether the kernel ended it, or a part of it, for the lack of memory before it was asked to end."""
        return self._killed or any(part.killed for part in self._parts)

    @property
    def quiet(self) -> bool:
        """Level 0: nothing was started."""
        return self.level_pct == 0

    def elapsed_s(self) -> float:
        """Since it was started, until now or until it was asked to end: what it writes down then is no work."""
        return (self._asked_s or self._ended_s or time.monotonic()) - self._started_s if self._started_s else 0.0

    def cpu_s(self) -> float:
        """CPU seconds that its processes consumed until now, the ended ones among them."""
        if self._parts:
            return sum(part.cpu_s() for part in self._parts)
        return self._read().cpu_s

    def work(self) -> float:
        """What it did in all, in its own unit; 0.0 when quiet. Ends it where its program tells only at its end.

        The rate is work() / elapsed_s(). Raises AntagonistError when it cannot be told.
        """
        if self.quiet:
            return 0.0
        if self._parts:
            return sum(part.cpu_s() for part in self._parts)
        kind = self.antagonist.work
        if kind in AT_THE_END:
            self.end()
            if self._work is None:
                raise AntagonistError(f"{self.antagonist.id}: {self._failure}", hint="Its output is above.")
            return self._work
        usage = self._read()
        if kind == "read":
            return float(usage.read_bytes)
        if kind == "written":
            return float(usage.written_bytes)
        if kind == "stdout":
            return parse_stdout(self._output())
        return usage.cpu_s

    def part_work(self) -> tuple[tuple[str, float], ...]:
        """(id, work) of each part of a combined row, each in its own unit; of itself for the others."""
        if self._parts:
            return tuple(pair for part in self._parts for pair in part.part_work())
        return ((self.antagonist.id, self.work()),)

    def check(self, *, confined: bool = False) -> None:
        """Raise AntagonistError unless it runs and has consumed CPU time.

        Where it is not confined it must have had some since the last check, and what its row says it takes: a quarter of the
        CPU time that it asks for, half of its memory, or pages of its file in the page cache. A confined one is meant to get
        less, and beside a busy engine it may get nothing for seconds.
        """
        if self.quiet:
            return
        if self._parts:
            for part in self._parts:  # they share what there is
                part._check(confined=confined, among=len(self._parts))
            return
        self._check(confined=confined, among=1)

    def _check(self, *, confined: bool, among: int) -> None:
        if self._started_s and not self._ended_s:
            self._check_alive()
        usage = self._read()
        if self._killed:
            return
        gained_s = usage.cpu_s - self._checked_cpu_s
        self._checked_cpu_s = usage.cpu_s
        idle = gained_s <= 0.0 and not self._ended_s and self.antagonist.takes == "cpu"
        if usage.cpu_s <= 0.0 or (idle and not confined):
            raise AntagonistIdle(f"{self.antagonist.id}: its processes exist but consumed no CPU time")
        if not confined:
            self._check_taken(usage, among)

    def end(self) -> None:
        """End it and all that it started, and read what it did; called more than once without harm."""
        for part in self._parts:
            part.end()
        if self._ended_s or not self._sessions:
            self._ended_s = self._ended_s or time.monotonic()
            return
        self._read()
        scopes = [scope for scope in map(self._scope, self._sessions) if scope is not None]
        main = self._sessions[-1] if self._sessions else None
        self._asked_s = time.monotonic()
        try:
            if main is not None:
                self._interrupt(main)
        finally:
            self._ended_s = time.monotonic()
            with hold_signals():
                for session in self._sessions:
                    end_family(session.pid, grace_s=2.0)
                    session.wait()
                end_cgroups(scopes)
                for file in self._desk.glob("out*"):
                    file.unlink()
        self._work = self._count()

    # -- start ----------------------------------------------------------------------------------------------------------

    def _start(self, scratch: Scratch, seconds: float) -> None:
        antagonist, level = self.antagonist, self.level_pct
        self._desk = scratch.desk()
        # A file of its own: writes to one that another group made are charged to that group for seconds (fs/fs-writeback.c).
        ground = replace(scratch.ground(antagonist, level, self._scale), out=str(self._desk / "out"))
        self._own_file = Path(ground.file if any("{file}" in word for word in antagonist.argv) else ground.out)
        self.command = fill(antagonist, level, seconds, self._scale, ground)
        limit = ("timeout", "--signal=INT", "--kill-after=5", str(math.ceil(seconds) + _MARGIN_S))
        server = fill_server(antagonist, level, seconds, self._scale, ground)
        self._cgroup = next((cgroup for cgroup in self._place.cgroups if read_cgroup_cpu_s(cgroup) is not None), None)
        self._cgroup_before_s = (read_cgroup_cpu_s(self._cgroup) or 0.0) if self._cgroup is not None else 0.0
        self._oom_kills = read_oom_kills(self._place.slice)
        self._started_s = time.monotonic()
        if server:
            self._spawn((*limit, *server), "server")
            _wait_listening(ground.port, self._sessions[-1], self._desk / "server.log")
        words = (*self.command, *self._report_words())
        if antagonist.repeat:
            words = ("sh", "-c", _LOOP, "sh", *words)
        self._spawn((*limit, *words), "main")
        self._started_s = time.monotonic()

    def _spawn(self, argv: tuple[str, ...], name: str) -> None:
        unit = f"bedplate-noise-{os.getpid()}-{self._desk.parent.name.rpartition('-')[2]}-{self._desk.name}-{name}"
        with hold_signals():  # Ctrl-C between the start and our knowing of it would leave it running
            self._sessions.append(
                spawn(enter(self._place, unit, argv), log=self._desk / f"{name}.log", cwd=self._desk, env=_ENVIRONMENT)
            )

    def _report_words(self) -> tuple[str, ...]:
        report = str(self._report)
        return {
            "stress-ng": ("--metrics-brief", "--yaml", report, "--temp-path", str(self._desk)),
            "fio": ("--output-format=json", f"--output={report}"),
            "iperf3": ("--json",),
        }.get(self.antagonist.work, ())

    @property
    def _report(self) -> Path:
        return self._desk / ("main.log" if self.antagonist.work == "iperf3" else "report")

    # -- reading --------------------------------------------------------------------------------------------------------

    def _read(self) -> FamilyUsage:
        """What it has used until now; what it was at the end, when it has ended."""
        if self._ended_s or not self._sessions:
            return self._last
        usages = [read_family(session.pid) for session in self._sessions]
        cpu_s = sum(usage.cpu_s for usage in usages)
        if self._cgroup is not None:
            cpu_s = max(cpu_s, (read_cgroup_cpu_s(self._cgroup) or 0.0) - self._cgroup_before_s)
        rss = sum(usage.rss_bytes for usage in usages)
        self._peak_rss = max(self._peak_rss, rss)
        counted = usages[-1:]  # the server's reads are not the antagonist's work
        self._last = FamilyUsage(
            cpu_s=max(cpu_s, self._last.cpu_s),
            rss_bytes=rss,
            read_bytes=max(self._last.read_bytes, sum(usage.read_bytes for usage in counted)),
            written_bytes=max(self._last.written_bytes, sum(usage.written_bytes for usage in counted)),
            alive=sum(usage.alive for usage in usages),
        )
        return self._last

    def _output(self) -> str:
        try:
            return (self._desk / "main.log").read_text(errors="replace").partition("\n")[2]  # the first line is our command
        except OSError:
            return ""

    def _check_alive(self) -> None:
        main = self._sessions[-1]
        if _has_ended(main):
            if self.antagonist.may_be_killed and self._was_killed(main):
                self._killed = True
                return
            tail = last_lines(self._output(), 3)
            raise AntagonistError(
                f"{self.antagonist.id}: ended after {self.elapsed_s():.1f} s, before it was asked to: {tail or 'no output'}",
                hint=f"Run it by hand: {' '.join(self.command)}",
            )

    def _was_killed(self, main: _LoadProcess) -> bool:
        """By SIGKILL, or by the service manager, which ends a scope when the kernel has killed a process of it."""
        return _ended_by(main) == signal.SIGKILL or read_oom_kills(self._place.slice) > self._oom_kills

    def _check_taken(self, usage: FamilyUsage, among: int) -> None:
        takes, who = self.antagonist.takes, self.antagonist.id
        if self._work is not None and self._work <= 0.0:
            raise AntagonistError(f"{who}: consumed {usage.cpu_s:.1f} CPU seconds and did no work")
        if takes == "cpu":
            asked = busy_cpus(self.antagonist, self.level_pct, self._scale) * self.elapsed_s() / among
            if usage.cpu_s < asked * _CPU_SHARE:
                raise AntagonistError(
                    f"{who}: consumed {usage.cpu_s:.1f} CPU seconds, at least {asked * _CPU_SHARE:.1f} expected"
                )
        elif takes == "memory":
            asked_bytes = min(wanted_bytes(self.level_pct, self._scale), self._scale.available_bytes) * _MEMORY_SHARE / among
            if self._peak_rss < asked_bytes:
                raise AntagonistError(
                    f"{who}: holds {self._peak_rss >> 20} MiB, at least {int(asked_bytes) >> 20} MiB expected",
                    hint="It needs more time to touch its memory, or a limit binds it.",
                )
        elif takes == "cache" and not self._ended_s:
            path = self._own_file
            if not path.is_file() or resident_bytes(path, enough_bytes=1) <= 0:
                raise AntagonistError(f"{who}: no part of {path.name} is in the page cache")

    # -- end ------------------------------------------------------------------------------------------------------------

    def _interrupt(self, main: _LoadProcess) -> None:
        """Ask the program to end as Ctrl-C does, and wait until it has written down what it did."""
        if not _has_ended(main):
            os.kill(main.pid, signal.SIGINT)  # timeout(1) hands it on; in a pid group of its own, once
            deadline = time.monotonic() + _END_S
            while not _has_ended(main) and time.monotonic() < deadline:
                self._read()
                time.sleep(0.02)
        self._read()  # a zombie still shows what it and its children consumed

    def _scope(self, process: _LoadProcess) -> Path | None:
        """The transient scope that was made for it; what fled from the session is still in there."""
        group = cgroup_of(process.pid) if self._place.slice else None
        return group if group is not None and group.name.startswith("bedplate-noise-") else None

    def _count(self) -> float | None:
        parse = {"stress-ng": parse_stress_ng, "fio": count_fio_bytes, "iperf3": parse_iperf3}.get(self.antagonist.work)
        if parse is None:
            return None
        try:
            return parse(self._report.read_text(errors="replace"))
        except (OSError, ReadError) as error:
            said = last_lines(self._output(), 3)
            self._failure = f"{error.message if isinstance(error, ReadError) else error}; its output: {said or 'nothing'}"
            return None


_ENVIRONMENT = {"PYTHONDONTWRITEBYTECODE": "", "LC_ALL": "C"}


@contextmanager
def running(
    antagonist: Antagonist,
    level_pct: int,
    place: CgroupTarget = PLAIN,
    seconds: float = 60.0,
    *,
    scratch: Scratch | None = None,
    scale: Scale | None = None,
    rows: Sequence[Antagonist] = (),
    directory: Path = Path("/var/tmp"),
) -> Iterator[Noise]:
    """The antagonist at a level, from its start to the end of the block; nothing is left behind, however the block ends.

    seconds bounds it from within. scratch is what `prepared` made for the whole experiment; without it a directory below
    `directory` is made for this run. rows are needed by a combined row, for its parts. Raises PreflightError when a program
    is not installed or the place is not there, UsageError for a level that is not 0 to 1000, AntagonistError when it ends at
    once.
    """
    if not 0 <= level_pct <= 1000:
        raise UsageError(f"{antagonist.id}: level {level_pct} %, expected 0 to 1000")
    scale = read_scale() if scale is None else scale
    noise = Noise(antagonist, level_pct=level_pct, scale=scale, place=place)
    if level_pct == 0:
        yield noise
        return
    parts = [_find(part, rows) for part in antagonist.parts]
    require([antagonist, *parts])
    check_place(place)
    with ExitStack() as stack:
        if scratch is None:
            wanted = [(part, level_pct) for part in (parts or [antagonist])]
            scratch = stack.enter_context(prepared(directory, wanted, scale))
        if parts:
            noise._parts = tuple(
                stack.enter_context(running(part, level_pct, place, seconds, scratch=scratch, scale=scale)) for part in parts
            )
            noise._started_s = time.monotonic()
        stack.callback(noise.end)
        if not parts:
            noise._start(scratch, seconds)
            _let_begin(noise)
        yield noise


def _let_begin(noise: Noise) -> None:
    """Wait until it has consumed something: forks, layouts and page tables are not the antagonist yet. At most 2 s."""
    deadline = time.monotonic() + 2.0
    while time.monotonic() < deadline:
        noise._check_alive()
        if noise._read().cpu_s > 0.0 and noise.elapsed_s() > _SETTLE_S:
            return
        time.sleep(0.02)


def _find(id: str, rows: Sequence[Antagonist]) -> Antagonist:
    for row in rows:
        if row.id == id:
            return row
    raise UsageError(
        f"antagonist {id}: is not in the catalog", hint="Give running() all rows of the catalog for a combined one."
    )


def _has_ended(process: _LoadProcess) -> bool:
    """Whether it ended, without waiting for it: its zombie still shows what it consumed."""
    try:
        return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return True


def _ended_by(process: _LoadProcess) -> int:
    """The signal that ended it; 0 when it ended by itself or lives."""
    try:
        told = os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return 0
    return told.si_status if told is not None and told.si_code in (os.CLD_KILLED, os.CLD_DUMPED) else 0


def _wait_listening(port: int, server: _LoadProcess, log: Path) -> None:
    """Wait until the port is listened on, without connecting: iperf3 -1 would take the connection for its test."""
    deadline = time.monotonic() + _SERVER_S
    wanted = f":{port:04X}"
    while time.monotonic() < deadline:
        for table in ("/proc/net/tcp", "/proc/net/tcp6"):
            try:
                lines = Path(table).read_text().splitlines()[1:]
            except OSError:
                continue
            if any(fields[1].endswith(wanted) and fields[3] == "0A" for fields in map(str.split, lines)):
                return
        if _has_ended(server):
            break
        time.sleep(0.02)
    said = last_lines(log.read_text(errors="replace"), 2)
    raise CommandError(f"the antagonist's server does not listen on port {port}: {said}", status=None)
