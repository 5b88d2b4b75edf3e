"""CPU and I/O weights: the engine outweighs every sibling at each level of its chain, down to the floor of the policy.

Beside two CPU hogs on two CPUs llama.cpp kept 29 % of its tokens at equal weight, 78 % at 8:1, 95 to 102 % at 100:1, and
99 % where the hogs' group had cpu.idle. A weight is an offer among siblings only: one level that is left at 100 takes all
of it away. Where the policy states a floor the relation is computed from it (plan/cpu_shares.py): at 100:1 a compile beside
a busy engine finished no file in ten seconds, and an administrator's shell and process 1 had a hundredth of the CPUs."""

from __future__ import annotations

from fnmatch import fnmatchcase

from bedplate.model.facts.groups import ControlGroup
from bedplate.model.knob_value import Compare
from bedplate.model.policy import Neighbours
from bedplate.model.wording import first_words, plural
from bedplate.plan import io_weights
from bedplate.plan.cpu_shares import OTHERS, engine_weight, system_weight
from bedplate.plan.tune.builder import PlanBuilder, parse_count, read_property
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

CONTROL_UNITS = (
    *("init.scope", "system.slice", "user.slice", "user@*", "ssh.service", "ssh@*", "sshd*", "getty@*", "serial-getty@*"),
    *("systemd-logind.service", "systemd-journald.service", "systemd-udevd.service", "dbus.service", "dbus-broker.service"),
)
"""By these a host is administered: the service manager, logins and what a login waits for. They are never starved."""
_SYSTEMD_IDLE = 252  # CPUWeight=idle came with systemd 252
_MOST_SIBLINGS = 16


def plan_weights(builder: PlanBuilder) -> None:
    """Weights of the engines' chains, of the two slices of ours, of the system's control units, and of siblings that
    outweigh."""
    groups, policy = builder.inputs.groups, builder.inputs.policy
    chains = find_chains(builder.inputs.facts)
    _weigh_chains(builder, chains)
    systemd = groups.systemd
    idle = "1" if systemd is not None and systemd < _SYSTEMD_IDLE else "idle"
    why = "background work runs only on idle CPUs: beside such a group an engine kept 99 % of its speed instead of 29 %"
    if BACKGROUND not in engine_levels(chains):
        builder.unit(BACKGROUND, "CPUWeight", idle, knob="cpu.idle", because=why)
    if NEIGHBOUR not in engine_levels(chains):
        if policy.neighbours is Neighbours.YIELD:
            because = f"policy {policy.id}: neighbours give way at once"
            builder.unit(NEIGHBOUR, "CPUWeight", idle, knob="cpu.weight", because=because)
        else:
            because = (
                f"neighbours have a weight of {OTHERS} to {_engine(builder)} and get everything that the engine"
                f" leaves over{_floor(builder)}"
            )
            builder.unit(NEIGHBOUR, "CPUWeight", str(OTHERS), knob="cpu.weight", because=because)
    _raise_control_units(builder, chains)
    _lower_siblings(builder, chains)
    _weigh_io(builder, chains)


def _engine(builder: PlanBuilder) -> int:
    return engine_weight(builder.inputs.policy.floor_pct)


def _floor(builder: PlanBuilder) -> str:
    """What the floor is on this host and what it costs, for a sentence; "" without one."""
    policy, cpus = builder.inputs.policy, len(builder.inputs.facts.cpu.online)
    if not policy.floor_pct:
        return ""
    share = _share(policy.floor_pct, cpus)
    return f"; when all CPUs are busy, each is guaranteed {share} (policy {policy.id}). The cost: {policy.floor_cost}"


def _share(percent: int, cpus: int) -> str:
    """A share of a host: "5 % of 8 CPUs (0.4)"."""
    return f"{percent} % of {cpus} CPUs ({percent * cpus / 100:g})" if cpus else f"{percent} % of the CPUs"


def _weighed(chain: Chain) -> tuple[str, ...]:
    """Levels at which an engine has siblings that are no engines: below inference.slice all of them are."""
    return tuple(level for level in chain.levels if not level.startswith(OWN + "/"))


def _weigh_chains(builder: PlanBuilder, chains: tuple[Chain, ...]) -> None:
    engine = str(_engine(builder))
    if not chains:
        because = f"engines that start in inference.slice have a weight of {engine} to {OTHERS} from their first second"
        builder.unit(OWN, "CPUWeight", engine, knob="cpu.weight", because=because)
        return
    for chain in chains:
        names = first_words(dict.fromkeys(engine.engine for engine in chain.engines))
        if not chain.levels:
            builder.skip_part(
                "cpu.weight",
                f"{names} runs in the root group, which has no weight and no guarantee: run it as a unit in inference.slice",
            )
            continue
        for level in _weighed(chain):
            others = len(
                [sibling for sibling in siblings(builder.inputs.groups, level) if sibling.path not in engine_levels(chains)]
            )
            where = f"beside {plural(others, 'other')}" if others else "beside any other group"
            because = f"{names} ({chain.unit}) has a weight of {engine} to {OTHERS} at this level {where}"
            if level.endswith(".slice") and level != OWN:
                because += "; its units that are not engines also gain against other slices"
            builder.unit(level, "CPUWeight", engine, knob="cpu.weight", because=because)


def _raise_control_units(builder: PlanBuilder, chains: tuple[Chain, ...]) -> None:
    """The service manager and logins get their share at each level at which an engine is weighed; more stays."""
    groups, held, share = builder.inputs.groups, engine_levels(chains), builder.inputs.policy.system_pct
    weight = system_weight(_engine(builder), share)
    cpus = len(builder.inputs.facts.cpu.online)
    because = f"administrators need it: beside a busy engine it is guaranteed {_share(share, cpus)}"
    for level in dict.fromkeys(level for chain in chains for level in _weighed(chain)) or (OWN,):
        for group in siblings(groups, level):
            if group.path not in held and _is_control(group):
                compare = Compare.AT_LEAST
                builder.unit(group.path, "CPUWeight", str(weight), knob="cpu.weight", because=because, compare=compare)


def _is_control(group: ControlGroup) -> bool:
    return any(fnmatchcase(group.unit, pattern) for pattern in CONTROL_UNITS)


def _lower_siblings(builder: PlanBuilder, chains: tuple[Chain, ...]) -> None:
    """Siblings above 100 come down to it, unless they are the system's own."""
    groups, held, count = builder.inputs.groups, engine_levels(chains), 0
    for level in dict.fromkeys(level for chain in chains for level in _weighed(chain)):
        for sibling in siblings(groups, level):
            weight = read_property(groups, sibling.path, "CPUWeight")
            heavy = (parse_count(weight) or 0) > OTHERS
            if not heavy or sibling.path in held or is_system(sibling) or _is_control(sibling) or count >= _MOST_SIBLINGS:
                continue
            count += 1
            because = f"its weight is {weight} beside {level}, and it is not part of the system"
            builder.unit(sibling.path, "CPUWeight", str(OTHERS), knob="cpu.weight", because=because)


def _weigh_io(builder: PlanBuilder, chains: tuple[Chain, ...]) -> None:
    """Weights of I/O do something where io.cost or bfq divides a device, and nothing at all elsewhere."""
    bfq = [block.name for block in builder.inputs.facts.blocks if block.scheduler.value == "bfq"]
    costed = divided_disk(builder)
    if not bfq and costed is None:
        return  # plan_disks says why there is no io.cost
    divided = first_words(dict.fromkeys([*([costed.device] if costed is not None else []), *bfq]))
    levels = [level for chain in chains for level in _weighed(chain)] or [OWN]
    because = f"the engine's share of {divided} beside others: {io_weights.ENGINE // io_weights.OTHERS}:1"
    for level in levels:
        builder.unit(level, "IOWeight", str(io_weights.ENGINE), knob="io.cost", because=because)
    held = engine_levels(chains)
    if NEIGHBOUR not in held:
        because = f"a hundredth of the engine's share of {divided}"
        builder.unit(NEIGHBOUR, "IOWeight", str(io_weights.OTHERS), knob="io.cost", because=because)
    if BACKGROUND not in held:
        because = (
            "background work waits for all others at the disk: a neighbour in the idle class left a load 94 % of its"
            " speed instead of 40 %"
        )
        builder.unit(BACKGROUND, "IOWeight", str(io_weights.BACKGROUND), knob="io.cost", because=because)
