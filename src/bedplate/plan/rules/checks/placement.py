"""Where an engine's threads and memory are, seen from its accelerators, and CPUs that the scheduler was told to leave."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from bedplate.model.facts.finding import Confidence, Evidence, Severity
from bedplate.model.facts.host import HostFacts
from bedplate.model.facts.reading import Unknown
from bedplate.model.units import GIB, render_size
from bedplate.model.wording import plural, render_cpus
from bedplate.plan.accelerator_nodes import find_accelerator_nodes
from bedplate.plan.rules.observation import Observation, not_judged, seen, some
from bedplate.plan.rules.rule import Result
from bedplate.plan.rules.terms import accelerators, by_address, command_line_fix, deployments, has_parameter, is_virtual

_MANY_NODES = 4  # from here on wrong placement was published to cost a factor; with two nodes, percents
_REMOTE_SHARE = 0.25  # late binding leaves 22 % of the memory remote by itself (TensorRT-LLM PR #18117)


def check_threads_remote(facts: HostFacts) -> Iterator[Result]:
    """Threads of an engine that may not run on the node of its accelerator, or that may run on every node."""
    id = "numa.threads-remote"
    nodes = {node.node: node.cpus for node in facts.numa.nodes if node.cpus}
    if len(nodes) < 2:
        return
    for engine in sorted(facts.engines, key=lambda process: process.pid):
        found = find_accelerator_nodes(facts, (engine,))
        if found.unknown:
            yield not_judged(id=id, why=found.unknown)
        node = found.single
        if node is None or node not in nodes or not engine.threads:
            continue
        near = set(nodes[node])
        away = [thread for thread in engine.threads if thread.allowed and near.isdisjoint(thread.allowed)]
        roaming = [thread for thread in engine.threads if not near.issuperset(thread.allowed)]
        where, who = f"pid {engine.pid}", f"{engine.engine} (pid {engine.pid})"
        if away:
            yield Observation(
                id=id,
                severity=Severity.HIGH,
                because=f"{who}: {len(away)} of {len(engine.threads)} threads may not run on node {node} of its accelerator",
                where=(where, f"node {node}"),
                evidence=(
                    Evidence(
                        fact=f"CPUs {render_cpus(away[0].allowed)}", source=f"/proc/{engine.pid}/task/{away[0].tid}/status"
                    ),
                    Evidence(fact=f"node {node} has CPUs {render_cpus(nodes[node])}", source=facts.numa.source),
                ),
                fix=_bind(node),
                undo=("# Start it with its previous command.",),
                effect_percent=None if len(nodes) >= _MANY_NODES else 50.0,
            )
        elif roaming:
            yield Observation(
                id=id,
                severity=Severity.HIGH if len(nodes) >= _MANY_NODES else Severity.LOW,
                because=f"{who}: {len(roaming)} of {len(engine.threads)} threads may leave node {node} of its accelerator",
                where=(where, f"node {node}"),
                evidence=(
                    Evidence(
                        fact=f"CPUs {render_cpus(roaming[0].allowed)}",
                        source=f"/proc/{engine.pid}/task/{roaming[0].tid}/status",
                    ),
                    Evidence(fact=f"node {node} has CPUs {render_cpus(nodes[node])}", source=facts.numa.source),
                ),
                fix=_bind(node),
                undo=("# Start it with its previous command.",),
                confidence=Confidence.LIKELY if len(nodes) >= _MANY_NODES else Confidence.POSSIBLE,
                effect_percent=None if len(nodes) >= _MANY_NODES else 2.0,
            )


def check_memory_remote(facts: HostFacts) -> Iterator[Result]:
    """Memory of an engine on other nodes than its accelerator's."""
    id = "numa.memory-remote"
    if len(facts.numa.nodes) < 2:
        return
    for engine in sorted(facts.engines, key=lambda process: process.pid):
        node = find_accelerator_nodes(facts, (engine,)).single
        if node is None:
            continue  # said by the check of the threads
        where, who = f"pid {engine.pid}", f"{engine.engine} (pid {engine.pid})"
        if not engine.numa_bytes:
            yield not_judged(id=id, why=f"this user may not read on which nodes the memory of {who} is")
            continue
        total = sum(size for _, size in engine.numa_bytes)
        remote = sum(size for number, size in engine.numa_bytes if number != node)
        if remote >= GIB and remote > _REMOTE_SHARE * total:
            placed = ", ".join(f"node {number}: {render_size(size)}" for number, size in engine.numa_bytes)
            yield Observation(
                id=id,
                severity=Severity.MEDIUM,
                because=f"{who}: {remote / total:.0%} of its memory is not on node {node}, where its accelerator is",
                where=(where, f"node {node}"),
                evidence=(Evidence(fact=placed, source=f"/proc/{engine.pid}/numa_maps"),),
                fix=_bind(node),
                undo=("# Start it with its previous command.",),
                confidence=Confidence.LIKELY,
            )


def check_node_hidden(facts: HostFacts) -> Iterator[Result]:
    """Accelerators of which the firmware or hypervisor does not say where they are, on a machine where that matters."""
    if len([node for node in facts.numa.nodes if node.cpus]) < 2:
        return
    devices = by_address(facts)
    ends = [devices[accelerator.address] for accelerator in accelerators(facts) if accelerator.address in devices]
    hidden = [device for device in ends if device.numa_node.unknown is Unknown.HIDDEN]
    if hidden:
        yield Observation(
            id="numa.node-hidden",
            severity=Severity.LOW,
            because=(
                f"the NUMA node of {some(device.address for device in hidden)} is unknown, so engines cannot be"
                " placed near it"
            ),
            where=tuple(device.address for device in hidden),
            evidence=tuple(Evidence(fact="numa_node: -1", source=device.numa_node.source) for device in hidden[:2]),
            fix=(
                "# Ask the provider, or set it in the hypervisor (libvirt: a pcie-expander-bus with <node>)."
                if is_virtual(facts)
                else "# A newer BIOS may help, whose ACPI tables give the root ports a proximity domain (_PXM).",
                f"cat /sys/bus/pci/devices/{hidden[0].address}/local_cpulist",
            ),
        )


def check_exact_pins(facts: HostFacts) -> Iterator[Result]:
    """Threads of a GPU engine that may run on only one CPU. Engines on the CPU pin their computing threads by design."""
    for group in deployments(facts):
        if not group.devices:
            continue
        room = group.cgroup.cpus.value
        if room is not None and len(room) < 2:
            continue
        pinned = [thread for process in group.processes for thread in process.threads if len(thread.allowed) == 1]
        if not pinned:
            continue
        (cpu, most), *_ = Counter(thread.allowed[0] for thread in pinned).most_common(1)
        shared = f", {most} of them to CPU {cpu}" if most > 1 else ""
        yield Observation(
            id="cores.exact-pins",
            severity=Severity.HIGH if most > 1 else Severity.MEDIUM,
            because=f"{group.name}: {plural(len(pinned), 'thread')} pinned to single CPUs{shared}",
            where=group.where,
            evidence=tuple(
                Evidence(
                    fact=f"{thread.name or thread.tid}: CPU {thread.allowed[0]} only", source=f"/proc/{thread.tid}/status"
                )
                for thread in sorted(pinned, key=lambda thread: thread.tid)[:3]
            ),
            fix=(
                "# Remove taskset, numactl --physcpubind and GOMP_CPU_AFFINITY; bind to the node: numactl --cpunodebind=N",
            ),
            undo=("# Start it with its previous command.",),
            confidence=Confidence.LIKELY,
        )


def check_isolated(facts: HostFacts) -> Iterator[Result]:
    """CPUs that isolcpus= takes from the scheduler: what runs there is never balanced, and nothing else gets them."""
    word = has_parameter(facts, "isolcpus")
    if word is None and not facts.cpu.isolated:
        return
    evidence = [Evidence(fact=word, source="/proc/cmdline")] if word is not None else []
    if facts.cpu.isolated:
        isolated = f"isolated: {render_cpus(facts.cpu.isolated)}"
        evidence.append(Evidence(fact=isolated, source="/sys/devices/system/cpu/isolated"))
    fix = (
        command_line_fix(facts, word, take_out=True)
        if word
        else ("# Find the cpuset partition or the boot entry that does it.",)
    )
    yield Observation(
        id="cores.isolated",
        severity=Severity.HIGH if word is not None else Severity.MEDIUM,
        because=f"CPUs are isolated from the scheduler ({word or render_cpus(facts.cpu.isolated)})",
        where=("machine",),
        evidence=tuple(evidence),
        fix=(
            *fix,
            "# To keep other programs off the engine's CPUs, confine them: AllowedCPUs= of system.slice and user.slice.",
        ),
        undo=command_line_fix(facts, word) if word else ("# Nothing was changed.",),
        confidence=Confidence.LIKELY,
    )


def check_nodes_known(facts: HostFacts) -> Iterator[Result]:
    """Says that placement cannot be judged where the node of an accelerator was not read."""
    if len(facts.numa.nodes) < 2:
        return
    devices = by_address(facts)
    for accelerator in accelerators(facts):
        device = devices.get(accelerator.address or "")
        if device is not None and device.numa_node.value is None and device.numa_node.unknown is not Unknown.HIDDEN:
            yield not_judged(id="numa.node-hidden", why=seen(f"the node of {device.address}", device.numa_node).fact)


def _bind(node: int) -> tuple[str, ...]:
    return (
        "# Start the whole process tree bound to the node, not to single CPUs:",
        f"numactl --cpunodebind={node} --preferred={node} COMMAND",
        f"# In a unit: NUMAPolicy=preferred, NUMAMask={node}, AllowedCPUs= the CPUs of node {node}.",
    )
