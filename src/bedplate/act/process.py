"""Processes that outlive the command that started them: known by id and start time, so that a reused id is never touched."""

from __future__ import annotations

import os
import select
import signal
from dataclasses import dataclass
from pathlib import Path

_KILL_GRACE_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessIdentity:
    """One process, told from a later one that gets its number: by its start time, and by the boot of the host."""

    pid: int
    start_ticks: int
    """Clock ticks from the boot of the host to the start of the process: field 22 of /proc/PID/stat, proc_pid_stat(5)."""
    boot_id: str


def read_process(pid: int) -> ProcessIdentity | None:
    """The process that has this id now; None when there is none, or only a zombie waits for its parent."""
    try:
        # The second field is a name in parentheses that may hold anything; fields are counted after its end.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except (FileNotFoundError, ProcessLookupError):
        return None
    if fields[0] in ("Z", "X"):
        return None
    return ProcessIdentity(pid=pid, start_ticks=int(fields[19]), boot_id=boot_id)


def is_alive(process: ProcessIdentity) -> bool:
    """Whether this very process still runs; a zombie, and another process that has its number by now, count as gone."""
    return read_process(process.pid) == process


def end_process(process: ProcessIdentity, *, grace_s: float) -> None:
    """Make it end: SIGTERM, and SIGKILL after grace_s; returns when it is gone. Does nothing when it is gone already."""
    try:
        descriptor = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return
    try:
        if not is_alive(process):  # asked after the descriptor holds it: from here the id cannot be reused under us
            return
        for signum, wait_s in ((signal.SIGTERM, grace_s), (signal.SIGKILL, _KILL_GRACE_S)):
            try:
                signal.pidfd_send_signal(descriptor, signum)
            except ProcessLookupError:
                return
            if _wait_end(descriptor, wait_s):
                return
    finally:
        os.close(descriptor)


def wait_end(process: ProcessIdentity, *, timeout_s: float) -> bool:
    """Whether it ended within timeout_s seconds; True when it was gone before.

    It need not be a child of ours, and is not reaped.
    """
    try:
        descriptor = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return True
    try:
        return not is_alive(process) or _wait_end(descriptor, timeout_s)
    finally:
        os.close(descriptor)


def _wait_end(descriptor: int, timeout_s: float) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(timeout_s * 1000))
