"""Limits of a process (proc_pid_limits(5)) and the pressure of the machine (Documentation/accounting/psi.rst)."""

from __future__ import annotations

import re

from bedplate.host.root.root import Root
from bedplate.model.facts.system import Pressure

# What the kernel calls a limit, and what getrlimit(2) and limits.conf(5) call it.
_NAMES = {
    "Max open files": "nofile",
    "Max locked memory": "memlock",
    "Max processes": "nproc",
    "Max stack size": "stack",
    "Max address space": "as",
    "Max core file size": "core",
    "Max realtime priority": "rtprio",
    "Max nice priority": "nice",
}


def read_limits(root: Root, pid: str = "self") -> tuple[tuple[str, int | None], ...]:
    """(name, soft limit), sorted; None is unlimited; () when they cannot be read (another user's process)."""
    return parse_limits(root.read(f"/proc/{pid}/limits").value or "")


def parse_limits(text: str) -> tuple[tuple[str, int | None], ...]:
    """ "Max open files   1024   524288   files" -> ("nofile", 1024): soft limits, sorted by name; None is unlimited."""
    found: list[tuple[str, int | None]] = []
    for line in text.splitlines():
        name = _NAMES.get(line[:26].rstrip())
        soft = line[26:].split(None, 1)[0] if name is not None and line[26:].strip() else ""
        if name is not None and re.fullmatch(r"unlimited|[0-9]{1,20}", soft):
            found.append((name, None if soft == "unlimited" else int(soft)))
    return tuple(sorted(found))


def read_pressure(root: Root) -> tuple[Pressure, ...]:
    """One row a resource that the kernel tells of; () without PSI or with psi=0."""
    rows = (parse_pressure(name, root.read(f"/proc/pressure/{name}").value or "") for name in ("cpu", "memory", "io", "irq"))
    return tuple(row for row in rows if row is not None)


def parse_pressure(resource: str, text: str) -> Pressure | None:
    """ "some avg10=0.00 avg60=1.50 avg300=0.31 total=7" -> some_avg60 1.5; None for a text without such a line.

    irq has a full line only: some is 0 there.
    """
    shares: dict[str, float] = {}
    for line in text.splitlines():
        found = re.match(r"(some|full) .*?\bavg60=([0-9]{1,3}(?:\.[0-9]{1,4})?)(?:\s|$)", line)
        if found is not None:
            shares[found[1]] = float(found[2])
    if not shares:
        return None
    return Pressure(resource=resource, some_avg60=shares.get("some", 0.0), full_avg60=shares.get("full"))
