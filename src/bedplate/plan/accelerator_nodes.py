"""The NUMA nodes of the accelerators that engines use: what audit, knobs and plans bind to, decided once. Pure.

/dev/nvidia7 is the accelerator of that number. /dev/kfd and /dev/dri do not say which accelerators they stand for; where all
of the machine are on one node, they need not.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from bedplate.model.facts.host import HostFacts
from bedplate.model.facts.system import EngineProcess

_NVIDIA = re.compile(r"/dev/nvidia(\d{1,4})")


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceleratorNodes:
    """Nodes of accelerators, or the reason why they are not known."""

    nodes: tuple[int, ...]
    """Ascending; () without accelerators, and where they are not known."""
    unknown: str = ""
    """Why they are not known, a clause; "" where they are."""
    denied: bool = False
    """Whether another user would know."""

    @property
    def single(self) -> int | None:
        """The node that all of the accelerators are on; None where there is no such one, or it is not known."""
        return self.nodes[0] if len(self.nodes) == 1 else None


def find_accelerator_nodes(facts: HostFacts, engines: Iterable[EngineProcess]) -> AcceleratorNodes:
    """The nodes of the accelerators that these processes hold open, all together."""
    nodes: set[int] = set()
    for engine in engines:
        found = _nodes_of_one(facts, engine)
        if found.unknown:
            return found
        nodes |= set(found.nodes)
    return AcceleratorNodes(nodes=tuple(sorted(nodes)))


def _nodes_of_one(facts: HostFacts, engine: EngineProcess) -> AcceleratorNodes:
    who = f"{engine.engine} (pid {engine.pid})"
    if not engine.devices_known:
        return AcceleratorNodes(nodes=(), unknown=f"this user may not read which accelerators {who} uses", denied=True)
    if not engine.devices:
        return AcceleratorNodes(nodes=())
    by_address = {device.address: device.numa_node.value for device in facts.pci}
    numbers = {int(found[1]) for device in engine.devices if (found := _NVIDIA.fullmatch(device))}
    held = [
        accelerator
        for accelerator in facts.accelerators
        if not numbers or (accelerator.vendor == "nvidia" and accelerator.index in numbers)
    ]
    places = {by_address.get(accelerator.address or "") for accelerator in held}
    nodes = {node for node in places if node is not None and node >= 0}
    if len(held) < len(numbers) or nodes != places:
        return AcceleratorNodes(nodes=(), unknown=f"the node of the accelerators of {who} is unknown")
    if not numbers and len(nodes) != 1:
        return AcceleratorNodes(nodes=(), unknown=f"it is unknown which accelerators the device files of {who} belong to")
    return AcceleratorNodes(nodes=tuple(sorted(nodes)))
