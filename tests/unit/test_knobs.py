"""Rows that read files and the kernel command line: what is concluded, and the commands of the fix."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.unit.facts_factory import (
    denied,
    make_facts,
    make_kernel,
    make_memory,
    make_os,
    not_recorded,
    with_gpus,
)
from tests.unit.knob_cases import CPUFREQ, KNOBS, audit_knobs, files, find, found, judge, judge_knobs, readings

from bedplate.model.facts.finding import Confidence, Severity
from bedplate.model.facts.reading import Reading, Unknown, known, missing
from bedplate.model.knob import Grade
from bedplate.plan.rules.files import KnobFiles
from bedplate.plan.rules.rows.knobs import _effect
from bedplate.plan.rules.rule import Outcome


def test_every_row_is_judged_once_in_its_order() -> None:
    judged = judge_knobs(make_facts(), KNOBS)
    assert [result.id for result in judged] == [f"knob.{knob.id}" for knob in KNOBS]
    assert all(result.because for result in judged)


def test_a_machine_of_which_nothing_was_read_has_no_finding_about_its_files() -> None:
    facts = make_facts(kernel=make_kernel(cmdline=(), config=()), os=make_os(init=not_recorded()))
    assert [finding.id for finding in audit_knobs(facts, KNOBS)] == []
    outcomes = {result.id.removeprefix("knob."): result.outcome for result in judge_knobs(facts, KNOBS)}
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
    assert found(facts, "mem.compaction").fix == ("# Remove sysctl.vm.defrag_mode from the kernel command line.",)


def test_what_is_masked_in_usr_lib_is_not_set() -> None:
    texts: dict[str, str | Unknown] = {
        "/usr/lib/sysctl.d/50-x.conf": "vm.swappiness=1",
        "/etc/sysctl.d/50-x.conf": "vm.swappiness=60",
        "/etc/sysctl.d/10-y.conf": "vm.swappiness=10",
    }
    set_at_boot = KnobFiles(make_facts(knobs=readings(texts))).set_at_boot("/proc/sys/vm/swappiness")
    assert [(setting.value, setting.source) for setting in set_at_boot] == [
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


_SAFETY = {
    "mitigations=off": "knob.sec.mitigations",
    "audit=0": "knob.hk.watchdog",
    "nmi_watchdog=0": "knob.hk.watchdog",
    "tsc=reliable": "knob.hk.watchdog",
}


@pytest.mark.parametrize("words", [("audit=0", "nmi_watchdog=0", "tsc=reliable"), tuple(_SAFETY)], ids=["some", "all"])
def test_each_parameter_of_a_performance_command_line_is_in_one_finding(words: tuple[str, ...]) -> None:
    """Two rows reported audit=0 and tsc=reliable; beside mitigations=off, none reported nmi_watchdog=0."""
    findings = audit_knobs(make_facts(kernel=make_kernel(cmdline=words)), KNOBS)
    for word in words:
        assert [finding.id for finding in findings if any(word in row.fact for row in finding.evidence)] == [
            _SAFETY[word]
        ], word


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
        ("", "# In the boot loader's kernel command line remove isolcpus=0,1."),
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


@pytest.mark.parametrize(
    ("evidence", "effect"),
    [
        ("Common practice.", "not measured; common practice."),
        ("CONFIG_X is not set.", "not measured; CONFIG_X is not set."),
        ("vLLM, and its documentation.", "not measured; vLLM, and its documentation."),
    ],
)
def test_an_effect_without_a_number_is_called_not_measured(evidence: str, effect: str) -> None:
    """It read "effect no number; Common practice."."""
    row = next(row for row in KNOBS if not row.effect and row.grade is not Grade.N)
    assert _effect(replace(row, evidence=evidence, sources=())) == effect
