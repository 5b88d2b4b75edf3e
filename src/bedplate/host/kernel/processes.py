"""The processes that run: names and command lines, read once for everybody who looks for one (proc_pid_cmdline(5))."""

from __future__ import annotations

from dataclasses import dataclass

from bedplate.host.kernel.attributes import parse_int
from bedplate.host.root.root import Root

PROCESSES_LIMIT = 65_536  # a server runs some thousands; more in a recording is an attack
_ARGV_LIMIT = 65_536  # bytes; engines with all their options take some 2 KB
_COMM_LIMIT = 64  # bytes; TASK_COMM_LEN is 16, workqueues say up to 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """One process when /proc was listed; `comm` is "" where only its command line could be read."""

    pid: int
    comm: str
    """At most 15 characters."""
    argv: tuple[str, ...]
    """() for a thread of the kernel."""


def read_processes(root: Root) -> tuple[Process, ...]:
    """Processes by number; () when /proc cannot be listed. Those that hidepid= hides are not in it."""
    pids = sorted(int(name) for name in root.listdir("/proc") if name.isascii() and name.isdigit() and len(name) <= 9)
    found: list[Process] = []
    for pid in pids[:PROCESSES_LIMIT]:
        raw = root.read_bytes(f"/proc/{pid}/cmdline", _ARGV_LIMIT).value
        argv = parse_argv(raw) if raw else ()
        comm = root.read(f"/proc/{pid}/comm", limit=_COMM_LIMIT).value
        if argv or comm is not None:
            found.append(Process(pid=pid, comm=comm or "", argv=argv))
    return tuple(found)


def parse_argv(raw: bytes) -> tuple[str, ...]:
    """Arguments of a cmdline file: b"vllm\\0serve\\0" -> ("vllm", "serve").

    A program that writes its title over them (setproctitle) leaves one text with blanks and many NUL bytes.
    """
    words = raw.decode("utf-8", errors="backslashreplace").rstrip("\0\n").split("\0")
    return tuple(words) if words != [""] else ()


def parse_schedstat(text: str | None) -> tuple[int, int]:
    """Nanoseconds that a thread ran and waited: "153 20 4" -> (153, 20); a thread that is gone has (0, 0)."""
    fields = (text or "").split()
    ran, waited = (parse_int(field) for field in fields[:2]) if len(fields) >= 2 else (None, None)
    return (0, 0) if ran is None or waited is None else (ran, waited)
