"""Limits of an engine's processes, what the kernel kills first, and how much memory it may have."""

from __future__ import annotations

from collections.abc import Iterator

from bedplate.model.facts.finding import Confidence, Evidence, Severity
from bedplate.model.facts.host import HostFacts
from bedplate.model.facts.reading import Unknown
from bedplate.model.units import GIB, MIB, render_size
from bedplate.plan.engine_arguments import count_argument
from bedplate.plan.rules.checks.fixes import drop_in, set_property, undo_drop_in
from bedplate.plan.rules.observation import Observation, not_judged, seen, unknown
from bedplate.plan.rules.rule import Result
from bedplate.plan.rules.terms import (
    Deployment,
    accelerator_files,
    accelerators,
    deployments,
    in_container,
    is_container,
)

_NOFILE_LEAST, _NOFILE_POOR = 65_536, 4_096
_SHM_A_DEVICE = 2 * GIB
_SHM_DOCKER = 64 * MIB  # what docker and containerd give without --shm-size
_MEMLOCK_LEAST = GIB
_NEAR_LIMIT = 0.9
_NO_SWAP = "docker: --memory-swap equal to --memory"
_LARGE_SHARE = 0.25
_PARALLEL = ("--tensor-parallel-size", "-tp", "--tp", "--tp-size", "--pipeline-parallel-size", "-pp")


def check_nofile(facts: HostFacts) -> Iterator[Result]:
    """Fewer open files than a server with thousands of streams needs: each stream is one."""
    id = "limit.nofile"
    for group in deployments(facts):
        told = [dict(process.limits)["nofile"] for process in group.processes if "nofile" in dict(process.limits)]
        if not told:
            yield not_judged(id=id, why=f"the limits of {group.name} may not be read by this user")
            continue
        # The process with the most is the one that was raised to serve; workers need few.
        if None in told:
            continue
        most = max(bound for bound in told if bound is not None)
        if most < _NOFILE_LEAST:
            yield Observation(
                id=id,
                severity=Severity.MEDIUM if most <= _NOFILE_POOR else Severity.LOW,
                because=f"{group.name} may open {most} files",
                where=group.where,
                evidence=(Evidence(fact=f"Max open files {most}", source=f"/proc/{group.processes[0].pid}/limits"),),
                fix=drop_in(facts, group, "LimitNOFILE=1048576", "docker: --ulimit nofile=1048576"),
                undo=undo_drop_in(facts, group, "LimitNOFILE=1048576"),
                confidence=Confidence.LIKELY if most <= _NOFILE_POOR else Confidence.POSSIBLE,
            )


def check_memlock(facts: HostFacts) -> Iterator[Result]:
    """Less lockable memory than RDMA registration or --mlock takes; a process with CAP_IPC_LOCK is not bound by it."""
    id = "limit.memlock"
    has_rdma = any(interface.rdma for interface in facts.network)
    for group in deployments(facts):
        asks = any("--mlock" in process.argv for process in group.processes)
        if not asks and not (has_rdma and len(accelerators(facts)) > 1):
            continue
        told = [dict(process.limits)["memlock"] for process in group.processes if "memlock" in dict(process.limits)]
        if not told:
            yield not_judged(id=id, why=f"the limits of {group.name} may not be read by this user")
            continue
        bounds = [bound for bound in told if bound is not None]
        if bounds and min(bounds) < _MEMLOCK_LEAST:
            what = "--mlock" if asks else "RDMA"
            yield Observation(
                id=id,
                severity=Severity.MEDIUM,
                because=f"{group.name} may lock {render_size(min(bounds))} of memory, but {what} needs to lock more",
                where=group.where,
                evidence=(
                    Evidence(fact=f"Max locked memory {min(bounds)}", source=f"/proc/{group.processes[0].pid}/limits"),
                ),
                fix=drop_in(
                    facts, group, "LimitMEMLOCK=infinity", "docker: --ulimit memlock=-1; and for the runtime's own service"
                ),
                undo=undo_drop_in(facts, group, "LimitMEMLOCK=infinity"),
                # A root of the host has CAP_IPC_LOCK, and no limit then; that of a container has not.
                confidence=Confidence.LIKELY if is_container(facts) or in_container(facts, group) else Confidence.POSSIBLE,
            )


def check_shm(facts: HostFacts) -> Iterator[Result]:
    """Too small a /dev/shm for the processes of an engine over several accelerators; that of the reader's mounts only."""
    id = "limit.shm"
    size = facts.memory.shm_bytes
    for group in deployments(facts):
        ranks = max(count_argument(group.processes, 1, *_PARALLEL), len(accelerator_files(group)))
        if ranks < 2 or group.engine == "llama.cpp":
            continue  # one process has nobody to share memory with
        elsewhere = in_container(facts, group)
        if elsewhere is not False:
            yield not_judged(id=id, why=f"{group.name} is in a container: its /dev/shm is not the host's, which was read")
        elif size.value is None:
            if size.unknown is not Unknown.HIDDEN:
                yield unknown(id, "the size of /dev/shm", size)
        elif size.value < _SHM_A_DEVICE * ranks:
            yield Observation(
                id=id,
                severity=Severity.HIGH if size.value <= _SHM_DOCKER else Severity.LOW,
                because=f"/dev/shm has {render_size(size.value)} for the {ranks} ranks of {group.name}",
                where=group.where,
                evidence=(seen("size of /dev/shm", size),),
                fix=(
                    f"# docker: --ipc=host or --shm-size={2 * ranks}g; Kubernetes: emptyDir, medium: Memory, on /dev/shm.",
                    f"mount -o remount,size={2 * ranks}G /dev/shm",
                )
                if is_container(facts)
                else (f"mount -o remount,size={2 * ranks}G /dev/shm",),
                undo=(f"mount -o remount,size={size.value} /dev/shm",),
                confidence=Confidence.CERTAIN if size.value <= _SHM_DOCKER else Confidence.POSSIBLE,
            )


def check_oom(facts: HostFacts) -> Iterator[Result]:
    """What makes the engine the first to be killed when memory runs out."""
    for group in deployments(facts):
        worst = max(group.processes, key=lambda process: (process.oom_score_adj, -process.pid))
        share = (
            sum(process.rss_bytes for process in group.processes) / facts.memory.total_bytes
            if facts.memory.total_bytes
            else 0.0
        )
        if worst.oom_score_adj < 0 or (worst.oom_score_adj == 0 and share < _LARGE_SHARE):
            continue
        large = f", and it holds {share:.0%} of the memory" if share >= _LARGE_SHARE else ""
        yield Observation(
            id="limit.oom-score",
            severity=Severity.MEDIUM if worst.oom_score_adj > 0 else Severity.LOW,
            because=f"when memory runs out the kernel kills {group.name} first: oom_score_adj {worst.oom_score_adj}{large}",
            where=group.where,
            evidence=(
                Evidence(fact=f"oom_score_adj {worst.oom_score_adj}", source=f"/proc/{worst.pid}/oom_score_adj"),
                Evidence(fact=f"resident {render_size(worst.rss_bytes)}", source=f"/proc/{worst.pid}/status"),
            ),
            fix=(
                f"choom --adjust -900 --pid {worst.pid}",
                "# Permanently: OOMScoreAdjust=-900 in its unit; Kubernetes: memory requests equal to limits.",
            ),
            undo=(f"choom --adjust {worst.oom_score_adj} --pid {worst.pid}",),
            confidence=Confidence.LIKELY if worst.oom_score_adj > 0 else Confidence.POSSIBLE,
        )


def check_memory_limit(facts: HostFacts) -> Iterator[Result]:
    """A memory limit that leaves no room beside what the engine holds: mapped weights are dropped and read again."""
    id = "memory.limit-near"
    for group in deployments(facts):
        limit = group.cgroup.memory_max_bytes
        if limit.value is None:
            if limit.unknown is not Unknown.ABSENT:
                yield unknown(id, f"the memory limit of {group.name}", limit)
            continue
        held = max(process.rss_bytes for process in group.processes)  # pages that processes share count once only so
        if held >= _NEAR_LIMIT * limit.value:
            yield Observation(
                id=id,
                severity=Severity.MEDIUM,
                because=f"{group.name} holds {render_size(held)} and may have {render_size(limit.value)}",
                where=group.where,
                evidence=(
                    seen("memory limit in bytes", limit),
                    Evidence(fact=f"resident {render_size(held)}", source=f"/proc/{group.processes[0].pid}/status"),
                ),
                fix=set_property(
                    facts,
                    group,
                    f"MemoryMax={int(1.2 * held)}",
                    f"At least 1.2 times what it holds: docker update --memory={int(1.2 * held)}, or the limit of the pod.",
                ),
                undo=set_property(facts, group, f"MemoryMax={limit.value}", f"The old limit: {limit.value} bytes."),
                confidence=Confidence.LIKELY,
            )


def check_swapped(facts: HostFacts) -> Iterator[Result]:
    """Memory of an engine that is in swap now: the next token that needs it waits for a disk."""
    for group in deployments(facts):
        swapped = sum(process.swap_bytes for process in group.processes)
        held = sum(process.rss_bytes for process in group.processes)
        if swapped < max(64 * MIB, held // 100):
            continue
        yield Observation(
            id="memory.engine-swapped",
            severity=Severity.HIGH if swapped >= held // 10 else Severity.MEDIUM,
            because=f"{render_size(swapped)} of {group.name} are in swap, {render_size(held)} in memory",
            where=group.where,
            evidence=(Evidence(fact=f"VmSwap {render_size(swapped)}", source=f"/proc/{group.processes[0].pid}/status"),),
            fix=(
                "# Protect its memory, and let the neighbours swap, each within its own limit:",
                *set_property(facts, group, "MemorySwapMax=0", _NO_SWAP),
            ),
            undo=set_property(facts, group, "MemorySwapMax=infinity", "The old limits."),
            confidence=Confidence.LIKELY,
        )


def check_swap_policy(facts: HostFacts) -> Iterator[Result]:
    """Swap that is in use, and an engine on the CPU whose weights may go there: its cgroup does not forbid it."""
    id = "memory.may-swap"
    used = facts.memory.swap_total_bytes - facts.memory.swap_free_bytes
    for group in deployments(facts):
        if used < 64 * MIB or group.devices or not group.devices_known or _locked(group):
            continue
        most = group.cgroup.swap_max_bytes
        if most.value == 0:
            continue
        if most.value is None and most.unknown is not Unknown.ABSENT:
            yield unknown(id, f"whether {group.name} may swap", most)
            continue
        yield Observation(
            id=id,
            severity=Severity.LOW,
            because=(
                f"{group.name} keeps its model in memory that may be swapped, and {render_size(used)} of swap are in use"
            ),
            where=group.where,
            evidence=(
                Evidence(fact=f"swap in use {render_size(used)}", source="/proc/meminfo"),
                seen("the cgroup's swap limit", most),
            ),
            fix=set_property(facts, group, "MemorySwapMax=0", _NO_SWAP),
            undo=set_property(facts, group, "MemorySwapMax=infinity", "The old limits."),
            confidence=Confidence.POSSIBLE,
        )


def _locked(group: Deployment) -> bool:
    return any("--mlock" in process.argv for process in group.processes)
