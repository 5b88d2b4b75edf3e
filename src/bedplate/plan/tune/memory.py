"""Memory: a floor under what the engines use, bounds on the neighbours, swap and the order of the OOM killer.

A mapped model beside a neighbour that touches more than is free kept 4 to 6 % of its speed; with a bound on the neighbour
alone 99 to 100 %. Swappiness of 10 or 200 did not help, and a locked model without swap got the engine killed.

    held     = max(memory.current of the unit, resident size of its largest process)
    low      on the unit and each ancestor; a bound on each neighbour, from what is free now (plan/shares.py)
    max      = the bound: a runaway ends there, and nobody else with it
    high     = an eighth below it where there is swap to push a neighbour's memory to; the bound itself where there is none
"""

from __future__ import annotations

from dataclasses import dataclass

from bedplate.model.facts.groups import ControlGroup
from bedplate.model.knob_value import Compare, Parse
from bedplate.model.units import MIB, render_size
from bedplate.plan.shares import (
    most_protected_bytes,
    neighbour_bytes,
    reserve_bytes,
    slowed_bytes,
    spare_bytes,
    wanted_bytes,
)
from bedplate.plan.tune.builder import PlanBuilder, parse_count
from bedplate.plan.tune.chain import BACKGROUND, NEIGHBOUR, OWN, Chain, engine_levels, find_chains, neighbour_groups
from bedplate.plan.tune.row_values import row_value

_BACKGROUND_PART = 2  # background work gets half of what is spare: updates and scans need little, and lose only time
_TO_DISK = "mem.zswap-writeback"
_ZSWAP = "/sys/module/zswap/parameters/enabled"
_MOST_SERVICES = 32
_ELSEWHERE = 1.1  # resident memory against what the group is charged for, above which weights are charged elsewhere
_SYSTEM = "/system.slice"


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """How the memory of the machine is divided, in bytes."""

    total: int
    available: int
    cached: int
    """Of what is available: pages of the engines, their mapped weights."""
    growth: int
    """What engines are promised above what they hold."""
    low: tuple[tuple[Chain, int], ...]
    spare: int
    """What neighbours can still take."""

    @property
    def protected(self) -> int:
        """Bytes that engines are sure of: the sum of what MemoryLow= of each chain will be."""
        return sum(low for _, low in self.low)

    def render(self) -> str:
        """The arithmetic of `spare` for people."""
        return (
            f"{render_size(self.available)} are available, of which {render_size(self.cached)} are the engines' own pages,"
            f" {render_size(self.growth)} are promised to them and {render_size(reserve_bytes(self.total))} are the system's"
        )


def plan_memory(builder: PlanBuilder) -> None:
    """Floors, bounds, swap, OOM order, in this order: bounds first would push a neighbour before the engine is safe."""
    chains = find_chains(builder.inputs.facts)
    budget = make_budget(builder, chains)
    if budget is not None:
        _protect(builder, budget)
        _bound(builder, chains, budget)
    _plan_swap(builder, chains)
    _order_oom(builder, chains)


def make_budget(builder: PlanBuilder, chains: tuple[Chain, ...]) -> Budget | None:
    """The division, or None and the reason among the skips."""
    facts = builder.inputs.facts
    total = facts.memory.total_bytes
    reason = ""
    if not total:
        reason = "the memory of this machine is not known"
    elif not chains:
        reason = "no engine runs, so its working set is not known: plan again when one serves"
    held = [(chain, _held(builder, chain)) for chain in chains if chain.levels]
    if not reason and (not held or any(size is None for _, size in held)):
        reason = "what the engine's group holds (memory.current) could not be read"
    if reason:
        for knob in ("mem.low", "mem.high"):
            builder.skip(knob, reason)
        return None
    most = most_protected_bytes(total)
    wanted = [(chain, wanted_bytes(size or 0)) for chain, size in held]
    asked = sum(size for _, size in wanted)
    low = tuple((chain, _round(size if asked <= most else size * most // asked)) for chain, size in wanted)
    available = min(facts.memory.available_bytes, total)
    cached = min(available, sum(_cached(builder, chain, size or 0) for chain, size in held))
    growth = max(0, sum(size for _, size in low) - sum(size or 0 for _, size in held))
    spare = spare_bytes(total=total, available=available, cached=cached, growth=growth)
    return Budget(total=total, available=available, cached=cached, growth=growth, low=low, spare=spare)


def _round(size: int) -> int:
    return size // MIB * MIB


def _working_set(builder: PlanBuilder, chain: Chain) -> int | None:
    group = builder.inputs.groups.find(chain.unit)
    text = group.read("memory.current").value if group is not None else None
    count = parse_count(text)
    if count is not None:
        return count
    return next((engine.cgroup.memory_current_bytes.value for engine in chain.engines), None)


def _held(builder: PlanBuilder, chain: Chain) -> int | None:
    """What the engine keeps in memory, whoever is charged for it: pages that another group read first are in its way too."""
    charged = _working_set(builder, chain)
    return None if charged is None else max(charged, max(engine.rss_bytes for engine in chain.engines))


def _cached(builder: PlanBuilder, chain: Chain, held: int) -> int:
    """What of an engine's memory MemAvailable counts as available; all of it where the kernel does not say.

    What it holds beyond what its group is charged for are pages of files that another group read first.
    """
    group = builder.inputs.groups.find(chain.unit)
    files = _file_bytes(group)
    if files is None:
        return held
    return files + max(0, held - (_working_set(builder, chain) or 0))


def _file_bytes(group: ControlGroup | None) -> int | None:
    """Pages of files that the kernel may drop (memory.stat, cgroup-v2.rst); None where it cannot be read."""
    text = group.read("memory.stat").value if group is not None else None
    pairs = [line.split() for line in (text or "").splitlines()]
    sizes = [parse_count(pair[1]) for pair in pairs if len(pair) == 2 and pair[0] in ("active_file", "inactive_file")]
    return sum(size or 0 for size in sizes) if sizes and None not in sizes else None


def _kept(builder: PlanBuilder, path: str) -> int:
    """What a group holds and cannot give back: its page cache is in MemAvailable. All of it where the kernel is silent."""
    group = builder.inputs.groups.find(path)
    current = parse_count(group.read("memory.current").value) if group is not None else None
    return max(0, (current or 0) - (_file_bytes(group) or 0))


def _protect(builder: PlanBuilder, budget: Budget) -> None:
    """MemoryLow on every level: one ancestor without it takes the protection away."""
    sums: dict[str, int] = {}
    for chain, low in budget.low:
        for level in chain.levels:
            sums[level] = sums.get(level, 0) + low
    by_unit = {chain.unit: chain for chain, _ in budget.low}
    for level in sorted(sums):
        own = by_unit.get(level)
        if own is None:
            because = (
                f"an ancestor of engines: without {render_size(sums[level])} here, the groups below it are not protected"
            )
        else:
            because = f"1.1 times what {own.engines[0].engine} holds, {render_size(_held(builder, own) or 0)}"
            resident = max(engine.rss_bytes for engine in own.engines)
            charged = _working_set(builder, own) or 0
            if resident > _ELSEWHERE * charged:
                because += (
                    f"; {render_size(resident - charged)} of it was first read by another group and is not protected"
                    " until the unit reads the model itself (restart it after dropping those pages)"
                )
        # A higher floor stays: it protects what is used, not a part of the machine.
        least = Compare.AT_LEAST
        builder.unit(level, "MemoryLow", str(sums[level]), knob="mem.low", because=because, compare=least, near=True)


def _bound(builder: PlanBuilder, chains: tuple[Chain, ...], budget: Budget) -> None:
    """A bound on each neighbour, below what the kernel would have to take from the engines."""
    services = 0
    for path in neighbour_groups(builder.inputs.groups, chains):
        if path.endswith(".service"):
            services += 1
            if services > _MOST_SERVICES:
                continue
        _bound_group(builder, path, budget)
    if _SYSTEM in engine_levels(chains):
        builder.skip_part(
            "mem.high",
            "an engine runs in system.slice, so this slice gets no limit, and neither do services that start in it later;"
            " run the engine in inference.slice (Slice=), or plan again",
        )
    elif builder.inputs.groups.find(_SYSTEM) is not None:
        _bound_group(builder, _SYSTEM, budget)


def _bound_group(builder: PlanBuilder, path: str, budget: Budget) -> None:
    kept = _kept(builder, path)
    part = _BACKGROUND_PART if path == BACKGROUND else 1
    bound = _round(neighbour_bytes(total=budget.total, kept=kept, spare=budget.spare // part))
    has_swap = bool(builder.inputs.facts.memory.swap_total_bytes)
    high = _round(slowed_bytes(total=budget.total, kept=kept, bound=bound, has_swap=has_swap))
    # A tighter bound of the administrator's stays, except on slices of ours.
    compare = Compare.EQUAL if path in (NEIGHBOUR, BACKGROUND) else Compare.AT_MOST
    holds = f"it holds {render_size(kept)} and may take {'half of ' if part > 1 else ''}{render_size(budget.spare)} more: "
    because = (
        f"{holds}{budget.render()}; if a neighbour grows past it, the kernel kills that neighbour instead of the engine"
    )
    if path == _SYSTEM:
        because = f"programs that start in it later have no limit of their own: {because}"
    builder.unit(path, "MemoryMax", str(bound), knob="mem.high", because=because, compare=compare, near=True)
    if has_swap:
        because = f"its cold memory is swapped out above this value, before the kernel kills it at {render_size(bound)}"
    else:
        because = "without swap its memory cannot be reclaimed: a neighbour that was only throttled would keep all of it"
    builder.unit(path, "MemoryHigh", str(high), knob="mem.high", because=because, compare=compare, near=True)


def _plan_swap(builder: PlanBuilder, chains: tuple[Chain, ...]) -> None:
    memory = builder.inputs.facts.memory
    if not memory.swap_total_bytes:
        builder.skip(
            "mem.swap",
            "there is no swap, so neighbours' cold memory cannot be swapped out; consider a swap file of a quarter of RAM on"
            " a local disk (engines never use it)",
        )
        return
    for level in _swapless(chains):
        because = f"an engine's pages never go to the {render_size(memory.swap_total_bytes)} of swap"
        builder.unit(level, "MemorySwapMax", "0", knob="mem.swap", because=because)
    if memory.zram or memory.zswap.value is not False:
        return
    if _TO_DISK in builder.inputs.policy.forbid:
        builder.skip_part(
            "mem.swap", f"policy {builder.inputs.policy.id} allows no further memory on disks: zswap is left as it is"
        )
        return
    because = (
        "swap in front of the disk is compressed memory: a neighbour that is swapped out causes no I/O on the engine's disk"
    )
    builder.file(_ZSWAP, "Y", knob="mem.swap", because=because, parse=Parse.FLAG, old="N")


def _swapless(chains: tuple[Chain, ...]) -> tuple[str, ...]:
    """inference.slice as a whole, otherwise the engine's unit."""
    levels = [OWN if OWN in chain.levels else chain.unit for chain in chains if chain.levels]
    return tuple(dict.fromkeys(levels or [OWN]))


def _order_oom(builder: PlanBuilder, chains: tuple[Chain, ...]) -> None:
    oom_score = row_value(builder, "mem.oomscore")
    exposed = [chain for chain in chains if any(engine.oom_score_adj > int(oom_score) for engine in chain.engines)]
    if not exposed:
        builder.skip(
            "mem.oomscore", "no engine runs" if not chains else f"holds already: {oom_score} or less on every engine"
        )
    for chain in exposed:
        if not chain.unit.endswith(".service"):
            builder.skip("mem.oomscore", f"{chain.unit} is not a service: OOMScoreAdjust= needs a service")
            continue
        size = render_size(max(engine.rss_bytes for engine in chain.engines))
        scores = str(max(engine.oom_score_adj for engine in chain.engines))
        because = f"with {size} resident and a score of {scores} the OOM killer would choose the engine first"
        builder.at_restart(
            chain.unit, "OOMScoreAdjust", oom_score, old=scores, knob="mem.oomscore", because=because, parse=Parse.NUMBER
        )
