"""NUMA nodes from `numactl -H` (--hardware): CPUs, memory in MiB (printed as MB) and distances."""

from __future__ import annotations

import re
from dataclasses import replace

from bedplate.errors import ReadError
from bedplate.host.formats.section import Section
from bedplate.host.formats.unrecorded import empty_facts
from bedplate.host.root.cpu_lists import CPU_LIMIT
from bedplate.model.facts.cpu import NumaNode, NumaTopology
from bedplate.model.facts.host import HostFacts

SOURCE = "numactl -H"
BEGINS = re.compile(r"(?:available: \d{1,4} nodes? \(|node \d{1,4} (?:cpus|size|free):|node distances:)")
CONTINUES = re.compile(
    r"(?:available: |node \d{1,4} (?:cpus|size|free):|node distances:"
    r"|node(?: {1,4}\d{1,4}){1,1024}\s{0,4}$|\s{1,4}\d{1,4}:\s)"
)
_LINE = re.compile(r"node (\d{1,4}) (cpus|size|free):(.*)", re.ASCII)
_ROW = re.compile(r"\s{0,4}(\d{1,4}):((?:\s{1,4}\d{1,4}){1,1024})\s{0,4}", re.ASCII)
_SIZE = re.compile(r"\s{0,4}(\d{1,9}) MB", re.ASCII)
_MIB = 1 << 20
_NODES_MOST = 1024


def parse_numactl(section: Section) -> HostFacts:
    """Nodes by number; memory.total_bytes is their sum where each says its size. Raises ReadError without a node."""
    cpus: dict[int, tuple[int, ...]] = {}
    sizes: dict[str, dict[int, int]] = {"size": {}, "free": {}}
    rows: dict[int, tuple[int, ...]] = {}
    for line in section.text.split("\n"):
        if (match := _LINE.match(line)) is not None and len(cpus) <= _NODES_MOST:
            node, key, rest = int(match[1]), match[2], match[3]
            if key == "cpus":
                cpus[node] = _cpus(rest)
            elif (size := _SIZE.match(rest)) is not None:
                sizes[key][node] = int(size[1]) * _MIB
        elif (row := _ROW.fullmatch(line)) is not None:
            rows[int(row[1])] = tuple(map(int, row[2].split()))
    numbers = sorted({*cpus, *sizes["size"]})
    if not numbers:
        raise ReadError("the text of numactl -H has no node")
    nodes = tuple(
        NumaNode(
            node=node,
            cpus=cpus.get(node, ()),
            mem_bytes=sizes["size"].get(node),
            free_bytes=sizes["free"].get(node),
            distances=rows.get(node, ()),
            huge_pages=(),
        )
        for node in numbers
    )
    facts = empty_facts(section.file)
    whole = len(sizes["size"]) == len(nodes)
    memory = replace(facts.memory, total_bytes=sum(sizes["size"].values())) if whole else facts.memory
    return replace(facts, numa=NumaTopology(nodes=nodes, source=SOURCE), memory=memory)


def _cpus(text: str) -> tuple[int, ...]:
    """CPU numbers in their order, each once; words that are none are left out."""
    words = (word for word in text.split()[:CPU_LIMIT] if len(word) < 6 and word.isdecimal())
    return tuple(sorted({number for number in map(int, words) if number < CPU_LIMIT}))
