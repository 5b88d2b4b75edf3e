"""Processor cores that an engine has: enough for its processes, not more threads than CPUs, and time when it wants it.

How many vLLM needs is documented ("CPU Resources for GPU Deployments" of its optimization guide): one physical core for
each API server, one for each data-parallel engine core, one for each GPU's worker, one more for the coordinator of several
ranks. No other engine says what it needs, and nothing is claimed of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from bedplate.model.facts.finding import Confidence, Evidence, Severity
from bedplate.model.facts.host import HostFacts
from bedplate.model.facts.reading import Unknown
from bedplate.model.facts.system import CgroupFacts
from bedplate.model.wording import plural
from bedplate.plan.engine_arguments import count_argument
from bedplate.plan.rules.checks.fixes import confine, set_property, undo_confine
from bedplate.plan.rules.observation import Observation, not_judged, unknown
from bedplate.plan.rules.rule import Result
from bedplate.plan.rules.terms import (
    Deployment,
    accelerator_files,
    accelerators,
    deployments,
    is_container,
    processes_seen,
)

_RANKS = ("--data-parallel-size", "-dp", "--data_parallel_size")
_SERVERS = ("--api-server-count", "-asc", "--api_server_count")
_TENSOR = ("--tensor-parallel-size", "-tp", "--tensor_parallel_size")
_PIPELINE = ("--pipeline-parallel-size", "-pp", "--pipeline_parallel_size")
_THREADS = ("-t", "--threads", "-tb", "--threads-batch")

# A library that sizes its pools by the machine starts a thread a CPU in each of several pools: four times the CPUs is past
# what an engine that knows its cgroup has, and 16 more keeps small machines quiet, whose servers have some anyway.
_THREADS_A_CPU, _THREADS_MORE = 4, 16
_WAIT_SHARE, _WAIT_MUCH = 0.05, 0.20
_RUN_LEAST_S = 60.0  # processor time below which shares say nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """What a cgroup gives: CPUs, the cores that they are on, and CPUs' worth of time."""

    cpus: tuple[int, ...]
    cores: int
    quota_cpus: float | None
    evidence: tuple[Evidence, ...]

    @property
    def capacity(self) -> float:
        """CPUs' worth of time."""
        return len(self.cpus) if self.quota_cpus is None else min(len(self.cpus), self.quota_cpus)


def room_of(facts: HostFacts, cgroup: CgroupFacts) -> Room | None:
    """None when the CPUs are not known."""
    online = set(facts.cpu.online)
    allowed = cgroup.cpus.value
    if allowed is None:
        # Without the cpuset controller a cgroup may use all.
        if cgroup.cpus.unknown is not Unknown.ABSENT:
            return None
        allowed = tuple(sorted(online))
    cpus = tuple(cpu for cpu in allowed if cpu in online)
    if not cpus:
        return None
    cores = {cpu.siblings or (cpu.cpu,) for cpu in facts.cpu.cpus if cpu.cpu in cpus}
    evidence = [Evidence(fact=f"{plural(len(cpus), 'CPU')} on {plural(len(cores), 'core')}", source=cgroup.cpus.source)]
    if cgroup.quota_cpus.value is not None:
        evidence.append(Evidence(fact=f"a quota of {cgroup.quota_cpus.value:g} CPUs", source=cgroup.quota_cpus.source))
    return Room(cpus=cpus, cores=len(cores), quota_cpus=cgroup.quota_cpus.value, evidence=tuple(evidence))


def check_cores(facts: HostFacts) -> Iterator[Result]:
    """Fewer physical cores than vLLM documents that it needs; without an engine, than one over all accelerators would."""
    id = "cores.too-few"
    usable = accelerators(facts)
    if not usable:
        return
    groups = deployments(facts)
    for group in groups:
        if group.engine != "vllm":
            yield not_judged(id=id, why=f"{group.engine} does not document how many cores it needs")
            continue
        servers = count_argument(group.processes, 1, *_SERVERS)
        ranks = count_argument(group.processes, 1, *_RANKS)
        devices = max(len(accelerator_files(group)), _workers(group, ranks))
        if devices == 0:
            continue  # it runs on the CPU: another finding
        yield from _judge(facts, group.cgroup, group.name, group.where, servers, ranks, devices, certain=True)
    if not groups and not processes_seen(facts):
        # A topology that another program exported leaves out what its own cgroup forbade.
        yield not_judged(id=id, why="the recording may hold only a part of the machine's cores")
    elif not groups:
        # The cgroup of a shell on the host says nothing of a service that will be started there.
        cgroup = facts.cgroup if is_container(facts) else None
        yield from _judge(facts, cgroup, "vLLM", ("machine",), 1, 1, len(usable), certain=False)


def _judge(
    facts: HostFacts, cgroup: CgroupFacts | None, name: str, where: tuple[str, ...], servers: int, ranks: int, devices: int,
    *, certain: bool,
) -> Iterator[Result]:  # fmt: skip
    id = "cores.too-few"
    if cgroup is not None:
        room = room_of(facts, cgroup)
        if room is None:
            yield unknown(id, f"the CPUs that {name} has", cgroup.cpus)
            return
        cores, evidence = min(float(room.cores), room.capacity), room.evidence
    else:
        cores = float(facts.cpu.cores)
        evidence = (Evidence(fact=plural(facts.cpu.cores, "core"), source="/sys/devices/system/cpu"),)
    if not facts.cpu.cores:
        yield not_judged(id=id, why="the number of cores is unknown")
        return
    need = servers + ranks + devices + (1 if ranks > 1 else 0)
    if cores >= need:
        return
    sum_of = f"{plural(servers, 'API server')} + {plural(ranks, 'engine core')} + {plural(devices, 'accelerator')}"
    sum_of += " + 1 coordinator" if ranks > 1 else ""
    verb = "needs" if certain else "over all accelerators would need"
    yield Observation(
        id=id,
        severity=Severity.CRITICAL if certain else Severity.HIGH,
        because=f"{name} {verb} {need} physical cores ({sum_of}) and has {cores:g}",
        where=where,
        evidence=evidence,
        fix=(
            "# Give its container or service more CPUs: Kubernetes requests and limits, docker --cpus and --cpuset-cpus,",
            "# CPUQuota= and AllowedCPUs= of a service.",
            "# If the machine has no more: use fewer API servers and ranks, or a machine with more cores.",
        ),
        undo=("# Restore the quota and the CPUs given in the evidence.",),
        confidence=Confidence.CERTAIN if certain else Confidence.POSSIBLE,
    )


def _workers(group: Deployment, ranks: int) -> int:
    """Accelerators that its command line asks for; 0 where it does not say."""
    told = count_argument(group.processes, 0, *_TENSOR), count_argument(group.processes, 0, *_PIPELINE)
    return max(told[0], 1) * max(told[1], 1) * ranks if any(told) or ranks > 1 else 0


def check_threads(facts: HostFacts) -> Iterator[Result]:
    """More threads than CPUs: those that llama.cpp was told, or pools that were sized by the machine, not the cgroup."""
    id = "cores.threads-exceed"
    for group in deployments(facts):
        room = room_of(facts, group.cgroup)
        threads = sum(len(process.threads) for process in group.processes)
        if room is None:
            yield unknown(id, f"the CPUs that {group.name} has", group.cgroup.cpus)
            continue
        if not threads:
            yield not_judged(id=id, why=f"the threads of {group.name} could not be read")
            continue
        told = count_argument(group.processes, 0, *_THREADS) if group.engine == "llama.cpp" else 0
        if told > room.capacity:
            yield Observation(
                id=id,
                severity=Severity.HIGH,
                because=f"{group.name} is configured for {told} threads but has {room.capacity:g} CPUs",
                where=group.where,
                evidence=(
                    *room.evidence,
                    Evidence(fact=f"{told} threads", source=_proc(group, "cmdline")),
                ),
                fix=(
                    f"# Start it with --threads {max(1, int(room.capacity))} --threads-batch {max(1, int(room.capacity))}.",
                ),
                undo=(f"# Start it again with --threads {told}.",),
            )
            continue
        limited = room.capacity < len(facts.cpu.online)
        if limited and threads > max(_THREADS_A_CPU * room.capacity, room.capacity + _THREADS_MORE):
            waits = _wait_share(group)
            yield Observation(
                id=id,
                severity=Severity.HIGH if waits is not None and waits >= _WAIT_SHARE else Severity.MEDIUM,
                because=f"{group.name} has {threads} threads and {room.capacity:g} of {len(facts.cpu.online)} CPUs",
                where=group.where,
                evidence=(
                    *room.evidence,
                    Evidence(fact=f"{threads} threads", source=_proc(group, "task")),
                    *([] if waits is None else [_waits(group, waits)]),
                ),
                fix=(
                    "# If a quota limits the cgroup, libraries size their pools by the machine. Set the size for them:",
                    f"export OMP_NUM_THREADS={max(1, min(8, int(room.capacity)))}",
                    "# They do see a cpuset instead of the quota: AllowedCPUs=, docker --cpuset-cpus.",
                ),
                undo=("unset OMP_NUM_THREADS",),
                confidence=Confidence.LIKELY if waits is not None and waits >= _WAIT_SHARE else Confidence.POSSIBLE,
            )


def check_waiting(facts: HostFacts) -> Iterator[Result]:
    """Threads that were runnable and did not run: what a neighbour on the same CPUs does, and no GPU metric shows."""
    id = "cores.waiting"
    for group in deployments(facts):
        share = _wait_share(group)
        if share is None:
            yield not_judged(id=id, why=f"{group.name} has used less than a minute of processor time, or it was not read")
        elif share >= _WAIT_SHARE:
            yield Observation(
                id=id,
                severity=Severity.HIGH if share >= _WAIT_MUCH else Severity.MEDIUM,
                because=(f"{group.name} waited for a CPU for {share:.0%} of its time on the CPUs since it started"),
                where=group.where,
                evidence=(_waits(group, share),),
                fix=(
                    "# Find what runs on the same CPUs, and confine it instead of the engine:",
                    "top -b -n 1 -H -o %CPU | head -n 20",
                    *confine(facts),
                ),
                undo=undo_confine(facts),
                confidence=Confidence.LIKELY,
            )


def _wait_share(group: Deployment) -> float | None:
    """Of all threads together, since each started; None below a minute of processor time."""
    wait_s = sum(thread.wait_s for process in group.processes for thread in process.threads)
    return wait_s / (group.run_s + wait_s) if group.run_s >= _RUN_LEAST_S else None


def _waits(group: Deployment, share: float) -> Evidence:
    return Evidence(fact=f"waiting / (running + waiting) = {share:.3f}", source=_proc(group, "task/*/schedstat"))


def _proc(group: Deployment, name: str) -> str:
    return f"/proc/{group.processes[0].pid}/{name}"


def check_quota(facts: HostFacts) -> Iterator[Result]:
    """A CPU quota on an engine, and whether it has stopped it."""
    for group in deployments(facts):
        quota, periods, throttled = group.cgroup.quota_cpus, group.cgroup.periods, group.cgroup.throttled_periods
        if quota.value is None:
            if quota.unknown is not Unknown.ABSENT:
                yield unknown("quota.throttled", f"the CPU quota of {group.name}", quota)
            continue
        if periods.value is None or throttled.value is None:
            yield unknown("quota.throttled", f"how often {group.name} was throttled", throttled)
            continue
        share = throttled.value / periods.value if periods.value else 0.0
        evidence = (
            Evidence(fact=f"a quota of {quota.value:g} CPUs", source=quota.source),
            Evidence(fact=f"throttled in {throttled.value} of {periods.value} periods", source=throttled.source),
        )
        instead = (
            "A weight instead of the quota: docker --cpu-shares without --cpus, Kubernetes requests without a CPU limit."
        )
        fix = set_property(facts, group, "CPUQuota= CPUWeight=1900", instead)
        weight = group.cgroup.cpu_weight.value or ""
        undo = set_property(facts, group, f"CPUQuota={quota.value * 100:.0f}% CPUWeight={weight}", "The same limit again.")
        if throttled.value > 0:
            yield Observation(
                id="quota.throttled",
                severity=Severity.HIGH if share >= 0.01 else Severity.MEDIUM,
                because=f"the quota of {quota.value:g} CPUs has stopped {group.name} in {share:.1%} of the periods",
                where=group.where,
                evidence=evidence,
                fix=fix,
                undo=undo,
            )
        else:
            yield Observation(
                id="quota.set",
                severity=Severity.LOW,
                because=f"{group.name} has a quota of {quota.value:g} CPUs, which has not stopped it yet",
                where=group.where,
                evidence=evidence,
                fix=fix,
                undo=undo,
                confidence=Confidence.POSSIBLE,
            )
