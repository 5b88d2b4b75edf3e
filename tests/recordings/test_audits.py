"""What is found of each recorded machine, as reviewed text: tests/golden/audit-NAME.txt.

A difference is to be read, and accepted by a person: BEDPLATE_ACCEPT=1 writes the text anew.
"""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from bedplate.catalog.findings import read_findings
from bedplate.catalog.knobs import knob_configs, knob_paths, read_knobs
from bedplate.host.facts import read_host
from bedplate.host.formats.foreign import read_foreign
from bedplate.host.root.recording import open_recording
from bedplate.model.audit import Audit
from bedplate.model.facts.host import HostFacts
from bedplate.plan.audit import audit
from tests.golden_file import compare

pytestmark = pytest.mark.data

KNOBS, ROWS = read_knobs(), read_findings()
RECORDINGS = (
    "gpud/lspci-vvv.txt.gz",
    "hwloc/20em64t-hybrid-1p6c2t+2ca4co1t.tar.bz2",
    "hwloc/32amd64-4s2n4c-cgroup2.tar.bz2",
    "hwloc/32em64t-2n8c+dax+nvme+mic+dimms.tar.bz2",
    "hwloc/40intel64-2g2n4c+pcilocality.tar.bz2",
    "hwloc/64amd64-4s2n4ca2co.tar.bz2",
    "hwloc/nvidia-dgx-gb10.tar.bz2",
    "hwloc/nvidiaDGX2.xml",
    "hwloc/offline-cpu0-node0.tar.bz2",
    "nccl-topo/aws-p4de-24xl-topo.xml",
    "nccl-topo/azure-ndv5-h100-topo.xml",
    "nccl-topo/rccl-topo_8p1h_5.xml",
    "nccl-topo/rccl-topo_8p_940.xml",
    "nccl-topo/rccl-topo_8p_rome_4nics.xml",
    "nvidia-smi/a100-sxm4-v12.xml",
    "nvidia-smi/nvidia-h100-80gb-hbm3__590.48.01.txt",
    "nvidia-smi/nvidia-l40s__595.80.txt",
    "procfs/fixtures.ttar.gz",
    "rocm-smi/mi100_rocm602.json",
)


def read(path: Path) -> HostFacts:
    facts = read_foreign(path)
    if facts is None:
        root = open_recording(path)
        facts = read_host(root, knob_paths(KNOBS), origin=path.name, config_options=knob_configs(KNOBS))
    return facts


def judge(path: Path) -> Audit:
    return audit(read(path), KNOBS, ROWS, (), today="2026-11-24")


def render(found: Audit) -> str:
    """Findings with their evidence, then what could not be judged, without the knobs' long list of it."""
    lines: list[str] = []
    for finding in found.findings:
        lines += [
            f"{finding.severity} {finding.id} ({finding.confidence}, rank {finding.rank:g})",
            *_wrap(finding.title, "  "),
        ]
        lines += [f"  at {place}" for place in finding.where]
        lines += [f"  because {evidence.fact} [{evidence.source}]" for evidence in finding.evidence]
        lines.append("")
    lines.append("not judged:")
    for gap in found.not_judged:
        if not gap.id.startswith("knob."):
            lines += _wrap(f"{gap.id}: {gap.why}", "  ")
    return "\n".join(lines) + "\n"


def _wrap(text: str, indent: str) -> list[str]:
    return textwrap.wrap(text, 118, initial_indent=indent, subsequent_indent=indent + "  ", break_long_words=False)


@pytest.mark.parametrize("name", RECORDINGS)
def test_the_findings_of_a_recording_are_the_reviewed_ones(machines: Path, name: str) -> None:
    stem = name.rpartition("/")[2]
    for ending in (".gz", ".bz2", ".tar", ".ttar", ".txt", ".xml", ".json"):
        stem = stem.removesuffix(ending)
    compare(f"audit-{stem}.txt", render(judge(machines / name)))


def test_the_four_ports_that_redirect_are_named(machines: Path) -> None:
    """Those above the four NVSwitches of the 8xH100 server; its GPUs and cards have redirect off on every port."""
    found = judge(machines / "gpud/lspci-vvv.txt.gz")
    (finding,) = [finding for finding in found.findings if finding.id == "pci.acs-mixed"]
    assert finding.where == ("0000:82:00.0", "0000:82:01.0", "0000:82:02.0", "0000:82:03.0")
    assert sum(line.startswith("setpci -s 0000:82:0") for line in finding.fix) == 4
    assert any("disable_acs_redir=0000:82:00.0;0000:82:01.0;0000:82:02.0;0000:82:03.0" in line for line in finding.fix)


def test_no_recording_is_said_to_lose_its_accelerators(machines: Path) -> None:
    """None of these machines was broken when it was recorded."""
    for name in RECORDINGS:
        assert not [finding.id for finding in judge(machines / name).findings if finding.severity == "critical"], name
