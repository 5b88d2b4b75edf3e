"""Lists of CPUs and of NUMA nodes: one form in every fact, and in the JSON that shows it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated


@dataclass(frozen=True, slots=True, kw_only=True)
class NumberList:
    """What the numbers of such a list are; the JSON Schema of the facts has a definition of this name."""

    name: str
    meaning: str


CpuList = Annotated[
    tuple[int, ...],
    NumberList(name="CpuList", meaning="CPU numbers, ascending, each once: the kernel's 0-2,8 is [0, 1, 2, 8]."),
]
NodeList = Annotated[
    tuple[int, ...],
    NumberList(name="NodeList", meaning="NUMA node numbers, ascending, each once: the kernel's 0-1 is [0, 1]."),
]
