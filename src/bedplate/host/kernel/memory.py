"""How much memory there is: /proc/meminfo (proc_meminfo(5)) and what the engines' cgroup holds."""

from __future__ import annotations

from bedplate.errors import ReadError
from bedplate.host.kernel.attributes import parse_int
from bedplate.host.root.root import Root
from bedplate.model.serving_host import MemoryBudget


def read_memory(root: Root, *, engines_cgroup: str = "inference.slice") -> MemoryBudget:
    """Total and available memory; raises ReadError when /proc/meminfo lacks either (MemAvailable: since Linux 3.14)."""
    text = root.read_text("/proc/meminfo")
    if text is None:
        raise ReadError("/proc/meminfo: does not exist", hint="Mount /proc.")
    values = parse_meminfo(text)
    missing = [key for key in ("MemTotal", "MemAvailable") if key not in values]
    if missing:
        raise ReadError(f"/proc/meminfo: lacks {' and '.join(missing)}")
    held = root.read_text(f"/sys/fs/cgroup/{engines_cgroup}/memory.current")
    return MemoryBudget(
        total_bytes=values["MemTotal"],
        available_bytes=values["MemAvailable"],
        engines_bytes=parse_int(held or "") or 0,
    )


def parse_meminfo(text: str) -> dict[str, int]:
    """Bytes by name: "MemTotal:  24684060 kB" -> {"MemTotal": 25276477440}; a line without kB is a count.

    A line whose number is none, or has more digits than 64 bits, is left out.
    """
    values: dict[str, int] = {}
    for line in text.splitlines():
        name, _, rest = line.partition(":")
        words = rest.split()
        count = parse_int(words[0]) if words else None
        if count is not None and count >= 0:
            values[name] = count * (1024 if words[1:] == ["kB"] else 1)
    return values
