"""Rows about memory, disks, interrupts and links, judged on machines that are values."""

from __future__ import annotations

import dataclasses

from tests.unit.facts_factory import (
    GIB,
    make_acs,
    make_cgroup,
    make_cpu,
    make_engine,
    make_facts,
    make_kernel,
    make_memory,
    make_nic,
    make_os,
    make_port,
    with_gpus,
)
from tests.unit.knob_cases import KNOBS, audit_knobs, files, find, found, judge, readings

from bedplate.model.facts.reading import known
from bedplate.plan.rules.formulas import FORMULAS
from bedplate.plan.rules.rule import Outcome


def test_dirty_data_is_judged_in_bytes() -> None:
    sysctls = {
        "vm_dirty_bytes": "0",
        "vm_dirty_ratio": "20",
        "vm_dirty_background_bytes": "0",
        "vm_dirty_background_ratio": "10",
    }
    large = make_memory(total_bytes=1024 * GIB, available_bytes=1000 * GIB)
    finding = found(make_facts(memory=large, knobs=files(**sysctls)), "io.dirty")
    assert "vm.dirty_ratio is 20 %, 200.0 GiB of the memory that is available; it should be at most 8.0 GiB" in finding.title
    assert "sysctl -w vm.dirty_background_ratio=10 vm.dirty_ratio=20" in finding.undo
    small = make_facts(memory=make_memory(total_bytes=16 * GIB), knobs=files(**sysctls))
    assert judge(small, "io.dirty").outcome is Outcome.DOES_NOT_APPLY
    limited = make_facts(memory=large, knobs=files(**(sysctls | {"vm_dirty_bytes": str(4 * GIB)})))
    assert judge(limited, "io.dirty").outcome is Outcome.HOLDS


def test_a_pool_of_huge_pages_that_nobody_uses_is_waste() -> None:
    unused = make_memory(huge_pages=((2 << 20, 8192, 8192),))
    used = make_memory(huge_pages=((2 << 20, 8192, 100),))
    knobs = files(vm_nr_hugepages="8192")
    finding = found(make_facts(memory=unused, knobs=knobs), "mem.hugetlb")
    assert "8192 pages of 2.0 MiB, 8192 free" in finding.title
    assert finding.undo == ("sysctl -w vm.nr_hugepages=8192",)
    assert judge(make_facts(memory=used, knobs=knobs), "mem.hugetlb").outcome is Outcome.HOLDS


def test_ports_that_redirect_are_named() -> None:
    facts = with_gpus(make_facts(), 2)
    port = make_port("0000:00:01.0", acs=known(make_acs(redirect=True), "config"))
    facts = dataclasses.replace(facts, pci=(port, *(device for device in facts.pci if device.address != port.address)))
    finding = found(facts, "pci.acs")
    assert finding.where == ("0000:00:01.0",)
    confidential = dataclasses.replace(facts, os=make_os(tee=known("tdx", "/proc/cpuinfo")))
    assert find(confidential, "pci.acs") is None
    modes = [dataclasses.replace(accelerator, confidential=known(True, "nvml")) for accelerator in facts.accelerators]
    assert find(dataclasses.replace(facts, accelerators=tuple(modes)), "pci.acs") is None


def test_interrupts_off_the_node_are_counted() -> None:
    nic = make_nic(irqs=((30, (0, 1)), (31, (6, 7)), (32, (2, 7))))
    finding = found(make_facts(network=(nic,)), "irq.affinity")
    assert finding.title == "eth0: 1 of 3 interrupts of eth0 are served off node 0"


def test_housekeeping_takes_whole_cores_of_each_node_first() -> None:
    cpu = make_cpu(nodes=2, cores_per_node=16, threads_per_core=2)
    assert FORMULAS["housekeeping_cpus"](make_facts(cpu=cpu)) == "0-2,16,32-34,48"  # ceil(0.1 * 32) = 4 cores
    with_gpu = with_gpus(make_facts(cpu=cpu), 1)  # on node 0: the third and fourth core come from node 1
    assert FORMULAS["housekeeping_cpus"](with_gpu) == "0,16-18,32,48-50"


def test_an_experiment_is_judged_and_is_no_finding() -> None:
    facts = make_facts(knobs=readings({"/sys/kernel/mm/transparent_hugepage/shmem_enabled": "always advise [never] deny"}))
    assert judge(facts, "mem.shmem-thp").outcome is Outcome.DOES_NOT_HOLD
    assert find(facts, "mem.shmem-thp") is None


def test_text_of_a_machine_is_quoted_in_commands() -> None:
    evil = "x'; rm -rf / #\n$(reboot)"
    knobs = (
        *readings({"/proc/sys/vm/overcommit_memory": "2", "/sys/kernel/mm/ksm/run": "1"}),
        *readings({"/etc/security/limits.conf": "* soft nofile 99999"}),
    )
    engine = make_engine(cgroup=make_cgroup(path=f"/{evil}.service", quota_cpus=known(1.0, "cpu.max")), oom_score_adj=0)
    kernel = make_kernel(cmdline=(f"isolcpus={evil}",))
    for finding in audit_knobs(make_facts(engines=(engine,), knobs=knobs, kernel=kernel), KNOBS):
        for line in (*finding.fix, *finding.undo):
            assert "\n" not in line
            if not line.startswith("#"):
                assert "; rm -rf" not in line.replace("'\"'\"'; rm -rf", "")
