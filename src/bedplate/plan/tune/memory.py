"""Memory: a floor under what the engines use, bounds on the neighbours, swap and the order of the OOM killer.

A mapped model beside a neighbour that touches more than is free kept 4 to 6 % of its speed; with a bound on the neighbour
alone 99 to 100 %. Swappiness of 10 or 200 did not help, and a locked model without swap got the engine killed.

    held     = max(memory.current of the unit, resident size of its largest process)
    low      on the unit and each ancestor; high on each neighbour (plan/shares.py)
    max      = high + half of it                                so that a runaway ends itself and nobody else
"""

from __future__ import annotations

from dataclasses import dataclass

from bedplate.model.knob_value import Compare, Parse
from bedplate.model.units import MIB, render_size
from bedplate.plan.shares import floor_bytes, most_protected_bytes, neighbour_bytes, reserve_bytes, wanted_bytes
from bedplate.plan.tune.chain import BACKGROUND, NEIGHBOUR, OWN, Chain, find_chains, neighbour_groups
from bedplate.plan.tune.draft import Draft, parse_count

_OOM_SCORE = "-900"
_BACKGROUND_PART = 0.5  # of what a neighbour may have: updates and scans need little, and lose only time
_TO_DISK = "mem.zswap-writeback"
_ZSWAP = "/sys/module/zswap/parameters/enabled"
_MOST_SERVICES = 32
_ELSEWHERE = 1.1  # resident memory against what the group is charged for, above which weights are charged elsewhere


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """How the memory of the machine is divided, in bytes."""

    total: int
    reserve: int
    low: tuple[tuple[Chain, int], ...]
    high: int
    max: int

    @property
    def protected(self) -> int:
        return sum(low for _, low in self.low)


def plan_memory(draft: Draft) -> None:
    """Floors, bounds, swap, OOM order, in this order: bounds first would push a neighbour before the engine is safe."""
    chains = find_chains(draft.case.facts)
    budget = make_budget(draft, chains)
    if budget is not None:
        _protect(draft, budget)
        _bound(draft, chains, budget)
    _plan_swap(draft, chains)
    _order_oom(draft, chains)


def make_budget(draft: Draft, chains: tuple[Chain, ...]) -> Budget | None:
    """The division, or None and the reason among the skips."""
    facts = draft.case.facts
    total = facts.memory.total_bytes
    reason = ""
    if not total:
        reason = "the memory of this machine is not known"
    elif not chains:
        reason = "no engine runs, so that its working set is not known: plan again when it serves"
    held = [(chain, _held(draft, chain)) for chain in chains if chain.levels]
    if not reason and (not held or any(size is None for _, size in held)):
        reason = "what the engine's group holds (memory.current) could not be read"
    if reason:
        for knob in ("mem.low", "mem.high"):
            draft.skip(knob, reason)
        return None
    reserve = reserve_bytes(total)
    most = most_protected_bytes(total)
    wanted = [(chain, wanted_bytes(size or 0)) for chain, size in held]
    asked = sum(size for _, size in wanted)
    low = tuple((chain, _round(size if asked <= most else size * most // asked)) for chain, size in wanted)
    high = neighbour_bytes(total, sum(size for _, size in low))
    bound = min(high + max(high // 2, 256 * MIB), total - reserve // 2)
    return Budget(total=total, reserve=reserve, low=low, high=_round(high), max=_round(max(bound, high)))


def _round(size: int) -> int:
    return size // MIB * MIB


def _working_set(draft: Draft, chain: Chain) -> int | None:
    group = draft.case.groups.find(chain.unit)
    text = group.read("memory.current").value if group is not None else None
    count = parse_count(text)
    if count is not None:
        return count
    return next((one.cgroup.memory_current_bytes.value for one in chain.engines), None)


def _held(draft: Draft, chain: Chain) -> int | None:
    """What the engine keeps in memory, whoever is charged for it: pages that another group read first are in its way too."""
    charged = _working_set(draft, chain)
    return None if charged is None else max(charged, max(one.rss_bytes for one in chain.engines))


def _protect(draft: Draft, budget: Budget) -> None:
    """MemoryLow on every level: one ancestor without it takes the protection away."""
    sums: dict[str, int] = {}
    for chain, low in budget.low:
        for level in chain.levels:
            sums[level] = sums.get(level, 0) + low
    by_unit = {chain.unit: chain for chain, _ in budget.low}
    for level in sorted(sums):
        own = by_unit.get(level)
        if own is None:
            because = f"an ancestor of engines: without {render_size(sums[level])} here those below protect nothing"
        else:
            because = f"1.1 times what {own.engines[0].engine} holds, {render_size(_held(draft, own) or 0)}"
            resident = max(one.rss_bytes for one in own.engines)
            charged = _working_set(draft, own) or 0
            if resident > _ELSEWHERE * charged:
                because += (
                    f"; {render_size(resident - charged)} of it was first read by another group and is not protected here"
                    " until the unit reads the model itself (a restart after its pages were dropped)"
                )
        # A higher floor stays: it protects what is used, not a part of the machine.
        least = Compare.AT_LEAST
        draft.unit(level, "MemoryLow", str(sums[level]), knob="mem.low", because=because, compare=least, near=True)


def _bound(draft: Draft, chains: tuple[Chain, ...], budget: Budget) -> None:
    """MemoryHigh slows a neighbour that grows; MemoryMax, well above, ends one that grows on."""
    sentence = (
        f"{render_size(budget.total)} less {render_size(budget.protected)} for the engines and"
        f" {render_size(budget.reserve)} for the system"
    )
    services = 0
    for path in neighbour_groups(draft.case.groups, chains):
        own = path in (NEIGHBOUR, BACKGROUND)
        if path.endswith(".service"):
            services += 1
            if services > _MOST_SERVICES:
                continue
        part = _BACKGROUND_PART if path == BACKGROUND else 1.0
        high = max(_round(int(budget.high * part)), _round(floor_bytes(budget.total)))
        largest = max(_round(int(budget.max * part)), high)
        compare = Compare.EQUAL if own else Compare.AT_MOST  # a tighter bound of the administrator's stays
        because = sentence if part == 1.0 else f"half of what a neighbour may have: {sentence}"
        draft.unit(path, "MemoryHigh", str(high), knob="mem.high", because=because, compare=compare, near=True)
        because = f"well above the {render_size(high)} at which it is slowed: a runaway ends here and not with the engine"
        draft.unit(path, "MemoryMax", str(largest), knob="mem.high", because=because, compare=compare, near=True)


def _plan_swap(draft: Draft, chains: tuple[Chain, ...]) -> None:
    memory = draft.case.facts.memory
    if not memory.swap_total_bytes:
        draft.skip(
            "mem.swap",
            "there is no swap: neighbours' cold memory cannot be pushed out; a swap file on a local disk of a quarter of RAM"
            " is worth having, and engines never use it",
        )
        return
    for level in _swapless(chains):
        because = f"an engine's pages never go to the {render_size(memory.swap_total_bytes)} of swap"
        draft.unit(level, "MemorySwapMax", "0", knob="mem.swap", because=because)
    if memory.zram or memory.zswap.value is not False:
        return
    if _TO_DISK in draft.case.policy.forbid:
        draft.skip_part("mem.swap", f"policy {draft.case.policy.id} wants no more memory on disks: zswap is left as it is")
        return
    because = (
        "swap in front of the disk is compressed memory: a neighbour that is pushed out costs the engine's disk nothing"
    )
    draft.file(_ZSWAP, "Y", knob="mem.swap", because=because, parse=Parse.FLAG, old="N")


def _swapless(chains: tuple[Chain, ...]) -> tuple[str, ...]:
    """inference.slice as a whole, otherwise the engine's unit."""
    levels = [OWN if OWN in chain.levels else chain.unit for chain in chains if chain.levels]
    return tuple(dict.fromkeys(levels or [OWN]))


def _order_oom(draft: Draft, chains: tuple[Chain, ...]) -> None:
    exposed = [
        chain
        for chain in chains
        if draft.ours(chain.unit, "OOMScoreAdjust") or any(one.oom_score_adj > int(_OOM_SCORE) for one in chain.engines)
    ]
    if not exposed:
        draft.skip(
            "mem.oomscore", "no engine runs" if not chains else f"holds already: {_OOM_SCORE} or less on every engine"
        )
    for chain in exposed:
        if not chain.unit.endswith(".service"):
            draft.skip("mem.oomscore", f"{chain.unit} is no service: OOMScoreAdjust= needs one")
            continue
        size = render_size(max(one.rss_bytes for one in chain.engines))
        ours = draft.ours(chain.unit, "OOMScoreAdjust")
        scores = (ours.old if ours is not None else None) or str(max(one.oom_score_adj for one in chain.engines))
        because = f"with {size} resident and a score of {scores} the engine is what the OOM killer takes first"
        draft.at_restart(
            chain.unit, "OOMScoreAdjust", _OOM_SCORE, old=scores, knob="mem.oomscore", because=because, parse=Parse.NUMBER
        )
