"""What was measured of a change on this host, and what follows: samples of steady load, effects with intervals, a verdict.

isol-01 and lat-imp are defined as in resctl-bench: isol% is the share of the target rate that was reached in each second,
isol-01 its first percentile; lat-imp is (latency - base) / base.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One steady interval: the victim's work, what each piece was late, the neighbour's work, and what could spoil it."""

    arm: str
    """"without" and "with" for an A/B; the name of a competitor in a table ("stock", "nice -10")."""
    antagonist: str
    """Id of the row in catalog/antagonists.toml; "" when quiet."""
    level_pct: int
    """Of the resource, 0 when quiet: 100 is one busy thread a CPU, or all of the free memory."""
    round: int
    started_s: float
    """Since the beginning of the experiment."""
    duration_s: float
    work: float
    """What the victim did in all: tokens, end to end with TTFT in it, or fed steps of the dispatch loop."""
    seconds: tuple[float, ...]
    """Work of each whole second; isol-01 comes from it."""
    gaps_s: tuple[float, ...]
    """ITL: times between tokens of one stream, or between steps fed by the dispatch loop; () where tokens came in bursts."""
    ttft_s: tuple[float, ...]
    e2e_s: tuple[float, ...]
    """Of each request, () for the dispatch loop."""
    requests: int
    failed: int
    late_s: float
    """How late the load client itself sent, 99th percentile; a late client cannot judge."""
    neighbour_work: float
    """Bogo operations, bytes or transactions of the antagonist itself in the interval; 0 when quiet."""
    neighbour_cpu_s: float
    """CPU seconds that the antagonist's processes consumed."""
    idle_cpu_s: float
    """CPU seconds of the machine that nobody used: what was truly left over."""
    foreign_share: float
    """Share of the machine's CPU time of processes that are neither victim, nor client, nor antagonist."""
    rejected: str = ""
    """Why it does not count; "" when it does."""
    good: int = 0
    """Requests that met every SLO."""
    victim_delay: float = 0.0
    """Share of the time that the victim's threads wanted a CPU and had none: by what mechanism it was slow."""


class Judgement(StrEnum):
    """The verdict of an experiment on a change. Only KEEP leaves the change in force."""

    KEEP = "keep"
    """The primary metric gains for certain and no guard metric loses more than its margin."""
    NO_EFFECT = "no effect"
    """Nothing of at least 2 % was shown: it is taken back."""
    REVERT = "revert"
    """It harms: it is taken back."""
    REFUSED = "refused"
    """The conditions did not allow to judge; it is taken back, and nothing is claimed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """One metric with the change against without it, over pairs of blocks, and how sure the difference is."""

    metric: str
    """"rate", "itl_p99", "ttft_p99", "isol01", "goodput", "neighbour_work"."""
    unit: str
    higher_is_better: bool
    without: float
    """Median over the blocks."""
    with_: float
    ratio: float
    """Geometric mean over the pairs of with / without."""
    low: float
    high: float
    """95 % bootstrap interval of the ratio."""
    p: float
    """Paired sign-flip permutation test, two-sided, before Holm's correction."""
    pairs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """What a proof is valid for. bedplate.plan.proofs says when it expires."""

    kernel: str
    """Release, as uname says it."""
    driver: str
    """Of the accelerators: "nvidia 570.86.15"; "" without one."""
    engine: str
    """What the victim says of itself; "" when it is not known."""
    machine: str
    """CPU model, CPUs, memory: "AMD EPYC 9334 32-Core Processor, 64 CPUs, 755 GiB"."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """The record of one experiment. It expires when kernel, driver, engine or machine change."""

    subject: str
    """Setting or plan: "vm.stat_interval=10", "plan 3f2a..."."""
    judgement: Judgement
    because: str
    effects: tuple[Effect, ...]
    """The primary metric first, then the guards."""
    antagonists: tuple[str, ...]
    victim: str
    """"dispatch-loop" or the engine and its model."""
    kernel: str
    driver: str
    engine: str
    machine: str
    """CPU model, CPUs, memory: what it is valid for."""
    made: str
    """UTC, ISO 8601."""
    seed: int
    command: str
    """Makes it again."""
    samples: tuple[Sample, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Antagonist:
    """A row of catalog/antagonists.toml: a neighbour that takes one resource, bounded in time."""

    id: str
    kind: str
    """cpu, memory, bandwidth, io, pagecache, network, combined."""
    name: str
    real: bool
    """A real program (a compile, a backup), not a synthetic load."""
    program: str
    """"stress-ng", "fio", "python3", ...: looked up on PATH; "" for a row that is made of others."""
    package: str
    """Debian packages that have all it needs, separated by spaces."""
    argv: tuple[str, ...]
    """What follows the program; words such as {workers}, {bytes}, {seconds} are filled in (antagonists/fill.py)."""
    work: str
    """How its own work is counted: "stress-ng" (bogo operations), "fio" and "iperf3" (bytes), "stdout" (a number a line),
    "read" and "written" (bytes through the system calls of its processes), "cpu" (CPU seconds), "parts"."""
    levels_pct: tuple[int, ...]
    """The ladder, which begins with 0: quiet."""
    full: str
    """What 100 % is."""
    problem: str
    sources: tuple[str, ...]
    takes: str = "work"
    """What it must be seen to have consumed where nobody confines it: "cpu" (a quarter of what it asks for), "memory" (half
    of what it asks for), "cache" (its file is in the page cache), "work" (its own count alone)."""
    may_be_killed: bool = False
    """It takes memory until the kernel ends it: that it was killed for the lack of memory is no failure of it."""
    server: tuple[str, ...] = ()
    """A program and its words, started first in the same place: the other end of a connection."""
    repeat: bool = False
    """The program ends by itself and is started again until the time is over."""
    workers_per_cpu: int = 1
    """Threads or processes for each CPU at 100 %."""
    file_bytes: int = 0
    """Size of the scratch file that it reads or writes; less where the disk has less room."""
    file_memory_pct: int = 0
    """The same as a share of the machine's memory, times the level."""
    tree: str = ""
    """Directory that it works on: "c" (generated C files and a Makefile), "python" (a copy of the standard library)."""
    parts: tuple[str, ...] = ()
    """Ids of the rows that run together, in a combined one."""
