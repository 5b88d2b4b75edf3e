"""The audit as a whole: silent on a healthy machine, the same whatever order facts come in, honest about what it hides."""

from __future__ import annotations

import dataclasses
import random
from typing import Any, TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.facts_factory import (
    GIB,
    absent,
    make_block,
    make_cgroup,
    make_cpu,
    make_engine,
    make_facts,
    make_kernel,
    make_link,
    make_memory,
    make_nic,
    make_os,
    make_thread,
    not_recorded,
    with_gpus,
)

from bedplate.catalog.findings import read_findings
from bedplate.catalog.knobs import read_knobs
from bedplate.model.audit import Audit, Suppression
from bedplate.model.facts.finding import Confidence, Severity
from bedplate.model.facts.host import HostFacts
from bedplate.model.facts.reading import Unknown, known
from bedplate.model.facts.system import Mount
from bedplate.plan.audit import audit
from bedplate.plan.rules.checks import CHECKS
from bedplate.plan.rules.observation import Observation, rank_of

T = TypeVar("T")
ROWS, KNOBS = read_findings(), read_knobs()
TODAY = "2026-11-24"


def judge(facts: HostFacts, *suppressions: Suppression) -> Audit:
    return audit(facts, KNOBS, ROWS, suppressions, today=TODAY)


def sick() -> HostFacts:
    """A machine with something of every kind wrong."""
    pod = make_cgroup(
        path="/system.slice/vllm.service",
        cpus=known((0, 1, 2, 3), "/cpuset.cpus.effective"),
        quota_cpus=known(3.0, "/cpu.max"),
        periods=known(1000, "/cpu.stat"),
        throttled_periods=known(500, "/cpu.stat"),
        memory_max_bytes=known(8 * GIB, "/memory.max"),
    )
    vllm = make_engine(
        argv=("vllm", "serve", "/models/x", "-tp", "4"),
        threads=tuple(make_thread(100 + number, (7,), wait_s=30.0) for number in range(40)),
        cgroup=pod,
        swap_bytes=GIB,
        oom_score_adj=500,
        numa_bytes=((0, GIB), (1, 7 * GIB)),
        limits=(("nofile", 1024), ("memlock", 65536)),
    )
    llama = make_engine(
        engine="llama.cpp", pid=900, argv=("llama-server", "-m", "/models/y.gguf", "-t", "64", "--mlock"), devices=(),
        cgroup=make_cgroup(path="/", cpu_weight=absent("/cpu.weight")), limits=(("memlock", 65536),),
    )  # fmt: skip
    facts = with_gpus(
        make_facts(
            engines=(vllm, llama),
            cpu=make_cpu(isolated=(6, 7), governors=(("powersave", 8),), driver=known("acpi-cpufreq", "/d")),
            kernel=make_kernel(cmdline=("isolcpus=6,7",), clocksource=known("hpet", "/current_clocksource")),
            memory=make_memory(swap_free_bytes=GIB, shm_bytes=known(64 << 20, "/dev/shm")),
            os=make_os(unattended_upgrades=known(True, "/apt"), driver_packages_held=known(False, "/dpkg")),
            mounts=(
                Mount(point="/", source="/dev/sda1", kind="ext4", options=()),
                Mount(point="/models", source="f:/m", kind="nfs4", options=()),
            ),
            blocks=(make_block("sda", transport="scsi", rotational=known(True, "/rot")), make_block("nvme0n1", mounts=())),
            network=(make_nic(rdma=("mlx5_0",)), make_nic("eth1", address="0000:2b:00.0")),
            pressure=(),
            knobs=(
                absent("/proc/pressure/cpu"),
                known("1", "/proc/sys/kernel/sched_autogroup_enabled"),
                known("0", "/proc/sys/vm/swappiness"),
            ),
        ),
        4,
        persistence=known(False, "nvml"),
        ecc_uncorrected=known(1, "nvml"),
        throttle_reasons=("hw_thermal_slowdown",),
        power_limit_w=known(400.0, "nvml"),
        library_version=known("595.10", "nvml"),
        fabric_state=known("In Progress", "nvml"),
    )  # fmt: skip
    poor = dataclasses.replace(facts.accelerators[0], nvlinks_active=known(1, "nvml"))
    rest = tuple(dataclasses.replace(accelerator, nvlinks_active=known(4, "nvml")) for accelerator in facts.accelerators[1:])
    narrow = tuple(dataclasses.replace(device, link=dataclasses.replace(device.link, width=4)) for device in facts.pci)
    return dataclasses.replace(facts, accelerators=(poor, *rest), pci=narrow)


def test_a_healthy_machine_has_no_finding() -> None:
    assert judge(make_facts()).findings == ()
    assert [finding.id for finding in judge(with_gpus(make_facts(), 2)).findings] == []


def test_a_sick_machine_has_most_of_them_and_the_cores_come_first() -> None:
    found = judge(sick())
    ids = {finding.id for finding in found.findings}
    assert len(ids) >= 25, sorted(ids)
    assert found.findings[0].id == "cores.too-few"
    assert [finding.rank for finding in found.findings] == sorted((finding.rank for finding in found.findings), reverse=True)
    assert dict(found.counts)[Severity.CRITICAL] == sum(finding.severity is Severity.CRITICAL for finding in found.findings)


def shuffled(facts: HostFacts, seed: int) -> HostFacts:
    """Every tuple whose order carries no meaning, in another one."""
    order = random.Random(seed)

    def mix(values: tuple[T, ...]) -> tuple[T, ...]:
        return tuple(order.sample(values, len(values)))

    engines = tuple(
        dataclasses.replace(
            engine,
            threads=mix(engine.threads),
            numa_bytes=mix(engine.numa_bytes),
            limits=mix(engine.limits),
            devices=mix(engine.devices),
        )
        for engine in facts.engines
    )
    accelerators = tuple(
        dataclasses.replace(
            accelerator,
            throttle_reasons=mix(accelerator.throttle_reasons),
            peers=mix(accelerator.peers),
            processes=mix(accelerator.processes),
        )
        for accelerator in facts.accelerators
    )
    return dataclasses.replace(
        facts,
        pci=mix(facts.pci),
        accelerators=mix(accelerators),
        network=mix(facts.network),
        blocks=mix(facts.blocks),
        mounts=mix(facts.mounts),
        limits=mix(facts.limits),
        pressure=mix(facts.pressure),
        engines=mix(engines),
        knobs=mix(facts.knobs),
        problems=mix(facts.problems),
        cpu=dataclasses.replace(facts.cpu, cpus=mix(facts.cpu.cpus), governors=mix(facts.cpu.governors)),
        numa=dataclasses.replace(facts.numa, nodes=mix(facts.numa.nodes)),
        kernel=dataclasses.replace(
            facts.kernel, modules=mix(facts.kernel.modules), gpu_modules=mix(facts.kernel.gpu_modules)
        ),
    )


@given(seed=st.integers(min_value=0, max_value=2**32))
@settings(max_examples=25, deadline=None)
def test_findings_are_the_same_whatever_order_facts_come_in(seed: int) -> None:
    facts = sick()
    assert judge(shuffled(facts, seed)) == judge(facts)


def test_auditing_twice_gives_the_same_bytes() -> None:
    assert repr(judge(sick())).encode() == repr(judge(sick())).encode()


def unknown_of(value: Any, why: Unknown) -> Any:
    """The same facts with every reading unknown for one reason."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        if type(value).__name__ == "Reading":
            return dataclasses.replace(value, value=None, unknown=why, text="")
        changes = {field.name: unknown_of(getattr(value, field.name), why) for field in dataclasses.fields(value)}
        return dataclasses.replace(value, **changes)
    if isinstance(value, tuple):
        return tuple(unknown_of(item, why) for item in value)
    return value


@pytest.mark.parametrize("why", [Unknown.DENIED, Unknown.HIDDEN, Unknown.MALFORMED, Unknown.NOT_RECORDED])
def test_unknown_facts_never_make_a_claim(why: Unknown) -> None:
    """Of the healthy machine, with every reading unknown: nothing is found, and much is told as not judged. HIDDEN is a fact
    of one kind: that the platform does not say a device's node."""
    healthy = with_gpus(
        make_facts(engines=(make_engine(threads=tuple(make_thread(number, (0, 1, 2, 3)) for number in range(4))),)), 2
    )
    facts = unknown_of(healthy, why)
    assert isinstance(facts, HostFacts)
    said = [result for check in CHECKS for result in check(facts)]
    found = {result.id for result in said if isinstance(result, Observation)}
    assert found <= ({"numa.node-hidden"} if why is Unknown.HIDDEN else set())
    assert len(said) > 5


def test_a_recording_without_processes_says_so() -> None:
    facts = make_facts(os=make_os(init=not_recorded("/proc/1/comm")))
    assert "engines" in [finding.id for finding in judge(facts).not_judged]
    assert "engines" not in [finding.id for finding in judge(make_facts()).not_judged]


def test_a_virtual_machine_with_links_that_a_hypervisor_made_up_has_no_finding() -> None:
    guest = with_gpus(make_facts(os=make_os(virtualisation=known("kvm", "/sys/dmi"))), 2, utilization_pct=known(0.0, "nvml"))
    poor = tuple(dataclasses.replace(device, link=make_link(width=1, speed_gts=2.5)) for device in guest.pci)
    found = judge(dataclasses.replace(guest, pci=poor))
    assert found.findings == ()
    assert {"link.narrow", "link.slow"} <= {finding.id for finding in found.not_judged}


@pytest.mark.parametrize("systemd", [True, False])
def test_timers_that_nobody_starts_make_no_finding(systemd: bool) -> None:
    timer = known("[Timer]", "/etc/systemd/system/timers.target.wants/apt-daily.timer")
    init = known("systemd" if systemd else "tini", "/proc/1/comm")
    facts = make_facts(engines=(make_engine(),), knobs=(timer,), os=make_os(systemd=systemd, init=init))
    assert ("knob.hk.timers" in {finding.id for finding in judge(facts).findings}) is systemd


# -- ranking


def test_ranks_are_expected_percent_times_confidence() -> None:
    assert rank_of(Severity.HIGH, Confidence.CERTAIN, 194.0) == 194.0
    assert rank_of(Severity.HIGH, Confidence.POSSIBLE, 194.0) == pytest.approx(58.2)
    assert rank_of(Severity.MEDIUM, Confidence.CERTAIN, 3100.0) == 50.0
    assert rank_of(Severity.INFO, Confidence.CERTAIN, 3100.0) == 0.0
    assert rank_of(Severity.CRITICAL, Confidence.CERTAIN, None) > rank_of(Severity.HIGH, Confidence.CERTAIN, 400.0)


# -- suppressions


def test_a_suppressed_finding_keeps_its_reason() -> None:
    found = judge(sick(), Suppression(id="power.limit-lowered", reason="the rack has no more power"))
    assert "power.limit-lowered" not in [finding.id for finding in found.findings]
    (aside,) = found.suppressed
    assert (aside.finding.id, aside.reason) == ("power.limit-lowered", "the rack has no more power")
    assert found.notes == ()


def test_a_place_suppresses_only_there() -> None:
    first = Suppression(id="accel.ecc-uncorrected", where="0000:10:*", reason="to be replaced on Monday")
    found = judge(sick(), first)
    assert [suppressed.finding.where for suppressed in found.suppressed] == [("0000:10:00.0",)]
    assert len([finding for finding in found.findings if finding.id == "accel.ecc-uncorrected"]) == 3


def test_a_finding_of_several_places_is_suppressed_as_a_whole_or_not() -> None:
    part = Suppression(id="accel.persistence-off", where="0000:10:00.0", reason="this one is spare")
    found = judge(sick(), part)
    assert found.suppressed == ()
    assert found.notes == ("suppression of accel.persistence-off at 0000:10:00.0: it covers no finding",)


def test_a_suppression_ends() -> None:
    last_day = Suppression(id="cores.isolated", reason="until the next window", until=TODAY)
    assert len(judge(sick(), last_day).suppressed) == 1
    over = dataclasses.replace(last_day, until="2026-11-23")
    found = judge(sick(), over)
    assert found.suppressed == () and found.notes == ("suppression of cores.isolated: expired after 2026-11-23",)


def test_a_suppression_of_nothing_is_told() -> None:
    assert judge(make_facts(), Suppression(id="no.such-id", reason="a typing mistake")).notes == (
        "suppression of no.such-id: no such finding exists",
    )
    assert judge(make_facts(), Suppression(id="quota.set", reason="a tenant pays")).notes == (
        "suppression of quota.set: it covers no finding",
    )


def test_a_knob_is_suppressed_like_any_finding() -> None:
    ids = [finding.id for finding in judge(sick()).findings if finding.id.startswith("knob.")]
    assert ids
    found = judge(sick(), Suppression(id=ids[0], reason="decided by hand"))
    assert [suppressed.finding.id for suppressed in found.suppressed] == [ids[0]]
