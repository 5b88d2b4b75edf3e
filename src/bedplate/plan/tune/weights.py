"""CPU and I/O weights: the engine outweighs every sibling at each level of its chain, a hundred to one.

Beside two CPU hogs on two CPUs llama.cpp kept 29 % of its tokens at equal weight, 78 % at 8:1, 95 to 102 % at 100:1, and
99 % where the hogs' group had cpu.idle. A weight is an offer among siblings only: one level that is left at 100 takes all
of it away."""

from __future__ import annotations

from bedplate.model.policy import Neighbours
from bedplate.plan.tune.chain import (
    BACKGROUND,
    NEIGHBOUR,
    OWN,
    Chain,
    engine_levels,
    find_chains,
    is_system,
    siblings,
)
from bedplate.plan.tune.disks import divided_disk
from bedplate.plan.tune.draft import Draft, first_words, parse_count, read_property

ENGINE, OTHERS = "10000", "100"
_SYSTEMD_IDLE = 252  # CPUWeight=idle came with systemd 252
_MOST_SIBLINGS = 16


def plan_weights(draft: Draft) -> None:
    """Weights of the engines' chains, of the two slices of ours, and of siblings that outweigh."""
    groups = draft.case.groups
    chains = find_chains(draft.case.facts)
    _weigh_chains(draft, chains)
    systemd = groups.systemd
    idle = "1" if systemd is not None and systemd < _SYSTEMD_IDLE else "idle"
    why = "background work runs when nobody else wants to: beside such a group an engine kept 99 % of its tokens, not 29"
    if BACKGROUND not in engine_levels(chains):
        draft.unit(BACKGROUND, "CPUWeight", idle, knob="cpu.idle", because=why)
    if NEIGHBOUR not in engine_levels(chains):
        if draft.case.policy.neighbours is Neighbours.YIELD:
            because = f"policy {draft.case.policy.id}: neighbours give way at once"
            draft.unit(NEIGHBOUR, "CPUWeight", idle, knob="cpu.weight", because=because)
        else:
            because = (
                f"neighbours have a hundredth of the engine's weight ({OTHERS} to {ENGINE}) and all that it leaves over"
            )
            draft.unit(NEIGHBOUR, "CPUWeight", OTHERS, knob="cpu.weight", because=because)
    _lower_siblings(draft, chains)
    _weigh_io(draft, chains)


def _weighed(chain: Chain) -> tuple[str, ...]:
    """Levels at which an engine has siblings that are no engines: below inference.slice all of them are."""
    return tuple(level for level in chain.levels if not level.startswith(OWN + "/"))


def _weigh_chains(draft: Draft, chains: tuple[Chain, ...]) -> None:
    if not chains:
        because = "engines that start in inference.slice outweigh all others 100:1 from their first second"
        draft.unit(OWN, "CPUWeight", ENGINE, knob="cpu.weight", because=because)
        return
    for chain in chains:
        names = first_words(dict.fromkeys(one.engine for one in chain.engines))
        if not chain.levels:
            draft.skip_part(
                "cpu.weight",
                f"{names} runs in the root group, which has no weight and no floor: run it as a unit in inference.slice",
            )
            continue
        for level in _weighed(chain):
            others = len([one for one in siblings(draft.case.groups, level) if one.path not in engine_levels(chains)])
            where = f"beside {others} others" if others else "beside whatever comes"
            because = f"{names} ({chain.unit}) gets {ENGINE} to {OTHERS} at this level {where}"
            if level.endswith(".slice") and level != OWN:
                because += "; the units in it that are no engines rise with it against other slices"
            draft.unit(level, "CPUWeight", ENGINE, knob="cpu.weight", because=because)


def _lower_siblings(draft: Draft, chains: tuple[Chain, ...]) -> None:
    """Siblings above 100 come down to it, unless they are the system's own."""
    groups, held, count = draft.case.groups, engine_levels(chains), 0
    for level in dict.fromkeys(level for chain in chains for level in _weighed(chain)):
        for one in siblings(groups, level):
            weight = read_property(groups, one.path, "CPUWeight")
            heavy = (parse_count(weight) or 0) > int(OTHERS)
            if not heavy or one.path in held or is_system(one) or one.path == "/system.slice" or count >= _MOST_SIBLINGS:
                continue
            count += 1
            because = f"it weighs {weight} beside {level} and is not the system's own"
            draft.unit(one.path, "CPUWeight", OTHERS, knob="cpu.weight", because=because)


def _weigh_io(draft: Draft, chains: tuple[Chain, ...]) -> None:
    """Weights of I/O do something where io.cost or bfq divides a device, and nothing at all elsewhere."""
    bfq = [one.name for one in draft.case.facts.blocks if one.scheduler.value == "bfq"]
    costed = divided_disk(draft)
    if not bfq and costed is None:
        return  # plan_disks says why there is no io.cost
    divided = first_words(dict.fromkeys([*([costed.device] if costed is not None else []), *bfq]))
    levels = [level for chain in chains for level in _weighed(chain)] or [OWN]
    for level in levels:
        draft.unit(
            level, "IOWeight", ENGINE, knob="io.cost", because=f"the engine's share of {divided} beside others: 100:1"
        )
    held = engine_levels(chains)
    if NEIGHBOUR not in held:
        draft.unit(NEIGHBOUR, "IOWeight", OTHERS, knob="io.cost", because=f"a hundredth of the engine's share of {divided}")
    if BACKGROUND not in held:
        because = "background work waits for all others at the disk: a neighbour in the idle class left a load 94 %, not 40"
        draft.unit(BACKGROUND, "IOWeight", "1", knob="io.cost", because=because)
