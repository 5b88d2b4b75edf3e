"""What one program and all below it consumed; and how all of them are ended.

Each antagonist is started as the leader of a session. Below it process groups change (stress-ng, timeout) and sessions too
(fio's jobs), so a family is: who is in the session, and every child of a member. Times are those of proc_pid_stat(5): of a
process and of its children that it has waited for, so that nothing is counted twice while the parents live.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bedplate.host.kernel.groups import slice_path

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True, kw_only=True)
class FamilyUsage:
    """What the processes of an antagonist hold and have used, with the CPU time of children that ended."""

    cpu_s: float
    rss_bytes: int
    read_bytes: int
    """Through read() and its like, cached or not; sockets' recv() is not among them."""
    written_bytes: int
    alive: int


def read_family(session: int) -> FamilyUsage:
    """Sum over the living and the zombie processes of a session and below it; all zero when there are none."""
    cpu_ticks = rss = read = written = alive = 0
    for pid, fields in _members({session}).items():
        cpu_ticks += sum(int(field) for field in fields[11:15])  # utime stime cutime cstime
        rss += int(fields[21]) * _PAGE
        alive += fields[0] not in ("Z", "X")
        got, put = _read_io(pid)
        read, written = read + got, written + put
    return FamilyUsage(cpu_s=cpu_ticks / _TICKS, rss_bytes=rss, read_bytes=read, written_bytes=written, alive=alive)


def end_family(session: int, *, grace_s: float) -> None:
    """End every process of a family: SIGTERM, and SIGKILL after the grace; returns when only zombies are left.

    Sessions that its members made are remembered: a job whose parent died first has no other tie to the family.
    """
    sessions = {session}
    for signum, wait_s in ((signal.SIGTERM, grace_s), (signal.SIGKILL, 10.0)):
        deadline = time.monotonic() + wait_s
        while True:
            living = {pid: fields for pid, fields in _members(sessions).items() if fields[0] not in ("Z", "X")}
            if not living:
                return
            sessions |= {int(fields[3]) for fields in living.values()}
            for pid in living:
                _kill(pid, signum)
            if time.monotonic() > deadline:
                break
            time.sleep(0.05)


def end_cgroups(cgroups: Sequence[Path], *, grace_s: float = 5.0) -> None:
    """Kill what is left in control groups that were made for one antagonist: a scope of ours, never a shared directory."""
    deadline = time.monotonic() + grace_s
    while time.monotonic() < deadline:
        left = [pid for cgroup in cgroups for pid in _procs(cgroup)]
        if not left:
            return
        for pid in left:
            _kill(pid, signal.SIGKILL)
        time.sleep(0.05)


def read_cgroup_cpu_s(cgroup: Path) -> float | None:
    """CPU seconds of a control group since it was made; None when its controller does not say (v1 without cpuacct)."""
    try:
        for line in (cgroup / "cpu.stat").read_text().splitlines():
            if line.startswith("usage_usec "):
                return int(line.split()[1]) / 1e6
    except (OSError, ValueError, IndexError):
        pass
    try:
        return int((cgroup / "cpuacct.usage").read_text()) / 1e9
    except (OSError, ValueError):
        return None


def read_oom_kills(slice_name: str) -> int:
    """Processes of a slice that the kernel killed for the lack of memory since it was made (memory.events, cgroup-v2.rst);
    0 where nobody counts."""
    where = Path("/sys/fs/cgroup") / slice_path(slice_name).lstrip("/") if slice_name else None
    try:
        lines = (where / "memory.events").read_text().splitlines() if where is not None else []
    except OSError:
        return 0
    return sum(int(count) for name, count in (line.split() for line in lines) if name == "oom_kill")


def cgroup_of(pid: int) -> Path | None:
    """Directory of a process's cgroup v2; None when v2 is not mounted at /sys/fs/cgroup, or the process is gone."""
    try:
        text = Path(f"/proc/{pid}/cgroup").read_text()
    except OSError:
        return None
    for line in text.splitlines():
        if line.startswith("0::/") and Path("/sys/fs/cgroup/cgroup.controllers").exists():
            return Path("/sys/fs/cgroup") / line[4:]
    return None


def _members(sessions: set[int]) -> dict[int, list[str]]:
    """Fields of stat, from the third on, of each process of the sessions and of all below them."""
    everybody: dict[int, list[str]] = {}
    below: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):  # noqa: PTH208  (a thousand Path objects a second would be the sampler's own noise)
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", encoding="utf-8", errors="replace") as file:  # noqa: PTH123
                    fields = file.read().rpartition(")")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if len(fields) > 21:
                everybody[int(name)] = fields
                below.setdefault(int(fields[1]), []).append(int(name))
    members: dict[int, list[str]] = {}
    todo = [pid for pid, fields in everybody.items() if int(fields[3]) in sessions]
    while todo:
        pid = todo.pop()
        if pid not in members:
            members[pid] = everybody[pid]
            todo += below.get(pid, ())
    return members


def _read_io(pid: int) -> tuple[int, int]:
    try:
        lines = Path(f"/proc/{pid}/io").read_text().splitlines()
        return int(lines[0].split()[1]), int(lines[1].split()[1])  # rchar, wchar; waited-for children are in them
    except (OSError, IndexError, ValueError):
        return 0, 0


def _procs(cgroup: Path) -> list[int]:
    try:
        return [int(pid) for pid in (cgroup / "cgroup.procs").read_text().split()]
    except (OSError, ValueError):
        return []


def _kill(pid: int, signum: signal.Signals) -> None:
    try:
        os.kill(pid, signum)
    except ProcessLookupError:
        return
