"""Clock policies (cpufreq), kinds of cores and idle states (cpuidle) from /sys/devices/system/cpu.

Sources: Documentation/admin-guide/pm/cpufreq.rst, cpuidle.rst, intel_pstate.rst (base_frequency).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bedplate.host.kernel.attributes import parse_int, read_cpu_list
from bedplate.host.root.root import Root
from bedplate.model.facts.cpu import CoreKind

_CPUS = "/sys/devices/system/cpu"
_POLICY = re.compile(r"policy\d{1,5}", re.ASCII)
_STATE = re.compile(r"state(\d{1,2})", re.ASCII)
# Cores below this share of the fastest are of another kind. Favoured cores (Turbo Boost Max 3, preferred cores of
# amd-pstate) differ by a few percent only: GB10 has capacities 1024, 1017 and 997, and 731 and 718.
_SLOWER = 0.85
_PMUS = (("cpu_core", CoreKind.PERFORMANCE), ("cpu_atom", CoreKind.EFFICIENT), ("cpu_lowpower", CoreKind.EFFICIENT))


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockDomain:
    """A clock domain: its directory, its online CPUs, what it may do at most."""

    where: str
    cpus: tuple[int, ...]
    max_khz: int | None


def read_policies(root: Root, online: Sequence[int]) -> tuple[ClockDomain, ...]:
    """Clock policies of the online CPUs; () without cpufreq. Kernels before 4.4 have one directory a CPU."""
    top = f"{_CPUS}/cpufreq"
    directories = [f"{top}/{name}" for name in root.listdir(top) if _POLICY.fullmatch(name)]
    if not directories:
        directories = [f"{_CPUS}/cpu{cpu}/cpufreq" for cpu in online if "cpufreq" in root.listdir(f"{_CPUS}/cpu{cpu}")]
    policies: dict[tuple[int, ...], ClockDomain] = {}
    here = set(online)
    for where in directories:
        words = (root.read(f"{where}/affected_cpus").value or "").split()
        cpus = tuple(sorted({one for word in words if (one := parse_int(word)) is not None} & here))
        if cpus and cpus not in policies:
            limit = parse_int(root.read(f"{where}/cpuinfo_max_freq").value or "")
            policies[cpus] = ClockDomain(where=where, cpus=cpus, max_khz=limit)
    return tuple(sorted(policies.values(), key=lambda policy: policy.cpus))


def read_governors(root: Root, policies: Sequence[ClockDomain]) -> tuple[tuple[str, int], ...]:
    """(governor, number of CPUs with it), most first."""
    count: Counter[str] = Counter()
    for policy in policies:
        governor = root.read(f"{policy.where}/scaling_governor").value
        if governor:
            count[governor] += len(policy.cpus)
    return tuple(sorted(count.items(), key=lambda item: (-item[1], item[0])))


def read_kinds(root: Root, online: Sequence[int], policies: Sequence[ClockDomain]) -> dict[int, CoreKind]:
    """Kind of each online CPU of a hybrid machine; {} when all are alike.

    Newest form first: the PMUs that Intel's hybrid parts have (cpu_core, cpu_atom; Linux 5.13), the capacity of Arm's, and
    for a recording without both the base frequency of intel_pstate where also the highest frequency is far lower (Speed
    Select gives equal cores different base frequencies, but the same highest one).
    """
    kinds: dict[int, CoreKind] = {}
    for pmu, kind in _PMUS:
        for cpu in read_cpu_list(root, f"/sys/devices/{pmu}/cpus") or ():
            kinds[cpu] = kind
    if kinds:
        return kinds if len(set(kinds.values())) > 1 else {}
    if online and root.exists(f"{_CPUS}/cpu{online[0]}/cpu_capacity"):
        return _by_speed({cpu: parse_int(root.read(f"{_CPUS}/cpu{cpu}/cpu_capacity").value or "") for cpu in online})
    by_limit = _by_speed({cpu: policy.max_khz for policy in policies for cpu in policy.cpus})
    if not by_limit:
        return {}
    base = {policy.where: parse_int(root.read(f"{policy.where}/base_frequency").value or "") for policy in policies}
    by_base = _by_speed({cpu: base[policy.where] for policy in policies for cpu in policy.cpus})
    return by_base if by_base == by_limit else {}


def _by_speed(speeds: Mapping[int, int | None]) -> dict[int, CoreKind]:
    said = {cpu: speed for cpu, speed in speeds.items() if speed is not None}
    bound = max(said.values(), default=0) * _SLOWER
    slow = {cpu for cpu, speed in said.items() if speed < bound}
    return {cpu: CoreKind.EFFICIENT if cpu in slow else CoreKind.PERFORMANCE for cpu in said} if slow else {}


def read_idle_states(root: Root, cpu: int) -> tuple[tuple[str, int, bool], ...]:
    """(name, exit latency in microseconds, disabled) of each idle state of a CPU, lightest first; () without cpuidle."""
    top = f"{_CPUS}/cpu{cpu}/cpuidle"
    states: list[tuple[int, tuple[str, int, bool]]] = []
    for directory in root.listdir(top):
        match = _STATE.fullmatch(directory)
        name = root.read(f"{top}/{directory}/name").value
        latency = parse_int(root.read(f"{top}/{directory}/latency").value or "")
        if match is not None and name is not None and latency is not None:
            disabled = root.read(f"{top}/{directory}/disable").value not in (None, "0")
            states.append((int(match[1]), (name, latency, disabled)))
    return tuple(state for _, state in sorted(states))
