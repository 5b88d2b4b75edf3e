"""Interrupts of network cards: on cores of their node that the engine's serial threads need least, and only on larger
hosts.

Too few CPUs for interrupts cost more than they disturb: a profile that starved them made a node three times slower (S1),
interrupts on a clean host cost 0.03 % (S14). Where irqbalance runs they are its business."""

from __future__ import annotations

from bedplate.model.facts.pci import NetworkDevice
from bedplate.model.knob_value import Parse
from bedplate.model.wording import render_cpus
from bedplate.plan.tune.builder import PlanBuilder
from bedplate.plan.tune.confine import LEAST_CORES
from bedplate.plan.tune.row_values import row_target

_AFFINITY = "irq.affinity"
_MOST_QUEUES = 4  # CPUs that the interrupts of a card need at least, where it has so many queues
_MOST_IRQS = 256


def plan_interrupts(builder: PlanBuilder) -> None:
    """smp_affinity_list of each queue that may fire on another node's CPUs."""
    facts = builder.inputs.facts
    reason = ""
    if facts.cpu.cores < LEAST_CORES:
        reason = f"{facts.cpu.cores} cores are fewer than {LEAST_CORES}: no core can be kept free of interrupts"
    elif "irqbalance" in facts.os.co_owners:
        reason = "irqbalance places interrupts; ban CPUs in it (IRQBALANCE_BANNED_CPULIST), or stop it and plan again"
    elif not facts.accelerators:
        reason = "engines compute on all cores, so no core is quieter than another"
    if reason:
        builder.skip(_AFFINITY, reason)
        return
    count = 0
    for device in facts.network:
        cpus = _cpus_for(builder, device)
        if cpus is None:
            continue
        for irq, allowed in device.irqs:
            count += 1
            if count <= _MOST_IRQS and allowed and not set(allowed) <= set(cpus):
                because = f"a queue of {device.name}, on housekeeping cores of its node {device.numa_node.value}"
                path = f"/proc/irq/{irq}/smp_affinity_list"
                old = render_cpus(allowed)
                builder.file(path, render_cpus(cpus), knob=_AFFINITY, because=because, parse=Parse.WORDS, old=old)
    builder.skip(_AFFINITY, "holds already: no network interrupt fires off its node's housekeeping cores, or none is known")


def _cpus_for(builder: PlanBuilder, device: NetworkDevice) -> tuple[int, ...] | None:
    """Housekeeping CPUs on the card's node; None and a reason where they are too few for its queues."""
    housekeeping = row_target(builder, _AFFINITY)
    node = next((node for node in builder.inputs.facts.numa.nodes if node.node == device.numa_node.value), None)
    if housekeeping is None or node is None or not device.irqs:
        return None
    chosen = tuple(sorted(_expand(housekeeping) & set(node.cpus)))
    if len(chosen) < min(len(device.irqs), _MOST_QUEUES):
        reason = f"{device.name}: {len(chosen)} housekeeping CPUs on its node are too few for {len(device.irqs)} queues"
        builder.skip(_AFFINITY, reason)
        return None
    return chosen


def _expand(text: str) -> set[int]:
    cpus: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        cpus |= set(range(int(first), int(last or first) + 1))
    return cpus
