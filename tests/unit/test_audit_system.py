"""Checks of clocks, upgrades, and what the kernel tells."""

from __future__ import annotations

import dataclasses

import pytest
from tests.unit.audit_cases import cases, gaps, ids
from tests.unit.facts_factory import (
    absent,
    denied,
    make_cgroup,
    make_cpu,
    make_engine,
    make_facts,
    make_kernel,
    make_os,
    not_recorded,
    with_gpus,
)

from bedplate.model.facts.cpu import CpuTopology
from bedplate.model.facts.finding import Confidence, Severity
from bedplate.model.facts.host import Problem
from bedplate.model.facts.reading import known
from bedplate.plan.rules.checks import power, system

# -- clocks


def with_governor(name: str, driver: str, preference: str | None = None) -> CpuTopology:
    told = known(preference, "/epp") if preference is not None else absent("/epp")
    return make_cpu(governors=((name, 8),), driver=known(driver, "/scaling_driver"), energy_preference=told)


@pytest.mark.parametrize(
    ("governor", "driver", "preference", "severity"),
    [
        ("performance", "acpi-cpufreq", None, None),
        ("powersave", "acpi-cpufreq", None, Severity.MEDIUM),
        ("schedutil", "acpi-cpufreq", None, Severity.LOW),
        ("powersave", "intel_pstate", "performance", None),
        ("powersave", "intel_pstate", "balance_performance", Severity.LOW),
        ("powersave", "intel_pstate", None, Severity.LOW),
        ("powersave", "amd-pstate-epp", "power", Severity.MEDIUM),
        ("powersave", "intel_pstate", "balance_power", Severity.MEDIUM),
    ],
)
def test_governors(governor: str, driver: str, preference: str | None, severity: Severity | None) -> None:
    found = cases(power.check_governor, make_facts(cpu=with_governor(governor, driver, preference)))
    assert [finding.severity for finding in found] == ([severity] if severity else [])


def test_governors_that_say_nothing() -> None:
    unsaid = make_facts(
        cpu=dataclasses.replace(with_governor("powersave", "intel_pstate"), energy_preference=denied("/epp"))
    )
    assert cases(power.check_governor, unsaid) == []
    assert len(gaps(power.check_governor, unsaid)) == 1
    slow = with_governor("powersave", "acpi-cpufreq")
    guest = make_os(virtualisation=known("kvm", "/sys/dmi"))
    assert list(power.check_governor(make_facts(cpu=slow, os=guest))) == []
    unknown = make_os(virtualisation=not_recorded("/sys/dmi"))
    assert cases(power.check_governor, make_facts(cpu=slow, os=unknown)) == []
    assert len(gaps(power.check_governor, make_facts(cpu=slow, os=unknown))) == 1
    assert list(power.check_governor(make_facts(cpu=make_cpu(governors=())))) == []


@pytest.mark.parametrize(
    ("reasons", "severity"),
    [
        ((), None),
        (("sw_power_cap",), None),
        (("hw_thermal_slowdown", "sw_power_cap"), Severity.HIGH),
        (("hw_power_brake_slowdown",), Severity.HIGH),
        (("applications_clocks_setting",), Severity.LOW),
    ],
)
def test_clocks_that_are_held(reasons: tuple[str, ...], severity: Severity | None) -> None:
    found = cases(power.check_throttled, with_gpus(make_facts(), throttle_reasons=reasons))
    assert [finding.severity for finding in found] == ([severity] if severity else [])


def test_power_limits() -> None:
    assert list(power.check_power_limit(with_gpus(make_facts(), 2))) == []
    (case,) = cases(power.check_power_limit, with_gpus(make_facts(), 2, power_limit_w=known(500.0, "nvml")))
    assert case.severity is Severity.LOW and "500 W, their own is 700 W" in case.because
    bound = with_gpus(make_facts(), power_limit_w=known(500.0, "nvml"), throttle_reasons=("sw_power_cap",))
    assert cases(power.check_power_limit, bound)[0].severity is Severity.MEDIUM
    assert list(power.check_power_limit(with_gpus(make_facts(), power_limit_w=denied("nvml")))) == []


# -- upgrades


def upgrading(unattended: object, held: object, **changes: object) -> object:
    return make_os(unattended_upgrades=unattended, driver_packages_held=held, **changes)


ON, OFF = known(True, "/etc/apt/apt.conf.d/20auto-upgrades"), known(False, "/var/lib/dpkg/status")


def test_unattended_upgrades() -> None:
    (case,) = cases(system.check_upgrades, with_gpus(make_facts(os=upgrading(ON, OFF))))
    assert case.id == "system.unattended-driver"
    for held in (ON, absent("/var/lib/dpkg/status")):
        assert list(system.check_upgrades(with_gpus(make_facts(os=upgrading(ON, held))))) == []
    assert list(system.check_upgrades(with_gpus(make_facts(os=upgrading(OFF, OFF))))) == []
    assert list(system.check_upgrades(with_gpus(make_facts(os=upgrading(absent("/etc/apt"), OFF))))) == []
    assert list(system.check_upgrades(make_facts(os=upgrading(ON, OFF)))) == []
    amd = with_gpus(make_facts(os=upgrading(ON, OFF)), vendor="amd")
    assert list(system.check_upgrades(amd)) == []
    container = upgrading(ON, OFF, container=known("docker", "/.dockerenv"))
    assert list(system.check_upgrades(with_gpus(make_facts(os=container)))) == []
    for unread in (upgrading(denied("/etc/apt"), OFF), upgrading(ON, denied("/var/lib/dpkg/status"))):
        facts = with_gpus(make_facts(os=unread))
        assert cases(system.check_upgrades, facts) == []
        assert ids(gaps(system.check_upgrades, facts)) == ["system.unattended-driver"]


# -- what the kernel tells


@pytest.mark.parametrize(
    ("clock", "found"), [("tsc", 0), ("kvm-clock", 0), ("arch_sys_counter", 0), ("hpet", 1), ("acpi_pm", 1)]
)
def test_clock_sources(clock: str, found: int) -> None:
    facts = make_facts(kernel=make_kernel(clocksource=known(clock, "/sys/current_clocksource")))
    assert len(cases(system.check_clocksource, facts)) == found


def test_a_clock_source_that_is_not_read() -> None:
    facts = make_facts(kernel=make_kernel(clocksource=not_recorded("/sys/current_clocksource")))
    assert list(system.check_clocksource(facts)) == []


def test_an_open_front_end() -> None:
    assert list(system.check_front(make_facts())) == []
    (case,) = cases(
        system.check_front, make_facts(os=make_os(front_openings=("it answers everybody", "it speaks plain HTTP")))
    )
    assert case.because == "it answers everybody; it speaks plain HTTP"


def test_psi() -> None:
    assert list(system.check_psi(make_facts())) == []
    facts = make_facts(pressure=(), knobs=(absent("/proc/pressure/cpu"),))
    (case,) = cases(system.check_psi, facts)
    assert case.confidence is Confidence.CERTAIN and any("psi=1" in line for line in case.fix)
    unbuilt = make_facts(
        pressure=(), knobs=(absent("/proc/pressure/cpu"),), kernel=make_kernel(config=(("CONFIG_PSI", "n"),))
    )
    assert "not built in" in cases(system.check_psi, unbuilt)[0].because
    for knobs in ((), (not_recorded("/proc/pressure/cpu"),), (denied("/proc/pressure/cpu"),)):
        unread = make_facts(pressure=(), knobs=knobs)
        assert cases(system.check_psi, unread) == []
        assert ids(gaps(system.check_psi, unread)) == ["system.no-psi"]


AUTOGROUP = known("1", "/proc/sys/kernel/sched_autogroup_enabled")


def test_autogroup() -> None:
    root_group = make_cgroup(path="/", cpu_weight=absent("/sys/fs/cgroup/cpu.weight"))
    (case,) = cases(system.check_autogroup, make_facts(knobs=(AUTOGROUP,), cgroup=root_group))
    assert case.severity is Severity.INFO
    engine = make_engine(cgroup=root_group)
    (case,) = cases(system.check_autogroup, make_facts(knobs=(AUTOGROUP,), engines=(engine,)))
    assert case.severity is Severity.LOW and case.where == ("pid 4711",)
    assert list(system.check_autogroup(make_facts(knobs=(AUTOGROUP,)))) == []
    off = known("0", "/proc/sys/kernel/sched_autogroup_enabled")
    assert list(system.check_autogroup(make_facts(knobs=(off,), cgroup=root_group))) == []
    assert list(system.check_autogroup(make_facts(cgroup=root_group))) == []
    unread = make_facts(knobs=(AUTOGROUP,), cgroup=make_cgroup(cpu_weight=denied("/cpu.weight")))
    assert cases(system.check_autogroup, unread) == []
    assert len(gaps(system.check_autogroup, unread)) == 1


def test_autogroup_of_version_1() -> None:
    root_group = make_cgroup(version=1, path="/", cpu_weight=known(100, "/sys/fs/cgroup/cpu,cpuacct/cpu.shares"))
    assert len(cases(system.check_autogroup, make_facts(knobs=(AUTOGROUP,), cgroup=root_group))) == 1
    own = make_cgroup(version=1, path="/a", cpu_weight=known(100, "/sys/fs/cgroup/cpu/a/cpu.shares"))
    assert list(system.check_autogroup(make_facts(knobs=(AUTOGROUP,), cgroup=own))) == []
    docker = make_os(container=known("docker", "/.dockerenv"))
    inside = make_facts(knobs=(AUTOGROUP,), cgroup=root_group, os=docker)
    assert cases(system.check_autogroup, inside) == []
    assert len(gaps(system.check_autogroup, inside)) == 1


def test_readers_that_failed_are_told() -> None:
    facts = make_facts(problems=(Problem(source="/sys/bus/pci", message="is not a directory"),))
    (gap,) = gaps(system.check_readers, facts)
    assert gap.because == "/sys/bus/pci: is not a directory"
