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
            cpus=tuple(sorted(facts.cpu.cpus, key=lambda cpu: cpu.cpu)),
            governors=tuple(sorted(facts.cpu.governors, key=lambda governor: (-governor[1], governor[0]))),
            isolated=tuple(sorted(facts.cpu.isolated)),
        ),
        numa=replace(facts.numa, nodes=tuple(sorted(facts.numa.nodes, key=lambda node: node.node))),
        kernel=replace(
            facts.kernel,
            modules=tuple(sorted(facts.kernel.modules)),
            gpu_modules=tuple(sorted((release, tuple(sorted(found))) for release, found in facts.kernel.gpu_modules)),
        ),
        pci=tuple(sorted(facts.pci, key=lambda device: device.address)),
        accelerators=tuple(
            sorted(
                map(_accelerator, facts.accelerators),
                key=lambda accelerator: (accelerator.vendor, accelerator.index, accelerator.address or ""),
            )
        ),
        network=tuple(sorted(facts.network, key=lambda interface: interface.name)),
        blocks=tuple(sorted(facts.blocks, key=lambda device: device.name)),
        mounts=tuple(sorted(facts.mounts, key=lambda mount: (mount.point, mount.kind, mount.source))),
        limits=tuple(sorted(facts.limits, key=lambda limit: limit[0])),
        pressure=tuple(sorted(facts.pressure, key=lambda pressure: pressure.resource)),
        engines=tuple(sorted(map(_engine, facts.engines), key=lambda engine: engine.pid)),
        knobs=tuple(sorted(facts.knobs, key=lambda reading: reading.source)),
        problems=tuple(sorted(facts.problems, key=lambda problem: (problem.source, problem.message))),
        stack=replace(
            facts.stack,
            environments=tuple(sorted(facts.stack.environments, key=lambda environment: environment.path)),
            module_files=tuple(sorted(facts.stack.module_files, key=lambda module: module.path)),
            libraries=tuple(sorted(facts.stack.libraries, key=lambda library: library.name)),
        ),
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
