"""A row of catalog/antagonists.toml and a level become the words of a program. Pure.

100 % of the CPUs is one busy thread a CPU; of the memory, all that is available when the antagonist starts. A level below
what one worker takes is a share of that worker where the program can do so ({load}), and one whole worker where it cannot.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from bedplate.model.proof import Antagonist

PLACEHOLDER = re.compile(r"\{([a-z_0-9]+)\}")
_LEAST_BYTES = 16 << 20  # stress-ng refuses less than a few pages a worker; below this nothing is pressed anyway
_DEPTH = 64  # requests in flight of each job at 100 %, as in the published block I/O antagonists
_READ_MBS, _WRITE_MBS = 8000, 2000  # memory traffic of each worker at 100 %


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """What 100 % is on this machine: the CPUs, memory and cache that an antagonist can take."""

    cpus: int
    """That the antagonist may use."""
    memory_bytes: int
    """In all; a limit that is below it where one binds engine and neighbour together."""
    available_bytes: int
    """Of it, what is available without swapping, the page cache among it."""
    llc_bytes: int
    """Of one last-level cache; 0 when the kernel does not say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """Files and ports that were prepared for one run; "" and 0 where a row needs none."""

    file: str = ""
    """Exists, with the scratch file's size."""
    out: str = ""
    """May be created and written up to the same size."""
    files: str = ""
    """The directory that holds the file."""
    file_bytes: int = 0
    tree: str = ""
    port: int = 0


def workers_of(antagonist: Antagonist, level_pct: int, scale: Scale) -> int:
    """Threads or processes at a level: a part of one is rounded up, and one is the least."""
    return max(1, math.ceil(scale.cpus * antagonist.workers_per_cpu * level_pct / 100))


def busy_cpus(antagonist: Antagonist, level_pct: int, scale: Scale) -> float:
    """CPUs that it would keep busy alone: at most all of them."""
    return min(float(scale.cpus), scale.cpus * antagonist.workers_per_cpu * level_pct / 100)


def wanted_bytes(level_pct: int, scale: Scale) -> int:
    """Bytes of memory that a level asks for: its share of what is available, and 16 MiB at the least."""
    return max(_LEAST_BYTES, scale.available_bytes * level_pct // 100)


def file_bytes_of(antagonist: Antagonist, level_pct: int, scale: Scale) -> int:
    """The scratch file that a level needs, 0 for none."""
    by_memory = scale.memory_bytes * antagonist.file_memory_pct // 100 * level_pct // 100
    return -(-max(antagonist.file_bytes, by_memory) // (1 << 20)) << 20


def fill(antagonist: Antagonist, level_pct: int, seconds: float, scale: Scale, ground: Ground) -> tuple[str, ...]:
    """Program and words. `{workers}` of a row at 200 % on two CPUs is "4". Raises KeyError for a word that nobody knows."""
    return tuple(_fill(word, _values(antagonist, level_pct, seconds, scale, ground)) for word in _words(antagonist))


def fill_server(antagonist: Antagonist, level_pct: int, seconds: float, scale: Scale, ground: Ground) -> tuple[str, ...]:
    """The server's program and words, () for a row without one."""
    return tuple(_fill(word, _values(antagonist, level_pct, seconds, scale, ground)) for word in antagonist.server)


def _words(antagonist: Antagonist) -> tuple[str, ...]:
    return (antagonist.program, *antagonist.argv)


def _fill(word: str, values: dict[str, str]) -> str:
    return PLACEHOLDER.sub(lambda found: values[found[1]], word)


def _values(antagonist: Antagonist, level_pct: int, seconds: float, scale: Scale, ground: Ground) -> dict[str, str]:
    workers = workers_of(antagonist, level_pct, scale)
    exact = scale.cpus * antagonist.workers_per_cpu * level_pct / 100
    wanted = wanted_bytes(level_pct, scale)
    llc = scale.llc_bytes or 32 << 20
    return {
        "seconds": f"{max(1, math.ceil(seconds))}",
        "cpus": str(scale.cpus),
        "workers": str(workers),
        "load": str(min(100, max(1, round(100 * exact / workers)))),
        "level": str(level_pct),
        "bytes": str(wanted),
        "depth": str(max(1, round(_DEPTH * level_pct / 100))),
        "read_mbs": str(max(1, round(_READ_MBS * exact / workers))),
        "write_mbs": str(max(1, round(_WRITE_MBS * exact / workers))),
        "llc_bytes": str(llc),
        "file": ground.file,
        "out": ground.out,
        "files": str(ground.files),
        "file_bytes": str(ground.file_bytes),
        "tree": ground.tree,
        "port": str(ground.port),
    }
