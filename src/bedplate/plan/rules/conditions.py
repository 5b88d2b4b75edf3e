"""Conditions that rows of the catalog name: what kind of machine this is. Each answers yes, no or unknown, and why."""

from __future__ import annotations

import re
from collections.abc import Callable

from bedplate.model.facts.host import HostFacts
from bedplate.model.facts.reading import Reading, Unknown
from bedplate.model.facts.system import EngineProcess
from bedplate.model.units import GIB
from bedplate.plan.rules.formulas import housekeeping_cores
from bedplate.plan.rules.rule import ConditionResult
from bedplate.plan.rules.terms import has_confidential_accelerator

OWN_SLICE = "inference.slice"

Condition = Callable[[HostFacts], ConditionResult]


def _answer(holds: bool | None, yes: str, no: str, unknown: str = "") -> ConditionResult:
    return ConditionResult(holds=holds, because=yes if holds else unknown if holds is None else no)


def _says(reading: Reading[str], *, wanted: Callable[[str], bool], what: str, no: str) -> ConditionResult:
    if reading.value is None:
        return ConditionResult(holds=None, because=f"{what} is not known ({reading.unknown})")
    return _answer(wanted(reading.value), f"{what} is {reading.value}", no.format(reading.value))


def _not(condition: Condition) -> Condition:
    def negated(facts: HostFacts) -> ConditionResult:
        answer = condition(facts)
        return ConditionResult(holds=None if answer.holds is None else not answer.holds, because=answer.because)

    return negated


def _has_engine(facts: HostFacts) -> ConditionResult:
    # A recording without processes says nothing about engines.
    seen = facts.os.init.unknown is not Unknown.NOT_RECORDED
    holds = True if facts.engines else False if seen else None
    return _answer(holds, "an engine is running", "no engine was found running", "processes were not recorded")


def _engine_in_own_slice(facts: HostFacts) -> ConditionResult:
    if not facts.engines:
        return _has_engine(facts)
    outside = sorted({engine.cgroup.path for engine in facts.engines if OWN_SLICE not in engine.cgroup.path.split("/")})
    return _answer(
        not outside, f"the engine is in {OWN_SLICE}", f"the engine is in {(outside or ['/'])[0]}, not in {OWN_SLICE}"
    )


def is_bound(facts: HostFacts, engine: EngineProcess) -> bool | None:
    """Whether all threads of an engine may run on the CPUs of one node only; None when that was not read."""
    if not engine.threads:
        return None
    allowed = {cpu for thread in engine.threads for cpu in thread.allowed}
    if not allowed:
        return None
    return any(allowed <= set(node.cpus) for node in facts.numa.nodes)


def _engine_bound(facts: HostFacts) -> ConditionResult:
    if not facts.engines:
        return _has_engine(facts)
    bound = [is_bound(facts, engine) for engine in facts.engines]
    holds = False if False in bound else None if None in bound else True
    return _answer(holds, "the engines are bound to nodes", "an engine is not bound to a node", "affinities were not read")


def _many(count: int, what: str, *, known: bool) -> ConditionResult:
    holds = count > 1 if known else None
    return _answer(holds, f"{count} {what}", f"{count or 'no'} {what}", f"the number of {what} is not known")


def _many_nodes(facts: HostFacts) -> ConditionResult:
    with_cpus = [node for node in facts.numa.nodes if node.cpus]
    return _many(len(with_cpus), "NUMA nodes with CPUs", known=bool(facts.numa.nodes or facts.cpu.cpus))


def _many_accelerators(facts: HostFacts) -> ConditionResult:
    return _many(len(facts.accelerators), "accelerators", known=True)


def _many_caches(facts: HostFacts) -> ConditionResult:
    last = max((cache.level for cache in facts.cpu.caches), default=0)
    return _many(sum(cache.level == last for cache in facts.cpu.caches), "last-level caches", known=last > 0)


def _has_accelerator(facts: HostFacts) -> ConditionResult:
    return _answer(bool(facts.accelerators), f"{len(facts.accelerators)} accelerators", "no accelerator was found")


def _vendor(vendor: str, name: str) -> Condition:
    def condition(facts: HostFacts) -> ConditionResult:
        holds = any(accelerator.vendor == vendor for accelerator in facts.accelerators)
        return _answer(holds, f"an accelerator of {name} is present", f"no accelerator of {name} was found")

    return condition


def _bare_metal(facts: HostFacts) -> ConditionResult:
    what = "the virtualisation"
    return _says(
        facts.os.virtualisation, wanted=lambda value: value == "none", what=what, no="this is a virtual machine ({})"
    )


def _is_vm(facts: HostFacts) -> ConditionResult:
    what = "the virtualisation"
    return _says(
        facts.os.virtualisation, wanted=lambda value: value != "none", what=what, no="this is not a virtual machine"
    )


def _is_container(facts: HostFacts) -> ConditionResult:
    return _says(
        facts.os.container, wanted=lambda value: value != "none", what="the container", no="this is not a container"
    )


def _is_kubernetes(facts: HostFacts) -> ConditionResult:
    if "kubelet" in facts.os.co_owners:
        return ConditionResult(holds=True, because="a kubelet is running")
    return _says(
        facts.os.container, wanted=lambda value: value == "kubernetes", what="the container", no="no kubelet was found"
    )


def _is_confidential(facts: HostFacts) -> ConditionResult:
    return _says(facts.os.tee, wanted=lambda value: value != "none", what="the TEE", no="this is not a confidential guest")


def _is_isolated(facts: HostFacts) -> ConditionResult:
    """Whether isolation is what this machine is for, as the checks of PCI ask it: it, or an accelerator, is confidential."""
    if has_confidential_accelerator(facts):
        return ConditionResult(holds=True, because="an accelerator is in confidential mode")
    return _is_confidential(facts)


def _shared_or_confidential(facts: HostFacts) -> ConditionResult:
    confidential, kubernetes = _is_isolated(facts), _is_kubernetes(facts)
    if confidential.holds:
        return confidential
    if kubernetes.holds:
        return kubernetes
    return ConditionResult(holds=None, because="facts do not show whether several tenants share this machine")


def _has_swap(facts: HostFacts) -> ConditionResult:
    holds = facts.memory.swap_total_bytes > 0 if facts.memory.total_bytes else None
    return _answer(holds, "there is swap", "there is no swap", "the memory was not read")


def _ram_from_64_gib(facts: HostFacts) -> ConditionResult:
    total = facts.memory.total_bytes
    # A machine of 64 GiB keeps up to 5 % of it from MemTotal.
    holds = total >= 0.95 * 64 * GIB if total else None
    return _answer(holds, f"{total / GIB:.0f} GiB of memory", f"{total / GIB:.0f} GiB of memory", "the memory was not read")


def _has_spare_cores(facts: HostFacts) -> ConditionResult:
    wanted = housekeeping_cores(facts)
    if wanted is None:
        return ConditionResult(holds=None, because="the cores are not known")
    holds = facts.cpu.cores > wanted
    return _answer(holds, f"{facts.cpu.cores} cores", f"{facts.cpu.cores} cores are too few to give {wanted} to neighbours")


def _governor_schedutil(facts: HostFacts) -> ConditionResult:
    if not facts.cpu.governors:
        return ConditionResult(holds=False, because="there is no cpufreq governor")
    names = ", ".join(name for name, _ in facts.cpu.governors)
    return _answer(any(name == "schedutil" for name, _ in facts.cpu.governors), f"governor {names}", f"governor {names}")


def _thp_always(facts: HostFacts) -> ConditionResult:
    """With madvise only regions that ask get huge pages, and defrag means the same for these as "madvise" and as
    "defer+madvise" (vma_thp_gfp_mask() in mm/huge_memory.c)."""
    told = facts.memory.thp
    return _says(told, wanted=lambda text: text == "always", what="transparent_hugepage/enabled", no="it is {}, not always")


def _thp_refused(facts: HostFacts) -> ConditionResult:
    """A mode that was set since the boot counts; where it was not read, the command line does."""
    now = facts.memory.thp.value
    return _answer(now not in ("madvise", "always"), "huge pages are refused", f"{now} was set since the boot")


def _architecture(*names: str) -> Condition:
    def condition(facts: HostFacts) -> ConditionResult:
        told = facts.cpu.architecture
        return _answer(told in names if told else None, told, f"the architecture is {told}", "the architecture is not known")

    return condition


def _flag(*flags: str) -> Condition:
    def condition(facts: HostFacts) -> ConditionResult:
        holds = any(flag in facts.cpu.flags for flag in flags) if facts.cpu.flags else None
        return _answer(holds, f"the CPU has {flags[0]}", f"the CPU does not have {flags[0]}", "CPU flags are not known")

    return condition


def _has_rdma(facts: HostFacts) -> ConditionResult:
    return _answer(
        any(interface.rdma for interface in facts.network), "an RDMA device is present", "no RDMA device was found"
    )


def _pins_memory(facts: HostFacts) -> ConditionResult:
    if any("--mlock" in engine.argv for engine in facts.engines):
        return ConditionResult(holds=True, because="an engine locks its model (--mlock)")
    return _has_rdma(facts)


def _kernel_from_7_0(facts: HostFacts) -> ConditionResult:
    found = re.match(r"(\d{1,4})\.(\d{1,4})", facts.kernel.release.value or "")
    if found is None:
        return ConditionResult(holds=None, because="the kernel's release is not known")
    return _answer(int(found[1]) >= 7, f"kernel {found[0]}", f"kernel {found[0]} is older than 7.0")


def _many_cpus(facts: HostFacts) -> ConditionResult:
    return _many(len(facts.cpu.online), "CPUs", known=bool(facts.cpu.cpus))


CONDITIONS: dict[str, Condition] = {
    "bare_metal": _bare_metal,
    "engine_bound": _engine_bound,
    "engine_in_own_slice": _engine_in_own_slice,
    "governor_schedutil": _governor_schedutil,
    "has_accelerator": _has_accelerator,
    "has_amd": _vendor("amd", "AMD"),
    "has_cat": _flag("cat_l3"),
    "has_engine": _has_engine,
    "has_mba": _flag("mba"),
    "has_nvidia": _vendor("nvidia", "NVIDIA"),
    "has_rdma": _has_rdma,
    "has_spare_cores": _has_spare_cores,
    "has_swap": _has_swap,
    "is_arm64": _architecture("aarch64"),
    "is_confidential": _is_confidential,
    "is_container": _is_container,
    "is_vm": _is_vm,
    "kernel_from_7_0": _kernel_from_7_0,
    "many_accelerators": _many_accelerators,
    "many_caches": _many_caches,
    "many_cpus": _many_cpus,
    "many_nodes": _many_nodes,
    "not_confidential": _not(_is_isolated),
    "not_container": _not(_is_container),
    "not_kubernetes": _not(_is_kubernetes),
    "pins_memory": _pins_memory,
    "ram_from_64_gib": _ram_from_64_gib,
    "shared_or_confidential": _shared_or_confidential,
    "thp_always": _thp_always,
    "thp_refused": _thp_refused,
}
