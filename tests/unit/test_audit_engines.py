"""Checks of what engines have: cores, quotas, places, limits, and where their models lie."""

from __future__ import annotations

import dataclasses

import pytest
from tests.unit.audit_cases import cases, gaps, ids
from tests.unit.facts_factory import (
    GIB,
    absent,
    denied,
    hidden,
    make_block,
    make_cgroup,
    make_cpu,
    make_engine,
    make_facts,
    make_kernel,
    make_memory,
    make_nic,
    make_os,
    make_thread,
    not_recorded,
    with_gpus,
)

from bedplate.model.facts.finding import Confidence, Severity
from bedplate.model.facts.host import HostFacts
from bedplate.model.facts.reading import Unknown, known
from bedplate.model.facts.system import EngineProcess, Mount
from bedplate.plan.rules.checks import cores, limits, placement, storage

MIB = 1 << 20


def serving(*engines: EngineProcess, gpus: int = 1, **changes: object) -> HostFacts:
    return with_gpus(make_facts(engines=engines, **changes), gpus)


# -- cores


def test_enough_cores() -> None:
    assert list(cores.check_cores(serving(make_engine()))) == []


def test_too_few_cores_by_the_documented_sum() -> None:
    engine = make_engine(
        argv=("vllm", "serve", "/m", "-tp", "4", "--api-server-count", "2"),
        cgroup=make_cgroup(cpus=known((0, 1, 2, 3), "/cpuset.cpus.effective")),
        threads=(make_thread(1, (0, 1, 2, 3)),),
    )
    (case,) = cases(cores.check_cores, serving(engine, gpus=4))
    assert (case.severity, case.confidence) == (Severity.CRITICAL, Confidence.CERTAIN)
    assert case.because == (
        "vllm (pid 4711) needs 7 physical cores (2 API servers + 1 engine core + 4 accelerators) and has 4"
    )


def test_ranks_need_a_coordinator() -> None:
    engine = make_engine(argv=("vllm", "serve", "/m", "--data-parallel-size=4"))
    facts = serving(engine, gpus=4)
    (case,) = cases(cores.check_cores, facts)
    assert "needs 10 physical cores (1 API server + 4 engine cores + 4 accelerators + 1 coordinator)" in case.because


def test_two_threads_of_a_core_are_one_core() -> None:
    cpu = make_cpu(nodes=1, cores_per_node=2, threads_per_core=2)
    engine = make_engine(cgroup=make_cgroup(cpus=known((0, 1, 2, 3), "/cpus")))
    (case,) = cases(cores.check_cores, serving(engine, cpu=cpu))
    assert case.because.endswith("and has 2")


def test_a_quota_counts() -> None:
    engine = make_engine(cgroup=make_cgroup(quota_cpus=known(2.5, "/cpu.max")))
    (case,) = cases(cores.check_cores, serving(engine))
    assert case.because.endswith("and has 2.5")


def test_a_cpuset_that_is_not_there_allows_all_and_one_that_is_not_read_is_not_judged() -> None:
    assert list(cores.check_cores(serving(make_engine(cgroup=make_cgroup(cpus=absent("/cpus")))))) == []
    facts = serving(make_engine(cgroup=make_cgroup(cpus=denied("/cpus"))))
    assert cases(cores.check_cores, facts) == []
    assert ids(gaps(cores.check_cores, facts)) == ["cores.too-few"]


def test_other_engines_document_nothing() -> None:
    facts = serving(make_engine(engine="sglang", cgroup=make_cgroup(cpus=known((0,), "/cpus"))))
    assert cases(cores.check_cores, facts) == []
    assert ids(gaps(cores.check_cores, facts)) == ["cores.too-few"]


def test_without_an_engine_the_machine_is_compared_with_one_over_all_accelerators() -> None:
    facts = with_gpus(make_facts(), 8)
    (case,) = cases(cores.check_cores, facts)
    assert (case.severity, case.confidence) == (Severity.HIGH, Confidence.POSSIBLE)
    assert "over all accelerators would need 10 physical cores" in case.because
    assert list(cores.check_cores(with_gpus(make_facts(), 4))) == []
    part = with_gpus(make_facts(os=make_os(init=not_recorded("/proc/1/comm"))), 8)
    assert cases(cores.check_cores, part) == []
    assert ids(gaps(cores.check_cores, part)) == ["cores.too-few"]
    assert list(cores.check_cores(make_facts())) == []


def test_threads_that_llama_cpp_was_told() -> None:
    engine = make_engine(engine="llama.cpp", argv=("llama-server", "-m", "/m.gguf", "-t", "16"), devices=())
    (case,) = cases(cores.check_threads, make_facts(engines=(engine,)))
    assert "16 threads but has 8 CPUs" in case.because
    enough = make_engine(engine="llama.cpp", argv=("llama-server", "-m", "/m.gguf", "-t", "8"), devices=())
    assert list(cores.check_threads(make_facts(engines=(enough,)))) == []


def test_many_threads_in_a_small_cgroup() -> None:
    threads = tuple(make_thread(number) for number in range(172))
    pod = make_engine(threads=threads, cgroup=make_cgroup(quota_cpus=known(6.0, "/cpu.max")))
    (case,) = cases(cores.check_threads, serving(pod))
    assert "172 threads and 6 of 8 CPUs" in case.because and case.confidence is Confidence.POSSIBLE
    starved = tuple(make_thread(number, wait_s=20.0) for number in range(172))
    (case,) = cases(cores.check_threads, serving(dataclasses.replace(pod, threads=starved)))
    assert case.severity is Severity.HIGH and case.confidence is Confidence.LIKELY
    whole_machine = make_engine(threads=threads)
    assert list(cores.check_threads(serving(whole_machine))) == []
    assert len(gaps(cores.check_threads, serving(make_engine(threads=())))) == 1


def test_waiting() -> None:
    assert list(cores.check_waiting(serving(make_engine()))) == []
    (case,) = cases(cores.check_waiting, serving(make_engine(threads=(make_thread(1, wait_s=50.0),))))
    assert case.severity is Severity.HIGH and "33%" in case.because
    short = serving(make_engine(threads=(make_thread(1, run_s=5.0, wait_s=50.0),)))
    assert cases(cores.check_waiting, short) == []
    assert len(gaps(cores.check_waiting, short)) == 1


@pytest.mark.parametrize(
    ("throttled", "id", "severity"),
    [(0, "quota.set", Severity.LOW), (1, "quota.throttled", Severity.MEDIUM), (400, "quota.throttled", Severity.HIGH)],
)
def test_quota(throttled: int, id: str, severity: Severity) -> None:
    group = make_cgroup(
        quota_cpus=known(4.0, "/cpu.max"), periods=known(1000, "/cpu.stat"), throttled_periods=known(throttled, "/cpu.stat")
    )
    (case,) = cases(cores.check_quota, serving(make_engine(cgroup=group)))
    assert (case.id, case.severity) == (id, severity)
    assert case.fix == ("systemctl set-property vllm.service CPUQuota= CPUWeight=1900",)
    assert "CPUQuota=400%" in case.undo[0]


def test_no_quota_and_one_that_is_not_known() -> None:
    assert list(cores.check_quota(serving(make_engine()))) == []
    facts = serving(make_engine(cgroup=make_cgroup(quota_cpus=denied("/cpu.max"))))
    assert cases(cores.check_quota, facts) == []
    assert len(gaps(cores.check_quota, facts)) == 1
    uncounted = make_cgroup(quota_cpus=known(4.0, "/cpu.max"), throttled_periods=denied("/cpu.stat"))
    assert len(gaps(cores.check_quota, serving(make_engine(cgroup=uncounted)))) == 1


# -- places


def engine_on(cpus: tuple[int, ...], **changes: object) -> EngineProcess:
    return make_engine(threads=tuple(make_thread(number, cpus) for number in range(3)), **changes)


def test_threads_on_the_wrong_node() -> None:
    (case,) = cases(placement.check_threads_remote, serving(engine_on((4, 5, 6, 7))))
    assert case.severity is Severity.HIGH and case.where == ("pid 4711", "node 0")
    assert list(placement.check_threads_remote(serving(engine_on((0, 1, 2, 3))))) == []


def test_threads_that_may_roam_matter_with_many_nodes() -> None:
    (case,) = cases(placement.check_threads_remote, serving(make_engine()))
    assert case.severity is Severity.LOW and case.effect_percent == 2.0
    cpu = make_cpu(nodes=8, cores_per_node=2)
    (case,) = cases(placement.check_threads_remote, serving(engine_on(tuple(range(16))), cpu=cpu))
    assert case.severity is Severity.HIGH and case.effect_percent is None


def test_placement_that_cannot_be_known() -> None:
    one_node = serving(make_engine(), cpu=make_cpu(nodes=1))
    assert list(placement.check_threads_remote(one_node)) == []
    unread = serving(make_engine(devices=(), devices_known=False))
    assert cases(placement.check_threads_remote, unread) == []
    assert len(gaps(placement.check_threads_remote, unread)) == 1
    facts = serving(make_engine())
    lost = tuple(dataclasses.replace(device, numa_node=hidden("/numa_node")) for device in facts.pci)
    assert len(gaps(placement.check_threads_remote, dataclasses.replace(facts, pci=lost))) == 1
    both = serving(make_engine(devices=("/dev/nvidia0", "/dev/nvidia1")), gpus=2)
    assert list(placement.check_threads_remote(both)) == []
    cpu_engine = serving(make_engine(devices=()))
    assert list(placement.check_threads_remote(cpu_engine)) == []


def test_memory_on_the_wrong_node() -> None:
    assert list(placement.check_memory_remote(serving(make_engine()))) == []
    (case,) = cases(placement.check_memory_remote, serving(make_engine(numa_bytes=((0, 4 * GIB), (1, 4 * GIB)))))
    assert "50% of its memory" in case.because
    little = serving(make_engine(numa_bytes=((0, 8 * GIB), (1, GIB))))
    assert list(placement.check_memory_remote(little)) == []
    unread = serving(make_engine(numa_bytes=()))
    assert cases(placement.check_memory_remote, unread) == []
    assert len(gaps(placement.check_memory_remote, unread)) == 1


def test_a_hidden_node_matters_where_there_are_two() -> None:
    facts = with_gpus(make_facts(), 2)
    lost = tuple(dataclasses.replace(device, numa_node=hidden("/numa_node")) for device in facts.pci)
    (case,) = cases(placement.check_node_hidden, dataclasses.replace(facts, pci=lost))
    assert case.where == ("0000:10:00.0", "0000:11:00.0")
    assert list(placement.check_node_hidden(facts)) == []
    single = with_gpus(make_facts(cpu=make_cpu(nodes=1)), 2)
    single = dataclasses.replace(
        single, pci=tuple(dataclasses.replace(device, numa_node=hidden("/n")) for device in single.pci)
    )
    assert list(placement.check_node_hidden(single)) == []
    unread = tuple(dataclasses.replace(device, numa_node=not_recorded("/numa_node")) for device in facts.pci)
    assert len(gaps(placement.check_nodes_known, dataclasses.replace(facts, pci=unread))) == 2


def test_exact_pins() -> None:
    assert list(placement.check_exact_pins(serving(make_engine()))) == []
    (case,) = cases(placement.check_exact_pins, serving(engine_on((7,))))
    assert case.severity is Severity.HIGH and "3 of them to CPU 7" in case.because
    apart = make_engine(threads=(make_thread(1, (1,)), make_thread(2, (2,)), make_thread(3)))
    (case,) = cases(placement.check_exact_pins, serving(apart))
    assert case.severity is Severity.MEDIUM
    on_cpu = engine_on((7,), devices=())
    assert list(placement.check_exact_pins(serving(on_cpu))) == []
    single = engine_on((0,), cgroup=make_cgroup(cpus=known((0,), "/cpus")))
    assert list(placement.check_exact_pins(serving(single))) == []


def test_isolated_cpus() -> None:
    assert list(placement.check_isolated(make_facts())) == []
    kernel = make_kernel(cmdline=("ro", "isolcpus=2-3"))
    (case,) = cases(placement.check_isolated, make_facts(kernel=kernel, cpu=make_cpu(isolated=(2, 3))))
    assert case.severity is Severity.HIGH and "isolcpus=2-3" in case.because
    (case,) = cases(placement.check_isolated, make_facts(cpu=make_cpu(isolated=(2, 3))))
    assert case.severity is Severity.MEDIUM and "(2-3)" in case.because


# -- limits and memory


@pytest.mark.parametrize(
    ("limit", "severity"), [(1024, Severity.MEDIUM), (20_000, Severity.LOW), (65_536, None), (None, None)]
)
def test_open_files(limit: int | None, severity: Severity | None) -> None:
    found = cases(limits.check_nofile, serving(make_engine(limits=(("nofile", limit),))))
    assert [finding.severity for finding in found] == ([severity] if severity else [])


def test_limits_that_may_not_be_read() -> None:
    facts = serving(make_engine(limits=(), argv=("llama-server", "--mlock")))
    for check in (limits.check_nofile, limits.check_memlock):
        assert cases(check, facts) == []
        assert len(gaps(check, facts)) == 1


def test_locked_memory_matters_where_it_is_locked() -> None:
    small = (("memlock", 8 * MIB),)
    assert list(limits.check_memlock(serving(make_engine(limits=small)))) == []
    asked = make_engine(limits=small, argv=("llama-server", "--mlock"))
    assert "--mlock needs to lock more" in cases(limits.check_memlock, serving(asked))[0].because
    rdma = serving(make_engine(limits=small), gpus=2, network=(make_nic(rdma=("mlx5_0",)),))
    assert "RDMA needs to lock more" in cases(limits.check_memlock, rdma)[0].because
    unlimited = serving(make_engine(argv=("llama-server", "--mlock")))
    assert list(limits.check_memlock(unlimited)) == []


def test_shared_memory() -> None:
    ranks = make_engine(argv=("vllm", "serve", "/m", "-tp", "4"))
    assert list(limits.check_shm(serving(ranks, gpus=4))) == []
    docker = make_os(container=known("docker", "/.dockerenv"))
    small = make_memory(shm_bytes=known(64 * MIB, "/dev/shm"))
    (case,) = cases(limits.check_shm, serving(ranks, gpus=4, os=docker, memory=small))
    assert case.severity is Severity.HIGH and "64.0 MiB for the 4 ranks" in case.because
    inside = make_engine(argv=ranks.argv, cgroup=make_cgroup(path="/system.slice/docker-0a1b.scope"))
    outside = serving(inside, gpus=4, memory=small)
    assert cases(limits.check_shm, outside) == []
    assert len(gaps(limits.check_shm, outside)) == 1
    assert list(limits.check_shm(serving(make_engine(), os=docker, memory=small))) == []


def test_oom_score() -> None:
    assert list(limits.check_oom(serving(make_engine()))) == []
    (case,) = cases(limits.check_oom, serving(make_engine(oom_score_adj=968)))
    assert case.severity is Severity.MEDIUM and case.undo == ("choom --adjust 968 --pid 4711",)
    assert list(limits.check_oom(serving(make_engine(oom_score_adj=0)))) == []
    (case,) = cases(limits.check_oom, serving(make_engine(oom_score_adj=0, rss_bytes=32 * GIB)))
    assert case.severity is Severity.LOW


def test_memory_limit() -> None:
    assert list(limits.check_memory_limit(serving(make_engine()))) == []
    near = make_engine(cgroup=make_cgroup(memory_max_bytes=known(8 * GIB + MIB, "/memory.max")))
    assert ids(cases(limits.check_memory_limit, serving(near))) == ["memory.limit-near"]
    wide = make_engine(cgroup=make_cgroup(memory_max_bytes=known(16 * GIB, "/memory.max")))
    assert list(limits.check_memory_limit(serving(wide))) == []
    unread = serving(make_engine(cgroup=make_cgroup(memory_max_bytes=denied("/memory.max"))))
    assert cases(limits.check_memory_limit, unread) == []
    assert len(gaps(limits.check_memory_limit, unread)) == 1


def test_swap() -> None:
    assert list(limits.check_swapped(serving(make_engine()))) == []
    (case,) = cases(limits.check_swapped, serving(make_engine(swap_bytes=2 * GIB)))
    assert case.severity is Severity.HIGH
    assert cases(limits.check_swapped, serving(make_engine(swap_bytes=100 * MIB)))[0].severity is Severity.MEDIUM
    used = make_memory(swap_free_bytes=10 * GIB)
    open_swap = make_cgroup(swap_max_bytes=absent("/memory.swap.max"))
    on_cpu = make_engine(devices=(), cgroup=open_swap)
    assert ids(cases(limits.check_swap_policy, make_facts(engines=(on_cpu,), memory=used))) == ["memory.may-swap"]
    assert list(limits.check_swap_policy(make_facts(engines=(on_cpu,)))) == []
    for engine in (make_engine(cgroup=open_swap), make_engine(devices=()), make_engine(devices=(), devices_known=False)):
        assert list(limits.check_swap_policy(make_facts(engines=(engine,), memory=used))) == []
    unread = make_engine(devices=(), cgroup=make_cgroup(swap_max_bytes=denied("/memory.swap.max")))
    assert len(gaps(limits.check_swap_policy, make_facts(engines=(unread,), memory=used))) == 1


# -- where the model lies

ROOT = Mount(point="/", source="/dev/nvme0n1p2", kind="ext4", options=("rw",))
NFS = Mount(point="/models", source="filer:/models", kind="nfs4", options=("ro",))


def test_a_model_on_a_network() -> None:
    assert list(storage.check_store(serving(make_engine()))) == []
    (case,) = cases(storage.check_store, serving(make_engine(), mounts=(ROOT, NFS)))
    assert case.id == "storage.model-network" and "nfs4 at /models" in case.because
    told = make_engine(argv=("vllm", "serve", "/models/x", "--load-format", "runai_streamer"))
    assert list(storage.check_store(serving(told, mounts=(ROOT, NFS)))) == []
    hub = make_engine(model_paths=())
    assert list(storage.check_store(serving(hub, mounts=(ROOT, NFS)))) == []


def test_a_model_in_a_container_or_on_no_mount_is_not_judged() -> None:
    inside = make_engine(cgroup=make_cgroup(path="/kubepods/burstable/pod1/abc"))
    facts = serving(inside, mounts=(ROOT, NFS))
    assert cases(storage.check_store, facts) == []
    assert len(gaps(storage.check_store, facts)) == 2
    assert len(gaps(storage.check_store, serving(make_engine(), mounts=()))) == 1


def test_a_disk_that_turns() -> None:
    turns = make_block("sda", transport="scsi", rotational=known(True, "/rot"), mounts=(), model="ST4000")
    mirror = make_block("md0", transport="md", parents=("sda", "sdb"), mounts=("/",))
    blocks = (turns, dataclasses.replace(turns, name="sdb"), mirror)
    (case,) = cases(storage.check_store, serving(make_engine(), blocks=blocks))
    assert case.id == "storage.model-rotational" and case.where == ("pid 4711", "sda", "sdb")
    virtual = make_block("vda", transport="virtio", rotational=known(True, "/rot"), mounts=("/",))
    assert list(storage.check_store(serving(make_engine(), blocks=(virtual,)))) == []
    unread = make_block("sda", transport="scsi", rotational=not_recorded("/rot"), mounts=("/",))
    assert list(storage.check_store(serving(make_engine(), blocks=(unread,)))) == []
    ring = make_block("dm-0", transport="dm", parents=("dm-0",), mounts=("/",))
    assert list(storage.check_store(serving(make_engine(), blocks=(ring,)))) == []


def test_unknown_is_spelled_out() -> None:
    for why in Unknown:
        facts = serving(make_engine(cgroup=make_cgroup(cpus=dataclasses.replace(absent("/cpus"), unknown=why))))
        assert all(str(gap.because) for gap in gaps(cores.check_cores, facts))


# -- commands


def test_commands_name_the_service_that_an_engine_is() -> None:
    facts = serving(make_engine(limits=(("nofile", 1024),)))
    (case,) = cases(limits.check_nofile, facts)
    directory = "/etc/systemd/system/vllm.service.d"
    assert case.fix == (
        "# The restart interrupts vllm.service: drain it first.",
        f"mkdir -p {directory} && printf '[Service]\\nLimitNOFILE=1048576\\n' > {directory}/80-bedplate-limitnofile.conf",
        "systemctl daemon-reload && systemctl restart vllm.service",
    )
    assert case.undo[1] == f"rm {directory}/80-bedplate-limitnofile.conf"


@pytest.mark.parametrize(
    ("path", "systemd"),
    [
        ("/system.slice/docker-0a1b.scope", True),
        ("/kubepods/pod1/abc", True),
        ("/user.slice/session-3.scope", True),
        ("/", False),
    ],
)
def test_without_a_service_nothing_of_systemctl_is_told_to_be_run(path: str, systemd: bool) -> None:
    group = make_cgroup(path=path, quota_cpus=known(4.0, "/cpu.max"), throttled_periods=known(9, "/cpu.stat"))
    engine = make_engine(cgroup=group, limits=(("nofile", 1024),), threads=(make_thread(1, wait_s=90.0),), swap_bytes=GIB)
    facts = serving(engine, os=make_os(systemd=systemd))
    checks = [limits.check_nofile, limits.check_swapped, cores.check_quota]
    found = [case for check in checks for case in cases(check, facts)]
    assert len(found) == 3
    assert not any(line.startswith("systemctl") for finding in found for line in (*finding.fix, *finding.undo))
