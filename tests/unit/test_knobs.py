"""Rows judged on machines that are values: what is concluded, the commands, and that order and repetition change nothing."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.unit.facts_factory import (
    GIB,
    denied,
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
    make_thread,
    not_recorded,
    with_gpus,
)

from bedplate.catalog.knobs import knob_paths, read_knobs
from bedplate.model.facts.finding import Confidence, Finding, Severity
from bedplate.model.facts.host import HostFacts
from bedplate.model.facts.reading import Reading, Unknown, known, missing
from bedplate.model.knob import Judgement, Outcome
from bedplate.plan.knobs import CONDITIONS, FORMULAS, audit_knobs, judge_knobs
from bedplate.plan.knobs.files import KnobFiles, parameters

KNOBS = read_knobs()
CPUFREQ = "/sys/devices/system/cpu/cpufreq"
IN_SLICE = make_cgroup(path="/inference.slice/vllm.service")


def files(**texts: str | Unknown) -> tuple[Reading[str], ...]:
    """Readings of sysctls, vm_swappiness="60"; None of a name that begins with "_"."""
    return readings({f"/proc/sys/{name.replace('_', '/', 1)}": text for name, text in texts.items()})


def readings(texts: dict[str, str | Unknown]) -> tuple[Reading[str], ...]:
    return tuple(missing(text, path) if isinstance(text, Unknown) else known(text, path) for path, text in texts.items())


def judge(facts: HostFacts, id: str) -> Judgement:
    return next(one for one in judge_knobs(facts, KNOBS) if one.knob == id)


def find(facts: HostFacts, id: str) -> Finding | None:
    return next((one for one in audit_knobs(facts, KNOBS) if one.id == f"knob.{id}"), None)


def found(facts: HostFacts, id: str) -> Finding:
    finding = find(facts, id)
    assert finding is not None, judge(facts, id)
    return finding


def test_every_row_is_judged_once_in_its_order() -> None:
    judged = judge_knobs(make_facts(), KNOBS)
    assert [one.knob for one in judged] == [one.id for one in KNOBS]
    assert all(one.because for one in judged)


def test_a_machine_of_which_nothing_was_read_has_no_finding_about_its_files() -> None:
    facts = make_facts(kernel=make_kernel(cmdline=(), config=()), os=make_os(init=not_recorded()))
    assert [one.id for one in audit_knobs(facts, KNOBS)] == []
    outcomes = {one.knob: one.outcome for one in judge_knobs(facts, KNOBS)}
    assert outcomes["cpu.isolcpus"] is Outcome.UNKNOWN
    assert outcomes["mem.swappiness"] is Outcome.UNKNOWN
    assert outcomes["cpu.max"] is Outcome.UNKNOWN
    assert Outcome.HOLDS not in {outcomes[id] for id in ("mem.thp", "hk.psi", "numa.zone_reclaim", "sec.mitigations")}


def test_a_sysctl_that_does_not_hold_is_a_finding_with_fix_and_undo() -> None:
    finding = found(make_facts(knobs=files(vm_zone_reclaim_mode="1")), "numa.zone_reclaim")
    assert finding.title == "vm.zone_reclaim_mode is 1; it should be 0"
    assert finding.where == ("/proc/sys/vm/zone_reclaim_mode",)
    assert finding.evidence[0].source == "/proc/sys/vm/zone_reclaim_mode"
    assert finding.fix == (
        "sysctl -w vm.zone_reclaim_mode=0",
        "printf '%s\\n' 'vm.zone_reclaim_mode = 0' > /etc/sysctl.d/80-bedplate-numa-zone-reclaim.conf",
    )
    assert finding.undo == (
        "sysctl -w vm.zone_reclaim_mode=1",
        "rm /etc/sysctl.d/80-bedplate-numa-zone-reclaim.conf",
    )
    assert (finding.severity, finding.confidence) == (Severity.LOW, Confidence.POSSIBLE)
    assert "S28: Linux kernel documentation" in finding.effect


@pytest.mark.parametrize(
    ("reading", "outcome"),
    [
        (known("0", "/proc/sys/vm/zone_reclaim_mode"), Outcome.HOLDS),
        (known("1", "/proc/sys/vm/zone_reclaim_mode"), Outcome.DOES_NOT_HOLD),
        (known("one", "/proc/sys/vm/zone_reclaim_mode"), Outcome.UNKNOWN),
        (missing(Unknown.DENIED, "/proc/sys/vm/zone_reclaim_mode"), Outcome.UNKNOWN),
        (missing(Unknown.NOT_RECORDED, "/proc/sys/vm/zone_reclaim_mode"), Outcome.UNKNOWN),
        (missing(Unknown.MALFORMED, "/proc/sys/vm/zone_reclaim_mode"), Outcome.UNKNOWN),
        (missing(Unknown.ABSENT, "/proc/sys/vm/zone_reclaim_mode"), Outcome.DOES_NOT_APPLY),
    ],
)
def test_unknown_never_looks_like_an_answer(reading: Reading[str], outcome: Outcome) -> None:
    facts = make_facts(knobs=(reading,))
    assert judge(facts, "numa.zone_reclaim").outcome is outcome
    assert judge(facts, "cargo.zone-reclaim").outcome is outcome  # has no check of its own
    assert (find(facts, "numa.zone_reclaim") is not None) == (outcome is Outcome.DOES_NOT_HOLD)
    assert find(facts, "cargo.zone-reclaim") is None


def test_a_setting_that_the_kernel_does_not_have_is_dead_and_no_error() -> None:
    conf = "kernel.sched_latency_ns = 1\n# kernel.sched_x = 2\n-kernel/sched_min_granularity_ns=3\nbroken line\n"
    facts = make_facts(
        knobs=(
            *files(kernel_sched_latency_ns=Unknown.ABSENT, kernel_sched_min_granularity_ns=Unknown.ABSENT),
            *readings({"/etc/sysctl.d/99-h100.conf": conf, "/usr/lib/sysctl.d/10-a.conf": "vm.swappiness=1"}),
        )
    )
    finding = found(facts, "cpu.cfs-sysctls")
    assert finding.title.startswith("kernel.sched_latency_ns, kernel.sched_min_granularity_ns: set at boot")
    assert (finding.severity, finding.confidence) == (Severity.LOW, Confidence.CERTAIN)
    assert finding.where == ("/etc/sysctl.d/99-h100.conf",)
    names = ("kernel[./]sched_latency_ns", "kernel[./]sched_min_granularity_ns")
    delete = [f"-e '/^[[:space:]]*-*{name}[[:space:]]*=/d'" for name in names]
    assert finding.fix == (f"sed -i.bedplate {' '.join(delete)} /etc/sysctl.d/99-h100.conf",)
    assert finding.undo == ("mv /etc/sysctl.d/99-h100.conf.bedplate /etc/sysctl.d/99-h100.conf",)
    assert find(facts, "cargo.cfs-sysctls") is None


@pytest.mark.parametrize(
    ("path", "text", "dead"),
    [
        ("/etc/sysctl.d/a.conf", "vm.defrag_mode=1", True),
        ("/etc/sysctl.conf", "vm/defrag_mode = 1", True),
        ("/etc/sysctl.d/a.conf", "#vm.defrag_mode=1", False),
        ("/etc/sysctl.d/a.conf", "vm.defrag_mode", False),
        ("/etc/sysctl.d/a.conf", "vm.*=1", False),  # a glob sets what is there
        ("/etc/sysctl.d/a.txt", "vm.defrag_mode=1", False),
    ],
)
def test_dead_settings_are_told_by_what_sysctl_reads(path: str, text: str, dead: bool) -> None:
    facts = make_facts(knobs=(*files(vm_defrag_mode=Unknown.ABSENT), *readings({path: text})))
    assert (find(facts, "mem.compaction") is not None) == dead


def test_a_dead_setting_on_the_kernel_command_line_is_found() -> None:
    facts = make_facts(
        knobs=files(vm_defrag_mode=Unknown.ABSENT), kernel=make_kernel(cmdline=("ro", "sysctl.vm.defrag_mode=1"))
    )
    assert found(facts, "mem.compaction").fix == ("# Take sysctl.vm.defrag_mode off the kernel command line.",)


def test_what_is_masked_in_usr_lib_is_not_set() -> None:
    texts: dict[str, str | Unknown] = {
        "/usr/lib/sysctl.d/50-x.conf": "vm.swappiness=1",
        "/etc/sysctl.d/50-x.conf": "vm.swappiness=60",
        "/etc/sysctl.d/10-y.conf": "vm.swappiness=10",
    }
    set_at_boot = KnobFiles(make_facts(knobs=readings(texts))).set_at_boot("/proc/sys/vm/swappiness")
    assert [(one.value, one.source) for one in set_at_boot] == [
        ("10", "/etc/sysctl.d/10-y.conf"),
        ("60", "/etc/sysctl.d/50-x.conf"),
    ]


def test_network_sysctls_that_a_container_does_not_show_are_not_called_dead() -> None:
    knobs = (*files(net_core=Unknown.ABSENT), *readings({"/etc/sysctl.d/a.conf": "net.core.busy_poll=50"}))
    knobs += readings({"/proc/sys/net/core/busy_poll": Unknown.ABSENT})
    container = make_os(container=known("docker", "/.dockerenv"))
    assert find(make_facts(knobs=knobs, os=container), "net.busypoll") is None
    assert find(make_facts(knobs=knobs), "net.busypoll") is not None


def test_a_line_that_sets_the_wrong_value_at_boot_is_named() -> None:
    texts: dict[str, str | Unknown] = {
        "/proc/sys/vm/swappiness": "1",
        "/etc/sysctl.d/99-ai.conf": "vm.swappiness=1",
    }
    fix = found(make_facts(knobs=readings(texts)), "mem.swappiness").fix
    assert fix[0] == "sysctl -w vm.swappiness=60"
    assert "# At boot /etc/sysctl.d/99-ai.conf sets it to 1: change that line." in fix


@pytest.mark.parametrize(
    ("cmdline", "id"),
    [
        ("isolcpus=0,1,48,49", "cpu.isolcpus"),
        ("nohz_full=2-9", "cpu.nohz_full"),
        ("rcu-nocbs=2-9", "cpu.nohz_full"),
        ("idle=poll", "pwr.idlepoll"),
        ("intel_idle.max_cstate=0", "pwr.idlepoll"),
        ("processor.max_cstate=1", "pwr.idlepoll"),
        ("mitigations=off", "sec.mitigations"),
        ("mitigations=auto,off", "sec.mitigations"),
        ("tsc=reliable", "hk.watchdog"),
        ("audit=0", "hk.watchdog"),
        ("init_on_alloc=0", "mem.init_on_alloc"),
        ("transparent_hugepage=never", "cargo.thp-never"),
        ("iommu.strict=1", "pci.iommu-strict"),
    ],
)
def test_a_parameter_of_the_kernel_is_found(cmdline: str, id: str) -> None:
    facts = make_facts(kernel=make_kernel(cmdline=("ro", cmdline)), memory=make_memory(thp=known("never", "/sys")))
    finding = found(facts, id)
    assert cmdline in finding.title
    assert any(cmdline in line for line in (*finding.fix, *finding.undo))
    assert "reboot" in finding.fix[-1]


@pytest.mark.parametrize(
    "cmdline",
    ["mitigations=auto", "idle=nomwait", "intel_idle.max_cstate=9", "init_on_alloc=1", "-- isolcpus=1", "xisolcpus=1"],
)
def test_a_parameter_that_is_right_or_another_is_not(cmdline: str) -> None:
    facts = make_facts(kernel=make_kernel(cmdline=("ro", *cmdline.split())))
    assert audit_knobs(facts, KNOBS) == audit_knobs(make_facts(), KNOBS)


def test_the_published_factor_of_isolcpus_makes_it_the_first_finding() -> None:
    facts = make_facts(
        kernel=make_kernel(cmdline=("isolcpus=0,1",)), knobs=files(vm_zone_reclaim_mode="1", vm_max_map_count="65530")
    )
    first = audit_knobs(facts, KNOBS)[0]
    assert (first.id, first.severity) == ("knob.cpu.isolcpus", Severity.HIGH)
    assert first.title == "isolcpus=0,1 is on the kernel command line"
    assert "148,344" in first.effect


@pytest.mark.parametrize(
    ("distribution", "fix"),
    [
        ("debian", "update-grub"),
        ("rocky", "grubby --update-kernel=ALL --remove-args=isolcpus=0,1"),
        ("", "# In the boot loader's kernel command line take isolcpus=0,1 out."),
    ],
)
def test_the_command_line_is_changed_as_the_distribution_does(distribution: str, fix: str) -> None:
    facts = make_facts(kernel=make_kernel(cmdline=("isolcpus=0,1",)), os=make_os(id=distribution))
    assert fix in found(facts, "cpu.isolcpus").fix


def test_preempt_none_is_dead_from_kernel_7_on_only() -> None:
    cmdline = ("preempt=none",)
    old = make_facts(kernel=make_kernel(cmdline=cmdline))
    new = make_facts(kernel=make_kernel(cmdline=cmdline, release=known("7.3.4-amd64", "/proc/sys/kernel/osrelease")))
    assert judge(old, "cpu.preempt").outcome is Outcome.DOES_NOT_APPLY
    assert found(new, "cpu.preempt").title == "preempt=none is on the kernel command line; it should be lazy or full"
    assert find(new, "cargo.preempt-none") is None  # told once


def policies(
    count: int, governor: str, preference: str | None = None, driver: str = "intel_pstate"
) -> dict[str, str | Unknown]:
    texts: dict[str, str | Unknown] = {}
    for policy in range(count):
        texts[f"{CPUFREQ}/policy{policy}/scaling_governor"] = governor
        texts[f"{CPUFREQ}/policy{policy}/scaling_driver"] = driver
        if preference is not None:
            texts[f"{CPUFREQ}/policy{policy}/energy_performance_preference"] = preference
    return texts


@pytest.mark.parametrize(
    ("governor", "preference", "driver", "good"),
    [
        ("performance", None, "acpi-cpufreq", True),
        ("schedutil", None, "acpi-cpufreq", False),
        ("powersave", "performance", "intel_pstate", True),
        ("powersave", "balance_performance", "amd-pstate-epp", False),
        ("powersave", "performance", "acpi-cpufreq", False),
    ],
)
def test_an_active_driver_is_judged_by_its_energy_preference(
    governor: str, preference: str | None, driver: str, good: bool
) -> None:
    facts = make_facts(knobs=readings(policies(12, governor, preference, driver)))
    outcome = judge(facts, "pwr.governor").outcome
    assert outcome is (Outcome.HOLDS if good else Outcome.DOES_NOT_HOLD)


def test_many_files_of_one_value_are_set_by_one_glob_and_undone_by_value() -> None:
    texts = policies(12, "schedutil", driver="acpi-cpufreq")
    texts[f"{CPUFREQ}/policy3/scaling_governor"] = "ondemand"
    finding = found(make_facts(knobs=readings(texts)), "pwr.governor")
    assert finding.fix[0] == f'for f in {CPUFREQ}/policy*/scaling_governor; do echo performance > "$f"; done'
    assert finding.undo[0].startswith(f"for f in {CPUFREQ}/policy0/scaling_governor {CPUFREQ}/policy1/")
    assert finding.undo[1] == f"echo ondemand > {CPUFREQ}/policy3/scaling_governor"
    assert finding.where[2:4] == (f"{CPUFREQ}/policy2/scaling_governor", f"{CPUFREQ}/policy3/scaling_governor")


def test_a_virtual_machine_has_no_say_in_the_governor() -> None:
    knobs = readings(policies(1, "schedutil", driver="acpi-cpufreq"))
    guest = make_facts(knobs=knobs, os=make_os(virtualisation=known("kvm", "/sys/hypervisor")))
    unknown = make_facts(knobs=knobs, os=make_os(virtualisation=denied()))
    assert judge(guest, "pwr.governor").outcome is Outcome.DOES_NOT_APPLY
    assert judge(unknown, "pwr.governor").outcome is Outcome.UNKNOWN
    assert find(guest, "pwr.governor") is None and find(unknown, "pwr.governor") is None


def test_a_choice_is_understood_and_written_back() -> None:
    path = "/sys/kernel/mm/transparent_hugepage/enabled"
    facts = make_facts(knobs=readings({path: "always madvise [never]"}))
    finding = found(facts, "mem.thp")
    assert finding.title == f"{path} is never; it should be madvise or always"
    assert finding.undo[0] == f"echo never > {path}"


def test_huge_pages_refused_at_boot_and_offered_since_are_no_finding() -> None:
    kernel = make_kernel(cmdline=("transparent_hugepage=never",))
    offered = make_memory(thp=known("madvise", "/sys/kernel/mm/transparent_hugepage/enabled"))
    assert find(make_facts(kernel=kernel, memory=offered), "cargo.thp-never") is None
    found(make_facts(kernel=kernel, memory=make_memory(thp=known("never", "/sys"))), "cargo.thp-never")


def test_pressure_that_is_not_there_is_a_finding() -> None:
    texts: dict[str, str | Unknown] = {f"/proc/pressure/{name}": Unknown.ABSENT for name in ("cpu", "memory", "io")}
    finding = found(make_facts(knobs=readings(texts)), "hk.psi")
    assert finding.fix == ("# Add psi=1 to the kernel command line and reboot.",)


def test_what_needs_root_is_told_where_the_row_says_so() -> None:
    facts = with_gpus(make_facts(), 1, persistence=denied("nvml:(0)"))
    finding = found(facts, "gpu.persist")
    assert finding.severity is Severity.INFO
    assert finding.title.startswith("Persistence mode: could not be judged: ")


def test_what_a_recording_does_not_hold_is_no_finding() -> None:
    facts = with_gpus(make_facts(), 1, persistence=not_recorded())
    assert judge(facts, "gpu.persist").outcome is Outcome.UNKNOWN
    assert find(facts, "gpu.persist") is None


def test_persistence_off_names_each_gpu() -> None:
    facts = with_gpus(make_facts(), 2, persistence=known(False, "nvml"))
    finding = found(facts, "gpu.persist")
    assert finding.where == ("0000:10:00.0", "0000:11:00.0")
    assert finding.fix == ("systemctl enable --now nvidia-persistenced.service",)


# -- engines


def test_engine_rows_do_not_apply_without_an_engine() -> None:
    for id in ("cpu.max", "mem.oomscore", "cpu.rt-policy", "net.limits"):
        assert judge(make_facts(knobs=files(kernel_pid_max="4194304")), id).outcome in (
            Outcome.DOES_NOT_APPLY,
            Outcome.HOLDS,
        )


@pytest.mark.parametrize(
    ("changes", "id", "words"),
    [
        ({"cgroup": make_cgroup(quota_cpus=known(4.0, "cpu.max"))}, "cpu.max", "a quota of 4.0 CPUs"),
        ({"cgroup": make_cgroup(throttled_periods=known(17, "cpu.stat"))}, "cpu.max", "throttled in 17 periods"),
        ({"threads": (make_thread(1, policy="fifo"),)}, "cpu.rt-policy", "1 of 1 threads run at real-time priority"),
        (
            {"threads": (make_thread(1, (3,)), make_thread(2))},
            "cpu.exact-core-pin",
            "1 of 2 threads may run on one CPU only",
        ),
        ({"oom_score_adj": 0}, "mem.oomscore", "oom_score_adj is 0"),
        ({"oom_score_adj": -1000}, "mem.oomscore", "oom_score_adj is -1000"),
        ({"limits": (("nofile", 1024), ("memlock", None))}, "net.limits", "its limit nofile is 1024"),
        (
            {"cgroup": make_cgroup(memory_max_bytes=known(8 * GIB, "memory.max"))},
            "mem.max-engine",
            "a limit of 8.0 GiB, 1.00 times its resident memory",
        ),
    ],
)
def test_an_engine_that_is_set_up_wrongly_is_named(changes: dict[str, Any], id: str, words: str) -> None:
    finding = found(make_facts(engines=(make_engine(**changes),)), id)
    assert finding.where == ("pid 4711 (vllm)",)
    assert words in finding.title
    assert finding.fix and finding.undo


@pytest.mark.parametrize(
    ("changes", "id"),
    [
        ({"threads": ()}, "cpu.rt-policy"),
        ({"threads": ()}, "cpu.exact-core-pin"),
        ({"limits": ()}, "net.limits"),
        ({"cgroup": make_cgroup(throttled_periods=denied())}, "cpu.max"),
        ({"cgroup": make_cgroup(memory_max_bytes=known(100 * GIB, "memory.max"))}, "mem.max-engine"),
    ],
)
def test_what_could_not_be_read_of_an_engine_is_unknown(changes: dict[str, Any], id: str) -> None:
    knobs = files(kernel_pid_max="4194304")
    facts = make_facts(engines=(make_engine(**changes),), knobs=knobs)
    assert judge(facts, id).outcome is Outcome.UNKNOWN
    assert find(facts, id) is None


def test_a_thread_in_a_cgroup_of_one_cpu_is_not_pinned() -> None:
    one = make_engine(cgroup=make_cgroup(cpus=known((3,), "cpuset.cpus.effective")), threads=(make_thread(1, (3,)),))
    assert judge(make_facts(engines=(one,)), "cpu.exact-core-pin").outcome is Outcome.HOLDS


def test_threads_off_the_node_of_the_accelerator_are_found() -> None:
    facts = dataclasses.replace(with_gpus(make_facts(), 2), engines=(make_engine(),))
    finding = found(facts, "cpu.numa-domain-affinity")
    assert finding.title == "pid 4711 (vllm): 4 of 4 threads may run off node 0, where its accelerator is"
    near = make_engine(threads=(make_thread(1, (0, 1, 2, 3)),))
    assert judge(dataclasses.replace(facts, engines=(near,)), "cpu.numa-domain-affinity").outcome is Outcome.HOLDS


def test_numa_balancing_is_judged_only_where_the_engine_is_bound() -> None:
    knobs = files(kernel_numa_balancing="1")
    bound = make_engine(threads=(make_thread(1, (0, 1)),))
    assert judge(make_facts(knobs=knobs, engines=(make_engine(),)), "numa.balancing").outcome is Outcome.DOES_NOT_APPLY
    assert judge(make_facts(knobs=knobs, engines=(bound,)), "numa.balancing").outcome is Outcome.DOES_NOT_HOLD
    unread = make_engine(threads=())
    assert judge(make_facts(knobs=knobs, engines=(unread,)), "numa.balancing").outcome is Outcome.UNKNOWN


def test_cores_are_counted_against_the_engines_formula() -> None:
    narrow = make_cgroup(cpus=known((0, 1, 2, 3), "cpuset.cpus.effective"))
    facts = dataclasses.replace(with_gpus(make_facts(), 4), engines=(make_engine(cgroup=narrow),))
    finding = found(facts, "cpu.provision")
    assert finding.title == "pid 4711 (vllm): 4 physical cores; it should be at least 6"
    assert FORMULAS["provision_cores"](facts) == "9"
    ranks = make_engine(argv=("vllm", "serve", "m", "--data-parallel-size=2", "--api-server-count", "4"))
    assert FORMULAS["need_cores"](dataclasses.replace(facts, engines=(ranks,))) == str(4 + 2 + 4 + 1)


def test_the_memory_floor_of_the_engine_is_its_working_set_and_a_tenth() -> None:
    path = "/sys/fs/cgroup/inference.slice/memory.low"
    facts = make_facts(engines=(make_engine(cgroup=IN_SLICE),), knobs=readings({path: "0"}))
    finding = found(facts, "mem.low")
    want = int(1.1 * 8 * GIB)
    assert finding.fix == (f"systemctl set-property inference.slice MemoryLow={want}",)
    assert finding.undo == ("systemctl set-property inference.slice MemoryLow=0",)
    elsewhere = dataclasses.replace(facts, engines=(make_engine(),))
    assert judge(elsewhere, "mem.low").outcome is Outcome.DOES_NOT_APPLY


def test_confining_system_slice_is_not_advised_where_the_engine_is_in_it() -> None:
    knobs = readings({"/sys/fs/cgroup/system.slice/cpuset.cpus.effective": "0-7"})
    inside = make_facts(knobs=knobs, engines=(make_engine(),))
    beside = make_facts(knobs=knobs, engines=(make_engine(cgroup=IN_SLICE),))
    assert find(inside, "cpu.confine-neighbours") is None
    finding = found(beside, "cpu.confine-neighbours")
    assert finding.fix == ("systemctl set-property system.slice AllowedCPUs=0,4",)
    assert finding.undo == ("systemctl set-property system.slice AllowedCPUs=0-7",)


def test_a_model_mapped_from_a_network_file_system_is_found() -> None:
    mount = dataclasses.replace(make_facts().mounts[0], point="/models", source="nas:/models", kind="nfs4")
    facts = make_facts(engines=(make_engine(),), mounts=(*make_facts().mounts, mount))
    assert "is on nfs4" in found(facts, "io.loader").title
    told = make_engine(argv=("vllm", "serve", "/models/llama-8b", "--safetensors-load-strategy", "eager"))
    assert judge(dataclasses.replace(facts, engines=(told,)), "io.loader").outcome is Outcome.HOLDS


def test_what_another_finding_tells_is_not_said_again() -> None:
    engine = make_engine(limits=(("nofile", 1024), ("memlock", None)))
    facts = make_facts(engines=(engine,), kernel=make_kernel(cmdline=("isolcpus=1",)), knobs=files(kernel_pid_max="32768"))
    ids = [one.id for one in audit_knobs(facts, KNOBS, told={"cores.isolated", "limit.nofile"})]
    assert "knob.cpu.isolcpus" not in ids
    (limits,) = (one for one in audit_knobs(facts, KNOBS, told={"limit.nofile"}) if one.id == "knob.net.limits")
    assert limits.where == ("/proc/sys/kernel/pid_max",)
    assert not any("nofile" in line.lower() for line in (limits.title, *limits.fix))
    assert set(ids) | {"knob.cpu.isolcpus"} == {one.id for one in audit_knobs(facts, KNOBS)}


# -- machine and devices


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
    facts = dataclasses.replace(facts, pci=(port, *(one for one in facts.pci if one.address != port.address)))
    finding = found(facts, "pci.acs")
    assert finding.where == ("0000:00:01.0",)
    confidential = dataclasses.replace(facts, os=make_os(tee=known("tdx", "/proc/cpuinfo")))
    assert find(confidential, "pci.acs") is None


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


# -- properties

TEXTS = st.sampled_from(
    ["0", "1", "2", "60", "max", "", "always [madvise] never", "none", "0-3,8", "x y", "performance", "\0"]
)


@st.composite
def machines(draw: st.DrawFn) -> HostFacts:
    """Machines with any text in any file of the catalog, and some that could not be read."""
    paths = [path.replace("*", name) for path in knob_paths(KNOBS) for name in (("a", "b") if "*" in path else ("",))]
    knobs = tuple(
        missing(draw(st.sampled_from(list(Unknown))), path) if draw(st.booleans()) else known(draw(TEXTS), path)
        for path in draw(st.lists(st.sampled_from(paths), max_size=40))
    )
    more: dict[str, Any] = {"model_paths": ("/models/a", "/models/b"), "numa_bytes": ((0, GIB), (1, GIB))}
    engines = tuple(make_engine(pid=pid, **more) for pid in draw(st.lists(st.integers(1, 9), max_size=3, unique=True)))
    words = st.sampled_from(["isolcpus=1", "quiet", "mitigations=off", "preempt=none", "sysctl.vm.defrag_mode=1", "audit=0"])
    facts = make_facts(knobs=knobs, engines=engines, kernel=make_kernel(cmdline=tuple(draw(st.lists(words, max_size=3)))))
    nics = tuple(make_nic(name, irqs=((1, (0,)), (2, (7,)))) for name in draw(st.permutations(["a", "b"])))
    return dataclasses.replace(with_gpus(facts, draw(st.integers(0, 3))), network=nics)


def shuffled(facts: HostFacts, random: Any) -> HostFacts:
    def mix(values: tuple[Any, ...]) -> tuple[Any, ...]:
        mixed = list(values)
        random.shuffle(mixed)
        return tuple(mixed)

    names = ("knobs", "engines", "network", "pci", "accelerators", "blocks", "mounts")
    inner = ("threads", "numa_bytes", "limits", "model_paths")
    changes: list[dict[str, Any]] = [{name: mix(getattr(one, name)) for name in inner} for one in facts.engines]
    engines = tuple(dataclasses.replace(one, **change) for one, change in zip(facts.engines, changes, strict=True))
    facts = dataclasses.replace(facts, engines=engines)
    mixed: dict[str, Any] = {name: mix(getattr(facts, name)) for name in names}
    return dataclasses.replace(facts, **mixed)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(machines(), st.randoms(use_true_random=False))
def test_order_of_facts_does_not_matter_and_twice_gives_the_same(facts: HostFacts, random: Any) -> None:
    judged, findings = judge_knobs(facts, KNOBS), audit_knobs(facts, KNOBS)
    other = shuffled(facts, random)
    assert judge_knobs(other, KNOBS) == judged == judge_knobs(facts, KNOBS)
    assert audit_knobs(other, KNOBS) == findings == audit_knobs(facts, KNOBS)
    assert [one.knob for one in judged] == [one.id for one in KNOBS]
    for one in findings:
        assert one.fix and one.undo and one.where and one.title and one.effect
        assert not any("{" in line and "}" in line for line in (*one.fix, *one.undo))


@given(st.lists(st.text(max_size=20), max_size=5))
def test_any_command_line_is_read(words: list[str]) -> None:
    for one in parameters(words, "isolcpus"):
        assert (one.value is None) == (one.unknown is not None)


def test_every_condition_answers_on_every_machine_with_a_reason() -> None:
    blank = make_facts(
        cpu=make_cpu(cpus=(), caches=(), flags=(), architecture="", governors=()),
        memory=make_memory(total_bytes=0, available_bytes=0, swap_total_bytes=0),
        os=make_os(init=not_recorded(), virtualisation=not_recorded(), container=not_recorded(), tee=not_recorded()),
        kernel=make_kernel(release=not_recorded(), cmdline=()),
    )
    for facts in (blank, make_facts(), with_gpus(make_facts(engines=(make_engine(),)), 2)):
        for name, condition in CONDITIONS.items():
            assert condition(facts).because, name
        for formula in FORMULAS.values():
            assert formula(facts) is None or isinstance(formula(facts), str)
    assert CONDITIONS["has_engine"](blank).holds is None
    assert CONDITIONS["has_swap"](blank).holds is None
