"""How much memory there is: /proc/meminfo (proc_meminfo(5)) and what the engines' cgroup holds."""

from __future__ import annotations

from bedplate.errors import ReadError
from bedplate.host.root import Root
from bedplate.model.host import MemoryFacts


def read_memory(root: Root, *, engines_cgroup: str = "inference.slice") -> MemoryFacts:
    """Total and available memory; raises ReadError when /proc/meminfo lacks either (MemAvailable: since Linux 3.14)."""
    text = root.read_text("/proc/meminfo")
    if text is None:
        raise ReadError("/proc/meminfo: is not there", hint="Mount /proc.")
    values = parse_meminfo(text)
    missing = [key for key in ("MemTotal", "MemAvailable") if key not in values]
    if missing:
        raise ReadError(f"/proc/meminfo: lacks {' and '.join(missing)}")
    held = root.read_text(f"/sys/fs/cgroup/{engines_cgroup}/memory.current")
    return MemoryFacts(
        total_bytes=values["MemTotal"],
        available_bytes=values["MemAvailable"],
        engines_bytes=int(held) if held is not None else 0,
    )


def parse_meminfo(text: str) -> dict[str, int]:
    """Bytes by name: "MemTotal:  24684060 kB" -> {"MemTotal": 25276477440}; a line without kB is a count."""
    values: dict[str, int] = {}
    for line in text.splitlines():
        name, _, rest = line.partition(":")
        words = rest.split()
        if words and words[0].isdigit():
            values[name] = int(words[0]) * (1024 if words[1:] == ["kB"] else 1)
    return values
