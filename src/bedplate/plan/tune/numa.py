"""NUMA: an engine is bound to the node of its accelerators when it starts, or not at all.

Ranks that were not bound on a host of eight domains took five times as long for a step (S7); on two quiet nodes binding
gave 0 to 2 %. Binding late leaves memory behind, and a set on a single core was slower than a node's (S25)."""

from __future__ import annotations

from bedplate.model.units import render_size
from bedplate.model.wording import first_words, render_cpus
from bedplate.plan.accelerator_nodes import find_accelerator_nodes
from bedplate.plan.rules.conditions import is_bound
from bedplate.plan.tune.builder import PlanBuilder
from bedplate.plan.tune.chain import Chain, find_chains
from bedplate.plan.tune.row_values import meets_conditions, want_row

_AFFINITY, _BALANCING = "cpu.numa-domain-affinity", "numa.balancing"
_LEAST_CORES = 2  # of a node: the dispatch loop and everything else


def plan_numa(builder: PlanBuilder) -> None:
    """Birth-time binding of each unit, and automatic balancing."""
    facts = builder.inputs.facts
    nodes = [node for node in facts.numa.nodes if node.cpus]
    if len(nodes) < 2:
        reason = "one NUMA node" if nodes else "NUMA nodes are not known"
        builder.skip(_AFFINITY, f"{reason}: no node to bind to")
        builder.skip(_BALANCING, f"{reason}: it would move nothing")
        return
    for chain in find_chains(facts):
        _bind(builder, chain)
    if meets_conditions(builder, _BALANCING):
        count = len(facts.engines)
        because = (
            f"all {count} engine processes are bound to nodes: page faults that look for a better node cost time and"
            " find none"
        )
        want_row(builder, _BALANCING, because=because)
    elif not facts.engines:
        builder.skip(_BALANCING, "no engine runs; balancing is right for programs that are not bound")
    else:
        builder.skip(_BALANCING, "an engine is not bound to a node: balancing brings its memory near")


def _bind(builder: PlanBuilder, chain: Chain) -> None:
    facts = builder.inputs.facts
    names = first_words(dict.fromkeys(engine.engine for engine in chain.engines))
    knob = _AFFINITY
    nodes = find_accelerator_nodes(facts, chain.engines).nodes
    if all(is_bound(facts, engine) for engine in chain.engines) and not builder.is_applied(chain.unit, "AllowedMemoryNodes"):
        builder.skip(knob, f"holds already: {names} is bound to a node")
    elif not chain.levels or not chain.unit.endswith(".service"):
        builder.skip(knob, f"{names} runs in {chain.unit}, which is not a service that could be started with a binding")
    elif not nodes:
        builder.skip(knob, f"{names}: the node of its accelerators is not known, or it has none")
    elif len(nodes) > 1:
        reason = f"{names} is one unit with accelerators on nodes {first_words(map(str, nodes))}"
        builder.skip(knob, f"{reason}: let the engine bind its ranks itself (vLLM: --numa-bind), or run each rank as a unit")
    else:
        _bind_to(builder, chain, names, nodes[0])


def _bind_to(builder: PlanBuilder, chain: Chain, names: str, number: int) -> None:
    facts = builder.inputs.facts
    node = next((node for node in facts.numa.nodes if node.node == number), None)
    if node is None or len(node.cpus) < _LEAST_CORES or node.free_bytes is None:
        builder.skip(_AFFINITY, f"node {number} of {names}'s accelerators has too few CPUs, or is not known")
        return
    there = sum(size for engine in chain.engines for where, size in engine.numa_bytes if where == number)
    need = sum(size for engine in chain.engines for _, size in engine.numa_bytes) or max(
        engine.rss_bytes for engine in chain.engines
    )
    if need * 11 // 10 > node.free_bytes + there:
        builder.skip(
            _AFFINITY,
            f"{names} holds {render_size(need)}, node {number} has {render_size(node.free_bytes + there)} free for it:"
            " with the binding it could not start",
        )
        return
    far = render_size(need - there)
    because = (
        f"all accelerators of {names} are on node {number}, but its threads, and {far} of its memory, are on other"
        " nodes, too"
    )
    for key, value in (("AllowedCPUs", render_cpus(node.cpus)), ("AllowedMemoryNodes", str(number))):
        builder.at_restart(chain.unit, key, value, old=None, knob=_AFFINITY, because=because)
