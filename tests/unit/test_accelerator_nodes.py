"""Which NUMA nodes the accelerators of engines are on: one decision, for the audit, the knobs and the plan."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.facts_factory import hidden, make_engine, make_facts, make_gpu, make_pci

from bedplate.model.facts.host import HostFacts
from bedplate.model.facts.reading import known
from bedplate.plan.accelerator_nodes import find_accelerator_nodes
from bedplate.plan.rules.checks.placement import check_threads_remote
from bedplate.plan.rules.observation import Observation

NVIDIA = ("/dev/nvidia0", "/dev/nvidiactl")
AMD = ("/dev/kfd", "/dev/dri/renderD128")


def machine(*nodes: int | None, vendor: str = "nvidia") -> HostFacts:
    """A machine of two nodes with an accelerator on each of these; None: the platform does not say."""
    addresses = [f"0000:{0x19 + 16 * index:02x}:00.0" for index in range(len(nodes))]
    return make_facts(
        pci=tuple(
            make_pci(address, numa_node=hidden("numa_node") if node is None else known(node, "numa_node"))
            for address, node in zip(addresses, nodes, strict=True)
        ),
        accelerators=tuple(make_gpu(index, address, vendor=vendor) for index, address in enumerate(addresses)),
    )


@pytest.mark.parametrize(
    ("nodes", "vendor", "engines", "expected", "unknown"),
    [
        ((0, 1), "nvidia", [{"devices": NVIDIA}], (0,), ""),
        ((0, 1), "nvidia", [{"devices": ("/dev/nvidia0", "/dev/nvidia1")}], (0, 1), ""),
        ((0, 1), "nvidia", [{"devices": NVIDIA}, {"devices": ("/dev/nvidia1",), "pid": 2}], (0, 1), ""),
        ((0, 1), "nvidia", [{"devices": ()}], (), ""),
        ((0, 1), "nvidia", [{"devices": (), "devices_known": False}], (), "may not read which accelerators vllm"),
        ((None, 1), "nvidia", [{"devices": NVIDIA}], (), "the node of the accelerators of vllm (pid 4711) is unknown"),
        ((-1, 1), "nvidia", [{"devices": NVIDIA}], (), "is unknown"),
        ((0,), "nvidia", [{"devices": ("/dev/nvidia0", "/dev/nvidia7")}], (), "is unknown"),
        ((1, 1), "amd", [{"devices": AMD}], (1,), ""),
        ((0, 1), "amd", [{"devices": AMD}], (), "which accelerators the device files of vllm"),
        ((), "amd", [{"devices": AMD}], (), "which accelerators the device files of vllm"),
    ],
)
def test_the_nodes_of_the_accelerators_that_engines_hold(
    nodes: tuple[int | None, ...], vendor: str, engines: list[dict[str, Any]], expected: tuple[int, ...], unknown: str
) -> None:
    found = find_accelerator_nodes(machine(*nodes, vendor=vendor), [make_engine(**changes) for changes in engines])
    assert found.nodes == expected
    assert unknown in found.unknown and bool(unknown) == bool(found.unknown)
    assert found.single == (expected[0] if len(expected) == 1 else None)


def test_the_audit_judges_threads_of_an_engine_that_the_plan_would_bind() -> None:
    """An engine with /dev/kfd on a machine whose accelerators share a node: the plan bound it, the audit knew no node."""
    facts = machine(1, 1, vendor="amd")
    engine = make_engine(devices=AMD)
    (result,) = check_threads_remote(make_facts(pci=facts.pci, accelerators=facts.accelerators, engines=(engine,)))
    assert isinstance(result, Observation) and "node 1 of its accelerator" in result.because
