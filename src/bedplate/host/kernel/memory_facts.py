"""Memory of the whole machine: meminfo, huge pages, swap, and what /dev/shm may take (proc_meminfo(5), tmpfs(5))."""

from __future__ import annotations

import re
from collections.abc import Sequence

from bedplate.errors import ReadError
from bedplate.host.kernel.huge_pages import read_huge_pages
from bedplate.host.kernel.kernel import read_choice
from bedplate.host.kernel.memory import parse_meminfo
from bedplate.host.root.root import Root
from bedplate.model.facts.reading import Reading, Unknown, known, missing
from bedplate.model.facts.system import MemoryFacts, Mount
from bedplate.model.units import parse_size

_HUGE_PAGES = "/sys/kernel/mm/hugepages"


def read_memory_facts(root: Root, mounts: Sequence[Mount]) -> MemoryFacts:
    """Raises ReadError when /proc/meminfo is not there: without it nothing can be said of memory."""
    text = root.read("/proc/meminfo")
    values = parse_meminfo(text.value or "")
    total = values.get("MemTotal")
    if total is None:
        raise ReadError(f"/proc/meminfo: MemTotal is missing ({text.unknown or Unknown.MALFORMED})", hint="Mount /proc.")
    return MemoryFacts(
        total_bytes=total,
        available_bytes=values.get("MemAvailable", values.get("MemFree", 0)),
        swap_total_bytes=values.get("SwapTotal", 0),
        swap_free_bytes=values.get("SwapFree", 0),
        thp=read_choice(root, "/sys/kernel/mm/transparent_hugepage/enabled"),
        thp_defrag=read_choice(root, "/sys/kernel/mm/transparent_hugepage/defrag"),
        zswap=_read_flag(root, "/sys/module/zswap/parameters/enabled"),
        zram=any(line.startswith("/dev/zram") for line in (root.read("/proc/swaps").value or "").splitlines()),
        huge_pages=tuple((pool.size_bytes, pool.total, pool.free) for pool in read_huge_pages(root, _HUGE_PAGES)),
        shm_bytes=read_shm(mounts, total),
    )


def read_shm(mounts: Sequence[Mount], total_bytes: int) -> Reading[int]:
    """Size of the tmpfs on /dev/shm by its options; half of the memory where they name none, as tmpfs has it."""
    mount = next((mount for mount in mounts if mount.point == "/dev/shm"), None)
    if mount is None:
        return missing(Unknown.ABSENT, "/dev/shm")
    if mount.kind != "tmpfs":
        return missing(Unknown.HIDDEN, "/dev/shm", f"is a {mount.kind}")
    size = next((option.removeprefix("size=") for option in mount.options if option.startswith("size=")), None)
    if size is None:
        return known(total_bytes // 2, "/dev/shm", "no size=: half of the memory")
    found = re.fullmatch(r"([0-9]{1,18})([kmgt%]?)", size.lower())
    if found is None:
        return missing(Unknown.MALFORMED, "/dev/shm", size[:80])
    size_bytes = total_bytes * int(found[1]) // 100 if found[2] == "%" else parse_size(size)
    return known(size_bytes, "/dev/shm", f"size={size}")


def _read_flag(root: Root, where: str) -> Reading[bool]:
    reading = root.read(where)
    if reading.value is None:
        return missing(reading.unknown or Unknown.ABSENT, where, reading.text)
    if reading.value not in ("Y", "N", "1", "0"):
        return missing(Unknown.MALFORMED, where, reading.text)
    return known(reading.value in ("Y", "1"), where, reading.value)
