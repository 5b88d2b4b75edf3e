"""Caches from /sys/devices/system/cpu/cpuN/cache (Documentation/ABI/testing/sysfs-devices-system-cpu)."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

from bedplate.host.kernel.attributes import parse_int, read_cpu_list, read_cpu_mask
from bedplate.host.root.root import Root
from bedplate.model.facts.cpu import Cache
from bedplate.model.units import parse_size

_INDEX = re.compile(r"index\d{1,2}", re.ASCII)
_SIZE = re.compile(r"(\d{1,9})([KM]?)", re.ASCII)


def read_caches(root: Root, cpus: Iterable[int], siblings: dict[int, tuple[int, ...]]) -> tuple[Cache, ...]:
    """Caches by level, kind and first CPU. size_bytes is 0 where the kernel says none (device trees may leave it out).

    A CPU of which all caches are known already is not read: of two SMT siblings only the first is.
    """
    found: dict[tuple[int, str, tuple[int, ...]], Cache] = {}
    known: dict[int, int] = {}  # caches that are known of a CPU
    sharers: dict[int, tuple[tuple[int, ...], tuple[int, ...]]] = {}
    for cpu in cpus:
        where = f"/sys/devices/system/cpu/cpu{cpu}/cache"
        first = min(siblings.get(cpu, (cpu,)), default=cpu)
        if first != cpu and first in known and known.get(cpu) == known[first]:
            continue
        for name in root.listdir(where):
            cache = _read_cache(root, f"{where}/{name}", cpu, siblings, sharers) if _INDEX.fullmatch(name) else None
            if cache is None:
                continue
            key = (cache.level, cache.kind, cache.cpus)
            if key not in found:
                found[key] = cache
                for sharer in cache.cpus:
                    known[sharer] = known.get(sharer, 0) + 1
    return tuple(found[key] for key in sorted(found))


def _read_cache(
    root: Root, where: str, cpu: int, online: Collection[int], sharers: dict[int, tuple[tuple[int, ...], tuple[int, ...]]]
) -> Cache | None:
    """sharers keeps (CPUs of a list, those that are online) by the list itself, which many caches have in common."""
    level = parse_int(root.read(f"{where}/level").value or "")
    kind = root.read(f"{where}/type").value
    if level is None or not kind:
        return None
    # The mask first: in kernels of 2010 the list forgot sharers (an Opteron 6276 says "0" beside the mask 3).
    cpus = read_cpu_mask(root, f"{where}/shared_cpu_map") or read_cpu_list(root, f"{where}/shared_cpu_list")
    size = _SIZE.fullmatch(root.read(f"{where}/size").value or "")
    return Cache(
        level=level,
        kind=kind,
        size_bytes=parse_size(size[0]) if size else 0,
        cpus=_online(cpus or (), online, sharers) or (cpu,),
    )


def _online(
    cpus: tuple[int, ...], online: Collection[int], sharers: dict[int, tuple[tuple[int, ...], tuple[int, ...]]]
) -> tuple[int, ...]:
    row = sharers.get(id(cpus))
    if row is None:
        row = sharers[id(cpus)] = (cpus, tuple(cpu for cpu in cpus if cpu in online))
    return row[1]
