"""Facts in one order, so that findings do not depend on the one in which a reader or a recording gave them.

Only tuples whose order carries no meaning are sorted: not the arguments of a command line, nor the idle states of a CPU.
"""

from __future__ import annotations

from dataclasses import replace

from bedplate.model.facts.host import HostFacts
from bedplate.model.facts.pci import Accelerator
from bedplate.model.facts.system import EngineProcess


def in_order(facts: HostFacts) -> HostFacts:
    """The same facts, each list by what names its rows."""
    return replace(
        facts,
        cpu=replace(
            facts.cpu,
            cpus=tuple(sorted(facts.cpu.cpus, key=lambda one: one.cpu)),
            governors=tuple(sorted(facts.cpu.governors, key=lambda one: (-one[1], one[0]))),
            isolated=tuple(sorted(facts.cpu.isolated)),
        ),
        numa=replace(facts.numa, nodes=tuple(sorted(facts.numa.nodes, key=lambda one: one.node))),
        kernel=replace(
            facts.kernel,
            modules=tuple(sorted(facts.kernel.modules)),
            gpu_modules=tuple(sorted((release, tuple(sorted(found))) for release, found in facts.kernel.gpu_modules)),
        ),
        pci=tuple(sorted(facts.pci, key=lambda one: one.address)),
        accelerators=tuple(
            sorted(map(_accelerator, facts.accelerators), key=lambda one: (one.vendor, one.index, one.address or ""))
        ),
        network=tuple(sorted(facts.network, key=lambda one: one.name)),
        blocks=tuple(sorted(facts.blocks, key=lambda one: one.name)),
        mounts=tuple(sorted(facts.mounts, key=lambda one: (one.point, one.kind, one.source))),
        limits=tuple(sorted(facts.limits, key=lambda one: one[0])),
        pressure=tuple(sorted(facts.pressure, key=lambda one: one.resource)),
        engines=tuple(sorted(map(_engine, facts.engines), key=lambda one: one.pid)),
        knobs=tuple(sorted(facts.knobs, key=lambda one: one.source)),
        problems=tuple(sorted(facts.problems, key=lambda one: (one.source, one.message))),
    )


def _accelerator(one: Accelerator) -> Accelerator:
    return replace(
        one,
        throttle_reasons=tuple(sorted(one.throttle_reasons)),
        processes=tuple(sorted(one.processes)),
        peers=tuple(sorted(one.peers)),
    )


def _engine(one: EngineProcess) -> EngineProcess:
    return replace(
        one,
        threads=tuple(sorted(one.threads, key=lambda thread: thread.tid)),
        numa_bytes=tuple(sorted(one.numa_bytes)),
        limits=tuple(sorted(one.limits, key=lambda limit: limit[0])),
        devices=tuple(sorted(one.devices)),
        model_paths=tuple(sorted(one.model_paths)),
    )
