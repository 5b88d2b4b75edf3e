"""Machines as values for tests of plans, and what they look like once a plan is applied."""

from __future__ import annotations

import dataclasses
from typing import Any

from tests.unit.facts_factory import absent, make_cgroup, make_engine, make_facts

from bedplate.catalog.knobs import read_knobs
from bedplate.catalog.policies import find_policy, read_policies
from bedplate.model.device_speed import DeviceSpeed
from bedplate.model.facts.groups import ControlGroup, Groups
from bedplate.model.facts.host import HostFacts
from bedplate.model.facts.reading import Reading, known
from bedplate.model.knob_value import Compare
from bedplate.model.tuning import UNIT_PROPERTIES, Change, Means, Plan, Policy
from bedplate.plan.tune import plan_tuning

KNOBS = read_knobs()
ROWS = read_policies()
GIB = 1 << 30
VLLM = "/system.slice/vllm.service"
STOCK = {
    "cpu.weight": "100",
    "cpu.idle": "0",
    "cpu.max": "max 100000",
    "cpuset.cpus": "",
    "cpuset.mems": "",
    "memory.current": str(GIB // 8),
    "memory.min": "0",
    "memory.low": "0",
    "memory.high": "max",
    "memory.max": "max",
    "memory.swap.max": "max",
    "memory.zswap.max": "max",
    "io.weight": "default 100",
}
DEBIAN = ("/init.scope", "/system.slice", "/system.slice/ssh.service", "/user.slice", "/system.slice/backup.service")
SPEED = DeviceSpeed(
    device="nvme0n1",
    number="259:0",
    model="SAMSUNG MZQL21T9HCJR",
    read_bytes_per_s=3_000_000_000,
    read_seq_iops=400_000,
    read_rand_iops=380_000,
    write_bytes_per_s=1_500_000_000,
    write_seq_iops=200_000,
    write_rand_iops=150_000,
    read_p95_us=90,
    write_p95_us=30,
    kept_pct=97,
    kernel="6.12.48-amd64",
    made="2026-11-24T20:00:00Z",
)


def serving(path: str = VLLM, **changes: Any) -> HostFacts:
    return make_facts(**({"engines": (make_engine(cgroup=make_cgroup(path=path)),)} | changes))


def reading(path: str, text: str) -> Reading[str]:
    return Reading(value=text, source=path, text=text)


def make_group(path: str, **changes: str | None) -> ControlGroup:
    """A group with the kernel's defaults; "cpu_weight" stands for cpu.weight, None for a file that is not there."""
    texts: dict[str, str | None] = {**STOCK, **{name.replace("_", "."): text for name, text in changes.items()}}
    files = ((name, _reading(text, f"/sys/fs/cgroup{path}/{name}")) for name, text in texts.items())
    return ControlGroup(path=path, files=tuple(files))


def _reading(text: str | None, source: str) -> Reading[str]:
    return absent(source) if text is None else Reading(value=text, source=source, text=text)


def make_root_group(**files: str) -> ControlGroup:
    texts = {"io.cost.model": "", "io.cost.qos": ""} | {name.replace("_", "."): text for name, text in files.items()}
    return ControlGroup(
        path="/", files=tuple((name, _reading(text, f"/sys/fs/cgroup/{name}")) for name, text in texts.items())
    )


def make_groups(*groups: ControlGroup, **changes: Any) -> Groups:
    """An ordinary Debian with its slices and two services, and the groups that a test adds or replaces."""
    by_path = {path: make_group(path) for path in DEBIAN} | {"/": make_root_group()}
    by_path |= {group.path: group for group in groups}
    values: dict[str, Any] = {
        "version": 2,
        "mount": "/sys/fs/cgroup",
        "controllers": ("cpuset", "cpu", "io", "memory", "pids"),
        "systemd": 257,
        "groups": tuple(by_path[path] for path in sorted(by_path)),
    }
    return Groups(**(values | changes))


def plan(facts: HostFacts, groups: Groups, policy: Policy = Policy.SHARED_HOST, **more: Any) -> Plan:
    return plan_tuning(facts, groups, KNOBS, find_policy(policy, ROWS), **more)


def wanted(made: Plan) -> dict[str, str]:
    return {str(change.setting): change.new for change in made.changes}


def reason(made: Plan, knob: str) -> str:
    return next(skip.reason for skip in made.skips if skip.knob == knob)


def apply(made: Plan, facts: HostFacts, groups: Groups) -> tuple[HostFacts, Groups]:
    """The machine on which every change of a plan took effect, restarts and reboots with it."""
    for change in made.changes:
        facts, groups = _apply(change, change.new, facts, groups)
    return facts, groups


def undo(made: Plan, facts: HostFacts, groups: Groups) -> tuple[HostFacts, Groups]:
    """The same with all old values, in reverse."""
    for change in reversed(made.changes):
        facts, groups = _apply(change, change.old, facts, groups)
    return facts, groups


def _apply(change: Change, value: str | None, facts: HostFacts, groups: Groups) -> tuple[HostFacts, Groups]:
    setting = change.setting
    if setting.means is Means.CMDLINE:
        removed = value is None or (change.compare is Compare.ABSENT and value == change.new)
        words = tuple(word for word in facts.kernel.cmdline if word.partition("=")[0] != setting.name)
        words += () if removed else (f"{setting.name}={value}" if value else setting.name,)
        return dataclasses.replace(facts, kernel=dataclasses.replace(facts.kernel, cmdline=words)), groups
    if setting.means is Means.FILE:
        return _write(setting.name, value or "", facts, groups)
    return _set(setting.name, setting.key, value, facts, groups)


def _write(path: str, value: str, facts: HostFacts, groups: Groups) -> tuple[HostFacts, Groups]:
    if path.startswith("/sys/fs/cgroup/io.cost."):
        return facts, _with(groups, "/", path.rpartition("/")[2], value)
    if path.startswith("/sys/module/zswap/"):
        memory = dataclasses.replace(facts.memory, zswap=known(value == "Y", path))
        return dataclasses.replace(facts, memory=memory), groups
    if path.endswith("/nr_hugepages"):
        pools = tuple((size, int(value), int(value) - total + free) for size, total, free in facts.memory.huge_pages)
        return dataclasses.replace(facts, memory=dataclasses.replace(facts.memory, huge_pages=pools)), groups
    if path.startswith("/proc/irq/"):
        irq, cpus = int(path.split("/")[3]), _cpus(value)
        network = tuple(
            dataclasses.replace(nic, irqs=tuple((n, cpus if n == irq else old) for n, old in nic.irqs))
            for nic in facts.network
        )
        return dataclasses.replace(facts, network=network), groups
    readings = {knob.source: knob for knob in facts.knobs} | {path: Reading(value=value, source=path, text=value)}
    return dataclasses.replace(facts, knobs=tuple(readings.values())), groups


def _set(unit: str, key: str, value: str | None, facts: HostFacts, groups: Groups) -> tuple[HostFacts, Groups]:
    path = next((group.path for group in groups.groups if group.unit == unit), f"/{unit}")
    known_property = UNIT_PROPERTIES.get(key)
    engines = []
    for engine in facts.engines:
        if engine.cgroup.path.startswith(path) and key == "OOMScoreAdjust" and value is not None:
            engine = dataclasses.replace(engine, oom_score_adj=int(value))
        if engine.cgroup.path.startswith(path) and key == "AllowedCPUs" and value:
            threads = tuple(dataclasses.replace(thread, allowed=_cpus(value)) for thread in engine.threads)
            engine = dataclasses.replace(engine, threads=threads)
        engines.append(engine)
    facts = dataclasses.replace(facts, engines=tuple(engines))
    if known_property is None:
        return facts, groups
    if key == "CPUWeight":
        groups = _with(groups, path, "cpu.idle", "1" if value == "idle" else "0")
    neutral = known_property.neutral
    text = neutral if value is None else f"default {value}" if key == "IOWeight" else "max" if value == "infinity" else value
    return facts, groups if value == "idle" else _with(groups, path, known_property.file, text)


def _with(groups: Groups, path: str, name: str, text: str) -> Groups:
    group = groups.find(path) or make_group(path, memory_current="0")
    files = dict(group.files) | {name: _reading(text, f"/sys/fs/cgroup{path}/{name}")}
    by_path = {group.path: group for group in groups.groups} | {path: dataclasses.replace(group, files=tuple(files.items()))}
    return dataclasses.replace(groups, groups=tuple(by_path[path] for path in sorted(by_path)))


def _cpus(text: str) -> tuple[int, ...]:
    cpus: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        cpus += range(int(first), int(last or first) + 1)
    return tuple(cpus)
