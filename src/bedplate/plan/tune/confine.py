"""CPUs of neighbours: bounded on large hosts with accelerators, never on small ones; the engine keeps all of them.

On two CPUs a neighbour that was pinned onto one of them left the engine 3 % of its tokens, the worst of all that was
measured: threads of an engine meet at barriers and all wait for the one that shares its CPU. On hosts with accelerators
the engine needs few cores, and neighbours that were confined to others left it 92 to 98 % of its throughput (S12)."""

from __future__ import annotations

from bedplate.plan.rules.formulas import housekeeping_cores
from bedplate.plan.tune.builder import PlanBuilder, read_property
from bedplate.plan.tune.chain import BACKGROUND, NEIGHBOUR, SHARED_SLICES, engine_levels, find_chains
from bedplate.plan.tune.row_values import row_target

_CONFINE = "cpu.confine-neighbours"
LEAST_CORES = 16  # H is at least two cores: from 16 on neighbours keep to an eighth of the cores or less


def plan_confinement(builder: PlanBuilder) -> None:
    """AllowedCPUs of neighbours, or why not; threads of the engines follow the CPUs that their group really has."""
    facts = builder.inputs.facts
    chains = find_chains(facts)
    cpus = row_target(builder, _CONFINE)
    cores = facts.cpu.cores
    reason = ""
    if not cores or cpus is None:
        reason = "the cores of this machine are not known"
    elif cores < LEAST_CORES:
        reason = (
            f"{cores} cores are fewer than {LEAST_CORES}: a neighbour pinned to a core that the engine uses left it 3 %"
            " of its tokens; weights protect the engine instead"
        )
    elif not facts.accelerators:
        reason = (
            "engines compute on all cores (no accelerator was found), and a neighbour pinned to some of them delays"
            " all threads; weights protect them instead"
        )
    if reason:
        builder.skip(_CONFINE, reason)
        if cores and cores < LEAST_CORES:
            _unpin(builder)
    else:
        held = engine_levels(chains)
        here = [path for path in SHARED_SLICES if builder.inputs.groups.find(path) is not None]
        because = (
            f"{housekeeping_cores(facts)} of {cores} whole cores, first on nodes without accelerators; the engine keeps all"
            " CPUs, system.slice too"
        )
        for path in (NEIGHBOUR, BACKGROUND, *here):
            if path not in held:
                builder.unit(path, "AllowedCPUs", cpus or "", knob=_CONFINE, because=because)


def _unpin(builder: PlanBuilder) -> None:
    """Slices of ours that somebody pinned on a small host get all CPUs again."""
    for path in (NEIGHBOUR, BACKGROUND):
        pinned = read_property(builder.inputs.groups, path, "AllowedCPUs")
        if pinned:
            count = len(builder.inputs.facts.cpu.online)
            because = f"it is pinned to {pinned} of {count} CPUs, which the engine's threads use, too"
            builder.unit(path, "AllowedCPUs", "", knob=_CONFINE, because=because)
