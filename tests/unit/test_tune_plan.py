"""What plans change on made machines, and that a plan which holds asks for nothing more."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.facts_factory import (
    make_block,
    make_cgroup,
    make_cpu,
    make_engine,
    make_facts,
    make_kernel,
    make_memory,
    make_nic,
    make_numa,
    make_os,
    make_thread,
    with_gpus,
)
from tests.unit.tune_machines import (
    GIB,
    KNOBS,
    ROWS,
    SPEED,
    VLLM,
    apply,
    make_group,
    make_groups,
    make_root_group,
    plan,
    reading,
    reason,
    serving,
    undo,
    wanted,
)

from bedplate.catalog.policies import find_policy
from bedplate.model.facts.groups import Groups
from bedplate.model.facts.host import HostFacts
from bedplate.model.facts.reading import Reading, Unknown, known, missing
from bedplate.model.knob import ChangeNeed
from bedplate.model.knob_value import Compare, parse_value
from bedplate.model.plan_part import Part
from bedplate.model.proof import Conditions, Judgement, Proof
from bedplate.model.tuning import UNIT_PROPERTIES, Means, Plan, Policy
from bedplate.plan.tune.builder import read_property
from bedplate.plan.tune.chain import engine_levels, find_chains

SMALL = make_cpu(nodes=1, cores_per_node=2)


def server(**changes: Any) -> HostFacts:
    """Two nodes of sixteen cores with two threads each, four GPUs on each node."""
    cpu = make_cpu(nodes=2, cores_per_node=16, threads_per_core=2)
    return with_gpus(make_facts(cpu=cpu, numa=make_numa(cpu, mem_bytes=256 * GIB), **changes), 8)


def test_each_level_of_the_chain_outweighs_its_siblings() -> None:
    """A weight is an offer among siblings: system.slice stays at 100 beside user.slice without its own."""
    want = wanted(plan(serving(), make_groups(make_group(VLLM))))
    assert want["system.slice:CPUWeight"] == "1900"
    assert want["vllm.service:CPUWeight"] == "1900"
    assert want["background.slice:CPUWeight"] == "idle"
    assert "inference.slice:CPUWeight" not in want


def test_an_engine_in_inference_slice_weighs_as_that_slice() -> None:
    inside = "/inference.slice/bedplate-engine@chat.service"
    want = wanted(plan(serving(inside), make_groups(make_group("/inference.slice"), make_group(inside))))
    assert want["inference.slice:CPUWeight"] == "1900"
    assert "bedplate-engine@chat.service:CPUWeight" not in want
    assert want["system.slice:CPUWeight"] == "212", "the system's own services come before neighbours"
    assert want["bedplate-engine@chat.service:MemoryLow"] == want["inference.slice:MemoryLow"]


def test_before_any_engine_runs_the_slices_are_weighed_and_memory_waits() -> None:
    made = plan(make_facts(), make_groups())
    assert wanted(made)["inference.slice:CPUWeight"] == "1900"
    assert "no engine runs" in reason(made, "mem.low")
    assert not [name for name in wanted(made) if "MemoryHigh" in name]


def test_the_root_group_has_no_weight() -> None:
    made = plan(serving("/"), make_groups())
    assert "run it as a unit" in reason(made, "cpu.weight")


def test_a_sibling_that_outweighs_comes_down_unless_it_is_the_systems_own() -> None:
    heavy = make_group("/system.slice/backup.service", cpu_weight="5000")
    own = make_group("/system.slice/ssh.service", cpu_weight="1000")
    want = wanted(plan(serving(), make_groups(make_group(VLLM), heavy, own)))
    assert want["backup.service:CPUWeight"] == "100"
    assert "ssh.service:CPUWeight" not in want, "more than the system's share already"
    assert "ssh.service:MemoryHigh" not in want
    assert "backup.service:MemoryHigh" in want


@pytest.mark.parametrize("policy", list(Policy))
@pytest.mark.parametrize("where", [VLLM, "/inference.slice/bedplate-engine@chat.service"])
def test_by_what_a_host_is_administered_is_never_starved(policy: Policy, where: str) -> None:
    """At 100:1 an administrator's shell and process 1 had a hundredth of the CPUs beside a busy engine."""
    groups = make_groups(make_group("/inference.slice"), make_group(where))
    want = wanted(plan(serving(where), groups, policy))
    row = find_policy(policy, ROWS)
    engine = int(want[f"{where.split('/')[1]}:CPUWeight"])
    control = {"init.scope", "user.slice"} | ({"ssh.service"} if where == VLLM else {"system.slice"})
    for unit in control:
        weight = int(want[f"{unit}:CPUWeight"])
        assert weight / (weight + engine) >= row.system_pct / 100
        assert weight > int(want.get("neighbour.slice:CPUWeight", "100").replace("idle", "1"))


@pytest.mark.parametrize("policy", list(Policy))
def test_a_policy_with_a_floor_leaves_it_to_whatever_nobody_weighed(policy: Policy) -> None:
    """Threads of the kernel, services and slices that start later have weight 100 at each level."""
    made = plan(serving(), make_groups(make_group(VLLM)), policy)
    row = find_policy(policy, ROWS)
    for level in ("system.slice", "vllm.service"):
        engine = int(wanted(made)[f"{level}:CPUWeight"])
        assert 100 / (100 + engine) >= row.floor_pct / 100
        assert row.floor_pct or engine == 10000


def test_a_policy_that_leaves_a_part_out_says_so_of_every_row_of_the_part() -> None:
    row = find_policy(Policy.EDGE, ROWS)
    made = plan(serving(), make_groups(), Policy.EDGE)
    left_out = [knob for knob in KNOBS if knob.part in (Part.CONFINEMENT, Part.NUMA, Part.INTERRUPTS)]
    assert len(left_out) == 5
    for knob in left_out:
        assert reason(made, knob.id) == f"policy edge leaves {knob.part} out: {row.aim}"


def test_pressure_that_is_off_is_turned_on_at_the_next_boot_by_the_flag_of_its_row() -> None:
    gone: tuple[Reading[str], ...] = tuple(
        missing(Unknown.ABSENT, f"/proc/pressure/{name}") for name in ("cpu", "memory", "io")
    )
    (change,) = [change for change in plan(serving(knobs=gone), make_groups()).changes if change.knob == "hk.psi"]
    assert (str(change.setting), change.new, change.needs) == ("cmdline:psi", "1", (ChangeNeed.ROOT, ChangeNeed.REBOOT))
    assert change.because.startswith("/proc/pressure/cpu is not there: ")


def test_the_plan_says_what_the_floor_is_on_this_host_and_what_it_costs() -> None:
    made = plan(serving(cpu=SMALL, numa=make_numa(SMALL)), make_groups(make_group("/neighbour.slice", cpu_weight="200")))
    (change,) = [change for change in made.changes if str(change.setting) == "neighbour.slice:CPUWeight"]
    row = find_policy(Policy.SHARED_HOST, ROWS)
    assert f"{row.floor_pct} % of 2 CPUs ({row.floor_pct * 2 / 100:g})" in change.because
    assert row.floor_cost in change.because


def test_a_higher_weight_of_the_service_manager_stays() -> None:
    groups = make_groups(make_group(VLLM), make_group("/init.scope", cpu_weight="5000"))
    assert "init.scope:CPUWeight" not in wanted(plan(serving(), groups))


@pytest.mark.parametrize("policy", [Policy.DEDICATED, Policy.LATENCY, Policy.EDGE])
def test_where_the_engine_alone_counts_neighbours_yield_at_once(policy: Policy) -> None:
    assert wanted(plan(serving(), make_groups(), policy))["neighbour.slice:CPUWeight"] == "idle"


def test_an_old_systemd_that_does_not_know_idle_gets_the_least_weight() -> None:
    assert wanted(plan(serving(), make_groups(systemd=249)))["background.slice:CPUWeight"] == "1"


def test_a_policy_forbids_no_setting_that_only_goes_back_to_the_safe_default() -> None:
    """ "Never touched" would keep mitigations=off where isolation counts most."""
    kernel = make_kernel(cmdline=("ro", "mitigations=off", "init_on_alloc=0"))
    gone = {change.setting.name for change in plan(serving(kernel=kernel), make_groups(), Policy.CONFIDENTIAL).changes}
    assert {"mitigations", "init_on_alloc"} <= gone


def test_the_oom_killer_is_told_to_take_others_first_at_the_next_start() -> None:
    engine = make_engine(oom_score_adj=0, cgroup=make_cgroup(path=VLLM))
    made = plan(serving(engines=(engine,)), make_groups())
    (change,) = [change for change in made.changes if change.knob == "mem.oomscore"]
    assert (change.setting.key, change.old, change.new) == ("OOMScoreAdjust", "0", "-900")
    assert ChangeNeed.ENGINE_RESTART in change.needs


def test_no_neighbour_is_pinned_on_two_cpus_and_a_pinned_one_is_let_go() -> None:
    facts = serving(cpu=SMALL, numa=make_numa(SMALL))
    assert "3 % of its" in reason(plan(facts, make_groups()), "cpu.confine-neighbours")
    pinned = make_groups(make_group("/neighbour.slice", cpuset_cpus="1"))
    assert wanted(plan(facts, pinned))["neighbour.slice:AllowedCPUs"] == ""


def test_on_a_large_host_neighbours_get_whole_cores_and_the_engine_keeps_all() -> None:
    made = plan(server(engines=(make_engine(),)), make_groups())
    assert wanted(made)["neighbour.slice:AllowedCPUs"] == "0-2,16,32-34,48"  # four cores: a tenth of 32, both nodes
    assert wanted(made)["user.slice:AllowedCPUs"] == "0-2,16,32-34,48"
    assert not [name for name in wanted(made) if name.startswith(("system.slice:Allowed", "vllm.service:Allowed"))]


def test_without_accelerators_nobody_is_pinned() -> None:
    cpu = make_cpu(nodes=2, cores_per_node=16)
    made = plan(serving(cpu=cpu, numa=make_numa(cpu)), make_groups())
    assert "engines compute on all cores" in reason(made, "cpu.confine-neighbours")


def test_disks_are_planned_from_what_was_measured_and_only_so() -> None:
    made = plan(serving(), make_groups())
    assert reason(made, "io.cost").startswith("not measured on this host")
    assert not [name for name in wanted(made) if "IOWeight" in name]
    made = plan(serving(blocks=(make_block(),)), make_groups(), io=(SPEED,))
    want = wanted(made)
    assert want["/sys/fs/cgroup/io.cost.model"].startswith("259:0 ctrl=user model=linear rbps=3000000000 rseqiops=400000")
    assert "rlat=180" in want["/sys/fs/cgroup/io.cost.qos"]
    assert (want["vllm.service:IOWeight"], want["neighbour.slice:IOWeight"]) == ("10000", "100")
    assert want["background.slice:IOWeight"] == "1"
    assert want["vm.dirty_background_bytes"] == str(1430 << 20)  # one second of 1.5 GB/s in whole MiB
    assert want["vm.dirty_bytes"] == str(4 * (1430 << 20))  # two GiB and more are still less than a fifth of 64 GiB


def test_a_fast_disk_in_a_small_machine_keeps_the_kernels_dirty_limit() -> None:
    made = plan(serving(memory=make_memory(total_bytes=8 * GIB)), make_groups(), io=(SPEED,))
    assert "more than the 1.6 GiB that the kernel allows" in reason(made, "io.dirty")


def test_a_disk_that_loses_by_io_cost_is_not_divided() -> None:
    slow = dataclasses.replace(SPEED, kept_pct=66)
    made = plan(serving(blocks=(make_block(),)), make_groups(), io=(slow,))
    assert "kept 66 % under it" in reason(made, "io.cost")
    assert "io.cost" not in " ".join(wanted(made))
    untried = dataclasses.replace(SPEED, kept_pct=None)
    made = plan(serving(blocks=(make_block(),)), make_groups(), io=(untried,))
    assert "/sys/fs/cgroup/io.cost.qos" in wanted(made)


def test_a_kernel_without_iocost_says_so() -> None:
    groups = make_groups()
    bare = dataclasses.replace(groups, groups=tuple(group for group in groups.groups if group.path != "/"))
    made = plan(serving(), bare, io=(SPEED,))
    assert "CONFIG_BLK_CGROUP_IOCOST" in reason(made, "io.cost")
    assert not [name for name in wanted(made) if "IOWeight" in name or "io.cost" in name]


def test_an_engine_on_one_nodes_accelerators_starts_bound_to_it() -> None:
    engine = make_engine(
        devices=("/dev/nvidia4", "/dev/nvidia5"),
        threads=(make_thread(1, tuple(range(64))),),
        numa_bytes=((0, 3 * GIB), (1, 5 * GIB)),
        cgroup=make_cgroup(path=VLLM),
    )
    made = plan(server(engines=(engine,)), make_groups())
    want = wanted(made)
    assert (want["vllm.service:AllowedCPUs"], want["vllm.service:AllowedMemoryNodes"]) == ("16-31,48-63", "1")
    assert all(
        ChangeNeed.ENGINE_RESTART in change.needs for change in made.changes if change.knob == "cpu.numa-domain-affinity"
    )
    assert "not bound" in reason(made, "numa.balancing")


def test_an_engine_that_spans_nodes_is_never_caged() -> None:
    engine = make_engine(devices=tuple(f"/dev/nvidia{n}" for n in range(8)), threads=(make_thread(1, tuple(range(64))),))
    made = plan(server(engines=(engine,)), make_groups())
    assert "--numa-bind" in reason(made, "cpu.numa-domain-affinity")


def test_balancing_goes_off_when_every_engine_is_bound() -> None:
    knobs = (reading("/proc/sys/kernel/numa_balancing", "1"),)
    engine = make_engine(threads=(make_thread(1, tuple(range(16, 32))),))
    assert wanted(plan(server(engines=(engine,), knobs=knobs), make_groups()))["kernel.numa_balancing"] == "0"


def test_interrupts_move_to_housekeeping_cores_of_their_node() -> None:
    card = make_nic(irqs=tuple((100 + n, tuple(range(64))) for n in range(4)))
    facts = server(engines=(make_engine(),), network=(card,))
    made = plan(facts, make_groups())
    assert wanted(made)["/proc/irq/100/smp_affinity_list"] == "0-2,32-34"
    balanced = dataclasses.replace(facts, os=make_os(co_owners=("irqbalance",)))
    made = plan(balanced, make_groups())
    assert "irqbalance places interrupts" in reason(made, "irq.affinity")
    assert made.refusals == ()


CARGO = (
    ("/proc/sys/vm/swappiness", "1", "60", "mem.swappiness"),
    ("/proc/sys/vm/zone_reclaim_mode", "1", "0", "numa.zone_reclaim"),
    ("/sys/kernel/mm/transparent_hugepage/enabled", "always madvise [never]", "madvise", "mem.thp"),
    ("/proc/sys/net/core/busy_poll", "50", "0", "net.busypoll"),
)


@pytest.mark.parametrize(("path", "text", "new", "knob"), CARGO)
def test_settings_that_were_copied_go_back_to_the_default(path: str, text: str, new: str, knob: str) -> None:
    made = plan(serving(knobs=(reading(path, text),)), make_groups())
    (change,) = [change for change in made.changes if change.setting.name == path]
    assert (change.new, change.knob) == (new, knob)
    assert change.old is not None and change.old in text
    assert change.because


def test_huge_pages_that_no_program_uses_go_back() -> None:
    made = plan(serving(memory=make_memory(huge_pages=((2 << 20, 8192, 8192), (1 << 30, 4, 3)))), make_groups())
    pools = {name: new for name, new in wanted(made).items() if "hugepages" in name}
    assert pools == {"/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages": "0"}


def test_parameters_of_the_kernel_go_at_the_next_boot() -> None:
    kernel = make_kernel(cmdline=("root=/dev/sda1", "isolcpus=0,1,48,49", "mitigations=off", "idle=poll"))
    made = plan(serving(kernel=kernel), make_groups())
    gone = {change.setting.name: change for change in made.changes if change.setting.means is Means.CMDLINE}
    assert set(gone) == {"isolcpus", "mitigations", "idle"}
    assert gone["isolcpus"].old == "0,1,48,49"
    assert all(change.compare is Compare.ABSENT and ChangeNeed.REBOOT in change.needs for change in gone.values())


def make_proof(subject: str = "kernel.mm.thp", judgement: Judgement = Judgement.KEEP, **changes: Any) -> Proof:
    values: dict[str, Any] = {
        "subject": subject,
        "judgement": judgement,
        "because": "tokens 1.13 times (1.10 to 1.16)",
        "effects": (),
        "antagonists": (),
        "victim": "llama.cpp",
        "kernel": "6.12.48-amd64",
        "driver": "",
        "engine": "llama.cpp",
        "machine": "AMD EPYC 9334 32-Core Processor, 8 CPUs, 64 GiB",
        "made": "2026-11-24T20:00:00Z",
        "seed": 1,
        "command": "bedplate prove",
        "samples": (),
    }
    return Proof(**(values | changes))


NOW = Conditions(kernel="6.12.48-amd64", driver="", engine="", machine="AMD EPYC 9334 32-Core Processor, 8 CPUs, 64 GiB")
THP = "/sys/kernel/mm/transparent_hugepage/enabled"


def test_an_experiment_is_adopted_by_its_proof_and_by_nothing_else() -> None:
    facts, groups = serving(knobs=(reading(THP, "always [madvise] never"),)), make_groups()
    assert THP not in wanted(plan(facts, groups))
    proved = make_proof(f"{THP}=always")
    made = plan(facts, groups, proofs=(proved,), now=NOW)
    (change,) = [change for change in made.changes if change.setting.name == THP]
    assert (change.old, change.new) == ("madvise", "always")
    assert "1.13 times" in change.because
    old = plan(facts, groups, proofs=(dataclasses.replace(proved, kernel="6.1.0"),), now=NOW)
    assert "expired" in reason(old, "mem.thp")
    useless = plan(facts, groups, proofs=(dataclasses.replace(proved, judgement=Judgement.NO_EFFECT),), now=NOW)
    assert "no effect on this host" in reason(useless, "mem.thp")


def test_what_was_shown_to_harm_here_is_not_planned() -> None:
    facts = serving(knobs=(reading("/proc/sys/vm/swappiness", "1"),))
    proof = make_proof("vm.swappiness=60", Judgement.REVERT)
    made = plan(facts, make_groups(), proofs=(proof,), now=NOW)
    assert "vm.swappiness" not in wanted(made)
    assert "revert on this host" in reason(made, "mem.swappiness")


REFUSED: tuple[tuple[str, dict[str, Any], dict[str, Any]], ...] = (
    ("tuned", {"os": make_os(co_owners=("tuned",))}, {}),
    ("bpftune", {"os": make_os(co_owners=("bpftune",))}, {}),
    ("kubelet", {"os": make_os(co_owners=("kubelet",))}, {}),
    ("control groups", {}, {"version": 1, "groups": ()}),
    ("service manager", {"os": make_os(init=known("init", "/proc/1/comm"), systemd=False)}, {}),
    ("container (docker)", {"os": make_os(container=known("docker", "/proc/1/environ"))}, {}),
)


@pytest.mark.parametrize(("what", "facts", "groups"), REFUSED, ids=[case[0] for case in REFUSED])
def test_a_plan_that_must_not_be_applied_says_why_and_can_be_read(
    what: str, facts: dict[str, Any], groups: dict[str, Any]
) -> None:
    made = plan(serving(**facts), make_groups(**groups))
    assert [refusal.what for refusal in made.refusals] == [what]
    assert all(refusal.because and refusal.hint for refusal in made.refusals)
    assert made.changes


@st.composite
def machines(draw: st.DrawFn) -> tuple[HostFacts, Groups]:
    """Small and large machines, engines in all kinds of places, and settings of all kinds of guides."""
    big = draw(st.booleans())
    cpu = make_cpu(nodes=draw(st.sampled_from((1, 2))), cores_per_node=16 if big else draw(st.sampled_from((1, 2, 4))))
    paths = (
        "/",
        VLLM,
        "/inference.slice/a.service",
        "/user.slice/user-0.slice/session-1.scope",
        "/system.slice/x.service/sub",
    )
    where = draw(st.lists(st.sampled_from(paths), max_size=3))
    pids = range(100, 100 + 10 * len(where), 10)
    everywhere = tuple(logical.cpu for logical in cpu.cpus)
    engines = tuple(
        make_engine(
            pid=pid,
            cgroup=make_cgroup(path=path),
            oom_score_adj=draw(st.sampled_from((0, -900))),
            threads=(make_thread(pid, everywhere),),
            devices=("/dev/nvidia0",) if big else (),
        )
        for pid, path in zip(pids, where, strict=True)
    )
    memory = make_memory(
        total_bytes=draw(st.integers(1, 512)) * GIB // 2,
        swap_total_bytes=draw(st.sampled_from((0, 4 * GIB))),
    )
    knobs = tuple(reading(path, text) for path, text, _, _ in draw(st.lists(st.sampled_from(CARGO), unique=True)))
    words = draw(st.lists(st.sampled_from(("isolcpus=1", "quiet", "nohz_full=1", "mitigations=off")), unique=True))
    facts = make_facts(
        cpu=cpu,
        numa=make_numa(cpu, mem_bytes=memory.total_bytes),
        memory=memory,
        engines=engines,
        knobs=knobs,
        kernel=make_kernel(cmdline=("ro", *words)),
    )
    if big:
        facts = with_gpus(facts, 2)
    held = {level: make_group(level) for chain in find_chains(facts) for level in chain.levels}
    sizes = st.integers(0, 2 * memory.total_bytes).map(str)
    levels = ("/system.slice", VLLM, "/inference.slice", "/inference.slice/a.service", "/neighbour.slice", "/user.slice")
    held |= {
        path: make_group(path, memory_current=draw(sizes), cpu_weight=draw(st.sampled_from(("1", "100", "9999"))))
        for path in draw(st.lists(st.sampled_from(levels), unique=True))
    }
    return facts, make_groups(*held.values())


@settings(max_examples=60, deadline=None)
@given(machine=machines(), policy=st.sampled_from(list(Policy)), measured=st.booleans())
def test_planning_again_changes_nothing_and_undo_brings_all_back(
    machine: tuple[HostFacts, Groups], policy: Policy, measured: bool
) -> None:
    facts, groups = machine
    io = (SPEED,) if measured else ()
    made = plan(facts, groups, policy, io=io)
    check(made, tuple("/" + path.rpartition("/")[2] for path in engine_levels(find_chains(facts))))
    after = apply(made, facts, groups)
    again = plan(*after, policy, io=io)
    # What is bound at a restart is bound only after it: balancing goes off then, and never before.
    assert {str(change.setting) for change in again.changes} <= {"kernel.numa_balancing"}
    facts, groups = undo(made, *after)
    # In place of the one that is applied the same is planned: whoever plans reads the machine as it was before, without
    # groups that came with the plan (bedplate.act.tuning.baseline). Only the threads of engines stay where they are bound.
    replacing = wanted(plan(facts, machine[1], policy, io=io, applied=made))
    assert wanted(made).items() <= replacing.items()
    for change in made.changes:
        if (
            change.setting.means is Means.UNIT
            and change.setting.key in UNIT_PROPERTIES
            and ChangeNeed.ENGINE_RESTART not in change.needs
        ):
            path = next(group.path for group in groups.groups if group.unit == change.setting.name)
            now = read_property(groups, path, change.setting.key)
            assert now == change.old or (change.old is None and now in ("100", "0", "infinity", ""))
    texts = {knob.source: knob.text for knob in facts.knobs}
    for before in machine[0].knobs:
        assert texts[before.source] in before.text  # "never" of "always madvise [never]"
    assert set(facts.kernel.cmdline) == set(machine[0].kernel.cmdline)


def check(made: Plan, units: tuple[str, ...]) -> None:
    """What holds of every plan; units hold engines."""
    told = [skip.knob for skip in made.skips]
    changed = {change.knob for change in made.changes}
    assert changed | set(told) == {knob.id for knob in KNOBS}
    # The root group has no weight; zswap is left under the confidential policy; system.slice with an engine has no bound.
    assert changed & set(told) <= {"cpu.weight", "mem.swap", "mem.high"}
    assert len(told) == len(set(told))
    assert all(skip.reason for skip in made.skips)
    names = [str(change.setting) for change in made.changes]
    assert len(names) == len(set(names))
    for change in made.changes:
        assert change.because
        assert change.old != change.new
        if change.new and change.compare is not Compare.ABSENT:
            parse_value(change.new, change.parse)
        if change.old:
            assert change.old not in ("max",)
        caged = change.setting.key in ("MemoryMax", "MemoryHigh", "CPUQuota") and f"/{change.setting.name}" in units
        assert not caged


def test_a_plan_depends_on_nothing_but_its_input() -> None:
    facts, groups = serving(), make_groups(make_root_group())
    assert plan(facts, groups).digest == plan(facts, groups).digest


WORDS = ("", "max", "\u00b2", "9" * 5000, "-1", "0x", "default", "default \u00b2", "[", "1 2 3", "259:0", "\n", "%s {0}")
HOSTILE = st.one_of(st.text(max_size=30), st.sampled_from(WORDS))


@settings(max_examples=100, deadline=None)
@given(texts=st.lists(HOSTILE, min_size=12, max_size=12), name=st.text(min_size=1, max_size=20), measured=st.booleans())
def test_whatever_a_recording_says_a_plan_is_made(texts: list[str], name: str, measured: bool) -> None:
    names = ("cpu.weight", "cpu.idle", "memory.current", "memory.low", "memory.high", "io.weight", "cpuset.cpus")
    files = {file.replace(".", "_"): text for file, text in zip(names, texts, strict=False)}
    unit = f"/system.slice/{name}.service"
    groups = make_groups(
        make_group(VLLM, **files),
        make_group("/neighbour.slice", **files),
        make_group("/system.slice", **files),
        make_group(unit, **files),
        make_root_group(io_cost_model=texts[7], io_cost_qos=texts[8]),
    )
    knobs = tuple(reading(path, text) for (path, _, _, _), text in zip(CARGO, texts[8:], strict=False))
    for where in (VLLM, unit, texts[9]):
        made = plan(serving(where, knobs=knobs), groups, io=(SPEED,) if measured else ())
        assert made.skips
        assert made.digest
