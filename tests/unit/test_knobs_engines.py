"""Rows about engines, judged on machines that are values."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from tests.unit.facts_factory import (
    GIB,
    denied,
    make_cgroup,
    make_engine,
    make_facts,
    make_kernel,
    make_memory,
    make_thread,
    with_gpus,
)
from tests.unit.knob_cases import IN_SLICE, KNOBS, audit_knobs, files, find, found, judge, readings

from bedplate.model.facts.reading import known
from bedplate.plan.rules.formulas import FORMULAS
from bedplate.plan.rules.rule import Outcome


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
            "1 of 2 threads may run on only one CPU",
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


def test_what_another_rule_tells_is_not_said_again() -> None:
    engine = make_engine(limits=(("nofile", 1024), ("memlock", None)))
    facts = make_facts(engines=(engine,), kernel=make_kernel(cmdline=("isolcpus=1",)))
    ids = {finding.id for finding in audit_knobs(facts, KNOBS, failed={"cores.isolated", "limit.nofile"})}
    told = {"knob.cpu.isolcpus", "knob.net.limits"}
    assert not ids & told
    assert ids | told == {finding.id for finding in audit_knobs(facts, KNOBS)}


def test_of_a_row_with_several_settings_the_others_are_still_said() -> None:
    engine = make_engine(cgroup=make_cgroup(swap_max_bytes=known(8 * GIB, "memory.swap.max")))
    facts = make_facts(engines=(engine,), memory=make_memory(swap_total_bytes=1 << 20, swap_free_bytes=1 << 20))
    whole, rest = (
        next(finding for finding in audit_knobs(facts, KNOBS, failed=failed) if finding.id == "knob.mem.swap")
        for failed in (set[str](), {"memory.may-swap"})
    )
    assert 0 < len(rest.evidence) < len(whole.evidence)
