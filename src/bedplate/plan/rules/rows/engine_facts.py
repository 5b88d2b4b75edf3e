"""Facts about the engines that run: threads, quotas, limits, how they load.

() without an engine; a sample without a value says why it is not known.
"""

from __future__ import annotations

import re

from bedplate.model.facts.host import HostFacts
from bedplate.model.facts.reading import Reading, Unknown, known, missing
from bedplate.model.facts.system import EngineProcess
from bedplate.model.units import render_size
from bedplate.plan.accelerator_nodes import find_accelerator_nodes
from bedplate.plan.engine_arguments import argument
from bedplate.plan.rules.files import KnobFiles
from bedplate.plan.rules.rows.samples import FactReader, ObservedValue, make_sample, pass_on

_NETWORK_FILESYSTEMS = ("nfs", "nfs4", "lustre", "9p", "ceph", "cifs", "smb3", "gpfs", "beegfs", "virtiofs")
_LOADER_FLAGS = ("--safetensors-load-strategy", "--load-format", "--no-mmap", "--direct-io", "--model-loader-extra-config")
_PAM_NOFILE = re.compile(r"^[ \t]*[^#\s]\S*[ \t]+(?:soft|-)[ \t]+nofile[ \t]+(\d{1,9})\b", re.MULTILINE)  # limits.conf(5)
_REALTIME = ("fifo", "rr", "deadline")


def _where(engine: EngineProcess) -> str:
    return f"pid {engine.pid} ({engine.engine})"


def _unit(engine: EngineProcess) -> str:
    """The innermost unit of its cgroup: what systemctl takes."""
    units = [part for part in engine.cgroup.path.split("/") if part.endswith((".service", ".slice", ".scope"))]
    return units[-1] if units else engine.cgroup.path or "/"


def _threads(engine: EngineProcess, number: int, text: str) -> ObservedValue:
    source = f"/proc/{engine.pid}/task/*/status"
    if not engine.threads:
        gone: Reading[str] = missing(Unknown.DENIED, source, "its threads were not read")
        return ObservedValue(reading=gone, where=_where(engine), name=str(engine.pid))
    words = f"{number} of {len(engine.threads)} threads {text}"
    return make_sample(number, source, words, where=_where(engine), name=str(engine.pid))


def _engine_pinned_threads(facts: HostFacts, files: KnobFiles) -> tuple[ObservedValue, ...]:
    """Threads that may run on only one CPU, where their cgroup has more."""

    def count(engine: EngineProcess) -> int:
        room = engine.cgroup.cpus.value
        if room is not None and len(room) < 2:
            return 0
        return sum(len(thread.allowed) == 1 for thread in engine.threads)

    return tuple(_threads(engine, count(engine), "may run on only one CPU") for engine in facts.engines)


def _engine_realtime_threads(facts: HostFacts, files: KnobFiles) -> tuple[ObservedValue, ...]:
    return tuple(
        _threads(engine, sum(thread.policy in _REALTIME for thread in engine.threads), "run at real-time priority")
        for engine in facts.engines
    )


def _engine_threads_off_node(facts: HostFacts, files: KnobFiles) -> tuple[ObservedValue, ...]:
    """Threads that may run off the node of the accelerators that the process holds, where those are on one node."""
    samples = []
    for engine in facts.engines:
        found = find_accelerator_nodes(facts, (engine,))
        if found.unknown:
            why = Unknown.DENIED if found.denied else Unknown.HIDDEN
            gone: Reading[str] = missing(why, f"/proc/{engine.pid}/fd", found.unknown)
            samples.append(ObservedValue(reading=gone, where=_where(engine), name=str(engine.pid)))
        elif found.single is not None:
            near = {cpu for numa in facts.numa.nodes if numa.node == found.single for cpu in numa.cpus}
            far = sum(not near.issuperset(thread.allowed) for thread in engine.threads)
            words = f"may run off node {found.single}, where its accelerator is"
            samples.append(_threads(engine, far, words))
    return tuple(samples)


def _engine_quota(facts: HostFacts, files: KnobFiles) -> tuple[ObservedValue, ...]:
    return tuple(
        pass_on(engine.cgroup.quota_cpus, "a quota of {} CPUs", where=_where(engine), name=_unit(engine))
        for engine in facts.engines
    )


def _engine_throttled_periods(facts: HostFacts, files: KnobFiles) -> tuple[ObservedValue, ...]:
    return tuple(
        pass_on(engine.cgroup.throttled_periods, "throttled in {} periods", where=_where(engine), name=_unit(engine))
        for engine in facts.engines
    )


def _engine_cores(facts: HostFacts, files: KnobFiles) -> tuple[ObservedValue, ...]:
    """Physical cores that each engine's cgroup has, also by its quota; those of this process without an engine."""
    core_of = {cpu: place.siblings for place in facts.cpu.cpus if place.online for cpu in place.siblings}
    groups = [(_where(engine), engine.cgroup) for engine in facts.engines] or [("machine", facts.cgroup)]
    samples = []
    for where, cgroup in groups:
        told = cgroup.cpus
        if told.value is None and told.unknown is not Unknown.ABSENT:
            samples.append(pass_on(told, "{}", where=where))
            continue
        allowed = told.value if told.value is not None else facts.cpu.online
        cores: float = len({core_of[cpu] for cpu in allowed if cpu in core_of})
        words = f"{cores:g} physical cores"
        if cgroup.quota_cpus.value is not None and cgroup.quota_cpus.value < cores:
            cores = cgroup.quota_cpus.value
            words = f"a quota of {cores:g} CPUs"
        if cores > 0:
            samples.append(make_sample(f"{cores:g}", told.source, words, where=where, name=where))
        else:
            gone: Reading[str] = missing(Unknown.HIDDEN, told.source, "its cores are not known")
            samples.append(ObservedValue(reading=gone, where=where))
    return tuple(samples)


def _engine_memory_headroom(facts: HostFacts, files: KnobFiles) -> tuple[ObservedValue, ...]:
    """Memory limit by resident memory: below 1.2 it is too little for certain; above, the weights on disk would decide."""
    samples = []
    for engine in facts.engines:
        limit = engine.cgroup.memory_max_bytes
        if limit.value is None or engine.rss_bytes <= 0:
            samples.append(pass_on(limit, "{}", where=_where(engine), name=_unit(engine), endless=True))
            continue
        share = limit.value / engine.rss_bytes
        words = f"a limit of {render_size(limit.value)}, {share:.2f} times its resident memory"
        if share < 1.2:
            samples.append(make_sample(f"{share:.2f}", limit.source, words, where=_where(engine), name=_unit(engine)))
        else:
            gone: Reading[str] = missing(
                Unknown.HIDDEN, limit.source, f"{words}; bedplate does not read the size of its weights on disk"
            )
            samples.append(ObservedValue(reading=gone, where=_where(engine), name=_unit(engine)))
    return tuple(samples)


def _engine_swap_max(facts: HostFacts, files: KnobFiles) -> tuple[ObservedValue, ...]:
    text = "its cgroup may swap {} bytes"
    return tuple(
        pass_on(engine.cgroup.swap_max_bytes, text, where=_where(engine), name=_unit(engine), endless=True)
        for engine in facts.engines
    )


def _engine_oom_score(facts: HostFacts, files: KnobFiles) -> tuple[ObservedValue, ...]:
    return tuple(
        make_sample(
            engine.oom_score_adj,
            f"/proc/{engine.pid}/oom_score_adj",
            f"oom_score_adj is {engine.oom_score_adj}",
            where=_where(engine),
            name=str(engine.pid),
        )
        for engine in facts.engines
    )


def _limit(name: str) -> FactReader:
    def fact(facts: HostFacts, files: KnobFiles) -> tuple[ObservedValue, ...]:
        samples = []
        for engine in facts.engines:
            source = f"/proc/{engine.pid}/limits"
            limits = dict(engine.limits)
            if name not in limits:
                gone: Reading[str] = missing(Unknown.DENIED, source, f"its limit {name} was not read")
                samples.append(ObservedValue(reading=gone, where=_where(engine), name=str(engine.pid)))
            else:
                value = limits[name]
                text = f"its limit {name} is {'unlimited' if value is None else value}"
                number = "unlimited" if value is None else value
                samples.append(make_sample(number, source, text, where=_where(engine), name=str(engine.pid)))
        return tuple(samples)

    return fact


def _engine_mlock_flag(facts: HostFacts, files: KnobFiles) -> tuple[ObservedValue, ...]:
    return tuple(
        make_sample(
            int("--mlock" in engine.argv),
            f"/proc/{engine.pid}/cmdline",
            "started with --mlock" if "--mlock" in engine.argv else "started without --mlock",
            where=_where(engine),
            name=str(engine.pid),
        )
        for engine in facts.engines
    )


def _engine_memory_nodes(facts: HostFacts, files: KnobFiles) -> tuple[ObservedValue, ...]:
    samples = []
    for engine in facts.engines:
        source = f"/proc/{engine.pid}/numa_maps"
        text = ", ".join(f"node {node}: {render_size(size)}" for node, size in sorted(engine.numa_bytes))
        reading: Reading[str] = known(text, source) if text else missing(Unknown.DENIED, source)
        samples.append(ObservedValue(reading=reading, where=_where(engine), name=str(engine.pid)))
    return tuple(samples)


def _engine_load_path(facts: HostFacts, files: KnobFiles) -> tuple[ObservedValue, ...]:
    """The network file system that an engine maps its model from; "local" otherwise, also with a loader's flag."""
    samples = []
    for engine in facts.engines:
        for path in engine.model_paths:
            over = [mount for mount in facts.mounts if path == mount.point or path.startswith(mount.point.rstrip("/") + "/")]
            if not over:
                continue
            kind = max(over, key=lambda mount: len(mount.point)).kind
            network = kind in _NETWORK_FILESYSTEMS or kind.startswith("fuse.")
            told = any(argument(engine, flag) is not None or flag in engine.argv for flag in _LOADER_FLAGS)
            text = f"{path} is on {kind}" + (", read by a loader's flag" if network and told else "")
            value = kind if network and not told else "local"
            samples.append(
                make_sample(value, f"/proc/{engine.pid}/cmdline", text, where=_where(engine), name=str(engine.pid))
            )
    return tuple(samples)


def _nofile_by_pam_only(facts: HostFacts, files: KnobFiles) -> tuple[ObservedValue, ...]:
    """yes: limits.conf raises nofile, and the engine, a service, has less than it says."""
    promised = [
        (int(found[1]), reading.source)
        for pattern in ("/etc/security/limits.conf", "/etc/security/limits.d/*.conf")
        for reading in files.find(pattern)
        for found in _PAM_NOFILE.finditer(reading.value or "")
    ]
    if not promised:
        return ()
    most, source = max(promised)
    samples = []
    for engine in facts.engines:
        limit = dict(engine.limits).get("nofile", most)
        short = limit is not None and limit < most
        text = f"{source} says nofile {most}, its limit is {limit}"
        samples.append(make_sample("yes" if short else "no", source, text, where=_where(engine), name=str(engine.pid)))
    return tuple(samples)


ENGINE_FACTS: dict[str, FactReader] = {
    "engine_cores": _engine_cores,
    "engine_load_path": _engine_load_path,
    "engine_memlock": _limit("memlock"),
    "engine_memory_headroom": _engine_memory_headroom,
    "engine_memory_nodes": _engine_memory_nodes,
    "engine_mlock_flag": _engine_mlock_flag,
    "engine_nofile": _limit("nofile"),
    "engine_oom_score": _engine_oom_score,
    "engine_pinned_threads": _engine_pinned_threads,
    "engine_quota": _engine_quota,
    "engine_realtime_threads": _engine_realtime_threads,
    "engine_swap_max": _engine_swap_max,
    "engine_threads_off_node": _engine_threads_off_node,
    "engine_throttled_periods": _engine_throttled_periods,
    "nofile_by_pam_only": _nofile_by_pam_only,
}
