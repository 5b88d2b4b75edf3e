"""What is measured: the rows of the published table, each with its neighbour (catalog/antagonists.toml) and its goal."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    SERVE = "serve"
    """Steady streams; tokens end to end."""
    LOAD = "load"
    """A model file that is not in the page cache is read with direct I/O, as a loader does; bytes."""
    TRACE = "trace"
    """A replayed trace; the share of its requests that met every SLO."""


class Victim(StrEnum):
    """The model of the engine while a row is measured."""

    SMALL = "small"
    MAPPED = "mapped"
    """Its weights are read from the page cache for each token."""
    SWAP = "swap"
    """The same on a machine with swap."""
    TRACE = "trace"

    @property
    def is_mapped(self) -> bool:
        return self in (Victim.MAPPED, Victim.SWAP)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    id: str
    title: str
    kind: Kind
    victim: Victim
    antagonist: str = ""
    """"" for a quiet row, which is what others are a share of."""
    level_pct: int = 100
    goal: float | None = None
    """Of quiet in the stock arm; None where none is set."""
    no_worse: bool = False
    """The goal is to be no worse than stock: the kernel already protects the engine there."""
    or_stock: bool = False
    """What stock keeps is enough where it is less than the goal; and every sample must reach it, not the median."""
    neighbour_cpu_goal: float | None = None
    """Of all CPUs, what the neighbour has at least beside the busy engine: the floor of the policy."""
    ttft_goal: float | None = None
    """Median TTFT against quiet, at most."""
    itl_goal: float | None = None
    """ITL p99 against quiet, at most."""
    slice: str = ""
    """Where its neighbour runs in every arm; "" for where the arm puts neighbours."""
    lead_s: float = 0.0
    """What the neighbour has for itself before the load comes: beside a busy engine it would take minutes to grow."""
    guest_only: bool = False
    """It needs the guest's slices or its swap."""
    wash_s: float = 1.5
    """Before the sample, for the neighbour to be what it is going to be."""
    longer: float = 1.0
    """Than the other samples: where a token takes seconds."""
    quiet: str = ""
    """Id of the quiet row that it is a share of; "" for a quiet row."""


ROWS = (
    Row(id="quiet", title="no neighbour", kind=Kind.SERVE, victim=Victim.SMALL, longer=2.5),
    Row(
        id="cpu",
        title="CPU: a busy thread for each CPU",
        kind=Kind.SERVE,
        victim=Victim.SMALL,
        antagonist="cpu.matrixprod",
        goal=0.97,
        itl_goal=1.2,
        quiet="quiet",
    ),
    Row(
        id="cpu-4",
        title="CPU: four busy threads for each CPU",
        kind=Kind.SERVE,
        victim=Victim.SMALL,
        antagonist="cpu.oversubscribed",
        goal=0.97,
        quiet="quiet",
    ),
    Row(
        id="switch",
        title="CPU: context-switch storm",
        kind=Kind.SERVE,
        victim=Victim.SMALL,
        antagonist="cpu.switch",
        goal=0.97,
        itl_goal=1.2,
        quiet="quiet",
    ),
    Row(
        id="fork",
        title="CPU: fork storm",
        kind=Kind.SERVE,
        victim=Victim.SMALL,
        antagonist="cpu.fork",
        goal=0.97,
        itl_goal=1.2,
        quiet="quiet",
    ),
    Row(
        id="compile",
        title="the floor: a C build",
        kind=Kind.SERVE,
        victim=Victim.SMALL,
        antagonist="cpu.compile",
        neighbour_cpu_goal=0.05,
        longer=5.0,
        quiet="quiet",
        guest_only=True,
    ),
    Row(
        id="shell",
        title="the floor: an administrator's shell",
        kind=Kind.SERVE,
        victim=Victim.SMALL,
        antagonist="cpu.shell",
        slice="user.slice",
        longer=5.0,
        quiet="quiet",
        guest_only=True,
    ),
    Row(
        id="network",
        title="network over loopback",
        kind=Kind.SERVE,
        victim=Victim.SMALL,
        antagonist="network.bulk",
        goal=0.95,
        quiet="quiet",
    ),
    Row(
        id="bandwidth",
        title="memory bandwidth",
        kind=Kind.SERVE,
        victim=Victim.SMALL,
        antagonist="bandwidth.stream",
        quiet="quiet",
    ),
    Row(
        id="dirty",
        title="dirty flood, serving",
        kind=Kind.SERVE,
        victim=Victim.SMALL,
        antagonist="pagecache.dirty",
        goal=0.97,
        wash_s=4.0,
        longer=2.5,
        quiet="quiet",
    ),
    Row(
        id="combined",
        title="combined: CPU, disk, network",
        kind=Kind.SERVE,
        victim=Victim.SMALL,
        antagonist="combined.synthetic",
        goal=0.90,
        quiet="quiet",
    ),
    Row(id="mapped", title="no neighbour, mapped model", kind=Kind.SERVE, victim=Victim.MAPPED, longer=5.0),
    Row(
        id="memory",
        title="memory: the neighbour touches more than is free",
        kind=Kind.SERVE,
        victim=Victim.MAPPED,
        antagonist="memory.touch",
        level_pct=90,
        goal=0.97,
        wash_s=6.0,
        longer=5.0,
        quiet="mapped",
    ),
    *(
        Row(
            id=f"{id}{'-swap' if swap else ''}",
            title=f"memory: a neighbour that {title}, {'with' if swap else 'no'} swap",
            kind=Kind.SERVE,
            victim=Victim.SWAP if swap else Victim.MAPPED,
            antagonist=antagonist,
            level_pct=200,
            goal=0.95,
            or_stock=True,
            ttft_goal=1 / 0.95,
            lead_s=lead_s,
            wash_s=0.5,
            longer=5.0,
            quiet="mapped",
            guest_only=True,
        )
        for swap in (False, True)
        for id, antagonist, title, lead_s in (
            ("grow", "memory.grow", "grows without pause", 1.0),
            ("edge", "memory.edge", "grows in slow steps at the edge", 4.0),
        )
    ),
    Row(
        id="grow-service",
        title="memory: a service in system.slice that grows without pause",
        kind=Kind.SERVE,
        victim=Victim.MAPPED,
        antagonist="memory.grow",
        level_pct=200,
        goal=0.95,
        or_stock=True,
        ttft_goal=1 / 0.95,
        slice="system.slice",
        lead_s=1.0,
        wash_s=0.5,
        longer=5.0,
        quiet="mapped",
        guest_only=True,
    ),
    Row(
        id="scan",
        title="page cache scan",
        kind=Kind.SERVE,
        victim=Victim.MAPPED,
        antagonist="pagecache.scan",
        no_worse=True,
        wash_s=4.0,
        longer=2.5,
        quiet="mapped",
    ),
    Row(id="load", title="cold load, no neighbour", kind=Kind.LOAD, victim=Victim.MAPPED),
    Row(
        id="load-io",
        title="cold load beside deep random direct reads",
        kind=Kind.LOAD,
        victim=Victim.MAPPED,
        antagonist="io.randread",
        goal=0.90,
        quiet="load",
    ),
    Row(
        id="load-dirty",
        title="cold load beside a dirty flood",
        kind=Kind.LOAD,
        victim=Victim.MAPPED,
        antagonist="pagecache.dirty",
        goal=0.90,
        quiet="load",
    ),
    Row(id="trace-quiet", title="Azure code trace, no neighbour", kind=Kind.TRACE, victim=Victim.TRACE, wash_s=0.5),
    Row(
        id="trace",
        title="Azure code trace beside CPU and memory hogs",
        kind=Kind.TRACE,
        victim=Victim.TRACE,
        antagonist="combined.cpu-memory",
        level_pct=90,
        goal=0.95,
        wash_s=4.0,
        quiet="trace-quiet",
    ),
)


def rows_of(names: str) -> tuple[Row, ...]:
    """The rows of a comma-separated list, all for "", with the quiet rows that they need. Raises ValueError."""
    if not names:
        return ROWS
    by_id = {row.id: row for row in ROWS}
    wanted = names.split(",")
    unknown = [name for name in wanted if name not in by_id]
    if unknown:
        raise ValueError(f"{', '.join(unknown)}: expected some of {', '.join(by_id)}")
    needed = {*wanted, *(by_id[name].quiet for name in wanted)}
    return tuple(row for row in ROWS if row.id in needed)
