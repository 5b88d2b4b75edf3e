"""Interrupts of network cards: on cores of their node that the engine's serial threads need least, and only on larger
hosts.

Too few CPUs for interrupts cost more than they disturb: a profile that starved them made a node three times slower (S1),
interrupts on a clean host cost 0.03 % (S14). Where irqbalance runs they are its business."""

from __future__ import annotations

from bedplate.model.facts.pci import NetworkDevice
from bedplate.model.knob_value import Parse
from bedplate.plan.knobs.terms import FORMULAS, render_cpus
from bedplate.plan.tune.confine import LEAST_CORES
from bedplate.plan.tune.draft import Draft

_MOST_QUEUES = 4  # CPUs that the interrupts of a card need at least, where it has so many queues
_MOST_IRQS = 256


def plan_interrupts(draft: Draft) -> None:
    """smp_affinity_list of each queue that may fire on another node's CPUs."""
    facts = draft.case.facts
    reason = ""
    if facts.cpu.cores < LEAST_CORES:
        reason = f"{facts.cpu.cores} cores are fewer than {LEAST_CORES}: interrupts go where there is room"
    elif "irqbalance" in facts.os.co_owners:
        reason = "irqbalance runs and places them; ban CPUs there (IRQBALANCE_BANNED_CPULIST), or stop it and plan again"
    elif not facts.accelerators:
        reason = "engines compute on all cores here: no core is quieter than another"
    if reason:
        draft.skip("irq.affinity", reason)
        return
    count = 0
    for device in facts.network:
        cpus = _cpus_for(draft, device)
        if cpus is None:
            continue
        for irq, allowed in device.irqs:
            count += 1
            if count <= _MOST_IRQS and allowed and not set(allowed) <= set(cpus):
                because = f"a queue of {device.name}, on housekeeping cores of its node {device.numa_node.value}"
                path = f"/proc/irq/{irq}/smp_affinity_list"
                old = render_cpus(allowed)
                draft.file(path, render_cpus(cpus), knob="irq.affinity", because=because, parse=Parse.WORDS, old=old)
    draft.skip(
        "irq.affinity", "holds already: no network interrupt fires off its node's housekeeping cores, or none is known"
    )


def _cpus_for(draft: Draft, device: NetworkDevice) -> tuple[int, ...] | None:
    """Housekeeping CPUs on the card's node; None and a reason where they are too few for its queues."""
    from_list = FORMULAS["housekeeping_cpus"](draft.case.facts)
    node = next((one for one in draft.case.facts.numa.nodes if one.node == device.numa_node.value), None)
    if from_list is None or node is None or not device.irqs:
        return None
    chosen = tuple(sorted(_expand(from_list) & set(node.cpus)))
    if len(chosen) < min(len(device.irqs), _MOST_QUEUES):
        reason = f"{device.name}: {len(chosen)} housekeeping CPUs on its node are too few for {len(device.irqs)} queues"
        draft.skip("irq.affinity", reason)
        return None
    return chosen


def _expand(text: str) -> set[int]:
    cpus: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        cpus |= set(range(int(first), int(last or first) + 1))
    return cpus
