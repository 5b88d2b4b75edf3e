"""Texts as operators paste them: what an expert finds in each, and the outputs of tools of the host.

The inputs are in tests/pasted, a directory for each kind.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.unit.pasted_cases import EXPECTED, MIB, TEXTS, by_id, facts_of, findings_of, names, read_bytes

from bedplate.errors import ReadError


def test_every_input_has_an_answer() -> None:
    assert set(names(TEXTS)) == set(EXPECTED)


@pytest.mark.parametrize("name", EXPECTED)
def test_the_findings_are_those_that_an_expert_names(name: str) -> None:
    assert {finding.id: (finding.severity, finding.where) for finding in findings_of(name)} == EXPECTED[name]


def test_plain_host_tools() -> None:
    nodes = facts_of("plain-host-tools/numactl.txt").numa.nodes
    assert [(node.cpus, node.mem_bytes, node.distances) for node in nodes] == [
        ((0, 1, 2, 3), 64000 * MIB, (10, 32)),
        ((4, 5, 6, 7), 0, (32, 10)),
    ]
    ports = facts_of("plain-host-tools/ibstat.txt").network
    assert [(port.name, port.port_state.value, port.speed_mbps.value) for port in ports] == [
        ("mlx5_0", "Active", 400_000),
        ("mlx5_1", "Down", None),
    ]
    disks = {disk.name: disk for disk in facts_of("plain-host-tools/lsblk.txt").blocks}
    assert {name: (disk.rotational.value, disk.transport, disk.mounts) for name, disk in disks.items()} == {
        "nvme0n1": (None, "nvme", ("/",)),
        "sda": (True, "other", ("/models",)),
    }
    finding = by_id("plain-host-tools/cpu.stat")["quota.throttled"]
    assert [(evidence.fact, evidence.source) for evidence in finding.evidence] == [
        ("throttled in 8000 of 10000 periods", "cpu.stat")
    ]


@pytest.mark.parametrize(
    ("command", "text", "total_bytes"),
    [
        ("free", "Mem:       131072000    1    1    1    1   100000\n", 131072000 << 10),
        ("free -m", "Mem:       128000    1    1    1    1   100000\n", 128000 << 20),
        ("free -g", "Mem:       125    1    1    1    1   100\n", 125 << 30),
        ("free -h", "Mem:       1.0Ti    1Gi    1Gi    1Mi    1Gi   100Gi\n", 1 << 40),
        ("", "Mem:       131072000    1    1    1    1   100000\n", 131072000 << 10),
        ("", "Mem:       128000    1    1    1    1   100000\n", 128000 << 20),
    ],
)
def test_free(command: str, text: str, total_bytes: int, tmp_path: Path) -> None:
    prompt = f"a@b:~$ {command}\n" if command else ""
    head = "              total        used        free      shared  buff/cache   available\n"
    assert read_bytes(f"{prompt}{head}{text}".encode(), tmp_path).memory.total_bytes == total_bytes


def test_free_without_a_unit_is_not_guessed(tmp_path: Path) -> None:
    head = "              total        used        free      shared  buff/cache   available\n"
    with pytest.raises(ReadError, match="unit"):
        read_bytes(f"{head}Mem:       4000000    1    1    1    1   100000\n".encode(), tmp_path)
