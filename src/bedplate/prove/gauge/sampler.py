"""Who used the CPUs in an interval: the victim and its client, the neighbours, nobody, and those who have no business here.

/proc/stat says how busy the machine was, /proc/PID/stat who it was (proc(5)). Kernel threads and interrupts work for
somebody, mostly for the neighbour, and are nobody's own; what is left is foreign, and so is what the hypervisor took
(steal). The kernel counts the machine's time by ticks, hence a small part of the difference is not believed.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bedplate.host.kernel.processes import parse_schedstat
from bedplate.host.root.root import Root

MOST_FOREIGN = 0.05
_NOT_BELIEVED = 0.02  # of the machine: sampled at ticks: 1000 in 2 s on 2 CPUs, some 1.5 % standard error
_KERNEL_THREAD = 0x00200000  # PF_KTHREAD, include/linux/sched.h
_TICK_S = 1 / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessTimes:
    """One process in proc_pid_stat(5): CPU seconds since it started, and who is above it.

    `pid` and `started` (ticks since boot) together are one process; `kernel` marks threads of the kernel.
    """

    pid: int
    parent: int
    session: int
    kernel: bool
    started: int
    cpu_s: float
    children_s: float
    """Of children that ended and were waited for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """Counters of one moment, in seconds since boot or since a process started; two of them make a CpuUsage."""

    at_s: float
    busy_s: float
    """Of all CPUs: user, nice, system."""
    interrupt_s: float
    idle_s: float
    steal_s: float
    processes: tuple[ProcessTimes, ...]
    waited_s: float
    """Run-queue delay of the victim's threads."""
    run_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CpuUsage:
    """Who had the CPUs between two snapshots. `foreign_share` is of all CPU time; `cpus` is how many the counters saw."""

    duration_s: float
    cpus: float
    idle_s: float
    own_s: float
    """Victim, client and neighbours."""
    foreign_s: float
    foreign_share: float
    victim_delay: float
    """Share of the time that the victim's threads wanted to run and could not."""


def take_snapshot(root: Root, victim: Sequence[int] = ()) -> Snapshot:
    """Counters of now; some milliseconds on a host of a thousand processes."""
    stat = root.read("/proc/stat").value or ""
    user, nice, system, idle, iowait, irq, softirq, steal = parse_cpu_line(stat)
    processes: list[ProcessTimes] = []
    for name in root.listdir("/proc"):
        if name.isdigit():
            found = parse_process(root.read(f"/proc/{name}/stat", limit=4096).value or "")
            if found is not None:
                processes.append(found)
    run_s, waited_s = _delays(root, victim)
    return Snapshot(
        at_s=time.monotonic(),
        busy_s=user + nice + system,
        interrupt_s=irq + softirq,
        idle_s=idle + iowait,
        steal_s=steal,
        processes=tuple(processes),
        waited_s=waited_s,
        run_s=run_s,
    )


def usage_between(before: Snapshot, after: Snapshot, *, own: Iterable[int]) -> CpuUsage:
    """What happened from one to the other; `own` are process ids whose descendants and sessions are ours too."""
    roots = set(own)
    earlier = {(process.pid, process.started): process for process in before.processes}
    ours = _below(after.processes, roots) | _below(before.processes, roots)
    own_s = kernel_s = others_s = 0.0
    for process in after.processes:
        past = earlier.pop((process.pid, process.started), None)
        used = process.cpu_s - (past.cpu_s if past is not None else 0.0)
        if process.kernel:
            kernel_s += used
        elif process.pid in ours:  # storms of forks are seen in what their parents waited for
            own_s += used + process.children_s - (past.children_s if past is not None else 0.0)
        else:  # a shell that waits for a long build gets all of its time at once: that is no load of now
            others_s += used
    # A process that has ended is in its parent's account now.
    own_s -= sum(process.cpu_s + process.children_s for process in earlier.values() if process.pid in ours)
    steal_s = after.steal_s - before.steal_s
    interrupts_s = after.interrupt_s - before.interrupt_s
    idle_s = after.idle_s - before.idle_s
    total = max(_TICK_S, after.busy_s - before.busy_s + interrupts_s + idle_s + steal_s)
    unexplained = after.busy_s - before.busy_s - max(0.0, own_s) - kernel_s - _NOT_BELIEVED * total
    foreign_s = max(0.0, others_s, unexplained) + steal_s
    duration_s = after.at_s - before.at_s
    ran, waited = after.run_s - before.run_s, after.waited_s - before.waited_s
    return CpuUsage(
        duration_s=duration_s,
        cpus=total / duration_s if duration_s > 0 else 0.0,
        idle_s=max(0.0, idle_s),
        own_s=max(0.0, own_s),
        foreign_s=foreign_s,
        foreign_share=foreign_s / total,
        victim_delay=waited / (ran + waited) if ran + waited > 0 else 0.0,
    )


def parse_cpu_line(stat: str) -> tuple[float, ...]:
    """Seconds of user, nice, system, idle, iowait, irq, softirq, steal of the first line of /proc/stat; zeros without one.

    guest and guest_nice are left out: the kernel counts them in user and nice as well.
    """
    fields = stat.partition("\n")[0].split()
    if not fields or fields[0] != "cpu":
        return (0.0,) * 8
    numbers = [int(field) * _TICK_S for field in fields[1:9] if field.isdigit()]
    return tuple(numbers + [0.0] * (8 - len(numbers)))


def parse_process(text: str) -> ProcessTimes | None:
    """One /proc/PID/stat; None for a process that is gone. The name in parentheses may hold anything."""
    head, _, rest = text.rpartition(")")
    fields = rest.split()
    if len(fields) < 20 or not head.partition(" ")[0].isdigit():
        return None
    return ProcessTimes(
        pid=int(head.partition(" ")[0]),
        parent=int(fields[1]),
        session=int(fields[3]),
        kernel=bool(int(fields[6]) & _KERNEL_THREAD),
        started=int(fields[19]),
        cpu_s=(int(fields[11]) + int(fields[12])) * _TICK_S,
        children_s=(int(fields[13]) + int(fields[14])) * _TICK_S,
    )


def _below(processes: Sequence[ProcessTimes], roots: set[int]) -> set[int]:
    """The roots, all below them, and who is left of the sessions that these made: orphans keep their session."""
    children: dict[int, list[ProcessTimes]] = {}
    for process in processes:
        children.setdefault(process.parent, []).append(process)
    theirs = {process.session for process in processes if process.pid in roots}
    ours, open_ends, sessions = set(roots), list(roots), set[int]()
    while open_ends:
        for child in children.get(open_ends.pop(), ()):
            if child.pid not in ours:
                ours.add(child.pid)
                open_ends.append(child.pid)
                sessions.add(child.session)
    return ours | {process.pid for process in processes if process.session in sessions - theirs and process.session > 0}


def _delays(root: Root, pids: Sequence[int]) -> tuple[float, float]:
    ran = waited = 0
    for pid in pids:
        for task in root.listdir(f"/proc/{pid}/task"):
            run_ns, wait_ns = parse_schedstat(root.read(f"/proc/{pid}/task/{task}/schedstat").value)
            ran, waited = ran + run_ns, waited + wait_ns
    return ran / 1e9, waited / 1e9
