"""Pools of huge pages, of the machine and of each node (Documentation/admin-guide/mm/hugetlbpage.rst)."""

from __future__ import annotations

import re

from bedplate.host.kernel.attributes import parse_int
from bedplate.host.root.root import Root
from bedplate.model.facts.cpu import HugePages

_POOL = re.compile(r"hugepages-(\d{1,12})kB", re.ASCII)


def read_huge_pages(root: Root, where: str) -> tuple[HugePages, ...]:
    """The pools of a directory, /sys/kernel/mm/hugepages or hugepages of a node, smallest pages first.

    A pool whose counts cannot be read is left out; () where the kernel has none.
    """
    pools: list[HugePages] = []
    for name in root.listdir(where):
        if (match := _POOL.fullmatch(name)) is None:
            continue
        total = parse_int(root.read(f"{where}/{name}/nr_hugepages").value or "")
        free = parse_int(root.read(f"{where}/{name}/free_hugepages").value or "")
        if total is not None and free is not None:
            pools.append(HugePages(size_bytes=int(match[1]) << 10, total=total, free=free))
    return tuple(sorted(pools, key=lambda pool: pool.size_bytes))
