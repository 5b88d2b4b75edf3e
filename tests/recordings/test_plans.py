"""What is planned for each recorded machine, as reviewed text: tests/golden/plan-NAME.txt.

A difference is to be read, and accepted by a person: BEDPLATE_ACCEPT=1 writes the text anew.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from bedplate.catalog.knobs import knob_configs, knob_paths, read_knobs
from bedplate.catalog.policies import find_policy, read_policies
from bedplate.host.facts import read_host
from bedplate.host.formats.foreign import read_foreign
from bedplate.host.kernel.groups import read_groups
from bedplate.host.root.recording import open_recording
from bedplate.model.facts.groups import Groups
from bedplate.model.tuning import Plan, Policy
from bedplate.plan.tune import plan_tuning
from tests.golden_file import compare
from tests.unit.test_plan_goldens import render

KNOBS, ROWS = read_knobs(), read_policies()
RECORDINGS = (
    "hwloc/20em64t-hybrid-1p6c2t+2ca4co1t.tar.bz2",
    "hwloc/32amd64-4s2n4c-cgroup2.tar.bz2",
    "hwloc/40intel64-2g2n4c+pcilocality.tar.bz2",
    "hwloc/64amd64-4s2n4ca2co.tar.bz2",
    "hwloc/nvidia-dgx-gb10.tar.bz2",
    "nccl-topo/azure-ndv5-h100-topo.xml",
    "nccl-topo/rccl-topo_8p_rome_4nics.xml",
    "procfs/fixtures.ttar.gz",
)

pytestmark = pytest.mark.data


def read(path: Path) -> Plan:
    facts = read_foreign(path)
    groups = Groups(version=0, mount="", controllers=(), systemd=None, groups=())
    if facts is None:
        root = open_recording(path)
        facts = read_host(root, knob_paths(KNOBS), origin=path.name, config_options=knob_configs(KNOBS))
        groups = read_groups(root)
    return plan_tuning(facts, groups, KNOBS, find_policy(Policy.SHARED_HOST, ROWS))


@pytest.mark.parametrize("name", RECORDINGS)
def test_the_plan_of_a_recording_is_the_reviewed_one(machines: Path, name: str) -> None:
    stem = name.rpartition("/")[2]
    for ending in (".gz", ".bz2", ".tar", ".ttar", ".xml"):
        stem = stem.removesuffix(ending)
    compare(f"plan-{stem}.txt", render(read(machines / name)))
