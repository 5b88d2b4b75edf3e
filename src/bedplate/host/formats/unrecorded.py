"""Facts of a machine of which nothing was recorded: where a recording that holds one thing only is put in.

Every fact is NOT_RECORDED; an empty tuple and a zero stand where the value has no place for that, and `origin` tells.
"""

from __future__ import annotations

from typing import Any

from bedplate.model.facts.cpu import CpuTopology, NumaTopology
from bedplate.model.facts.host import HostFacts
from bedplate.model.facts.reading import Reading, Unknown, missing
from bedplate.model.facts.system import CgroupFacts, KernelFacts, MemoryFacts, OsFacts


def empty_facts(origin: str) -> HostFacts:
    """A machine of which nothing is known; replace what is."""
    return HostFacts(
        origin=origin,
        cpu=_cpu(origin),
        numa=NumaTopology(nodes=(), source=origin),
        memory=_memory(origin),
        kernel=_kernel(origin),
        os=_os(origin),
        pci=(),
        accelerators=(),
        network=(),
        blocks=(),
        mounts=(),
        cgroup=_cgroup(origin),
        limits=(),
        pressure=(),
        engines=(),
        knobs=(),
        problems=(),
    )


def _unknown(origin: str) -> Reading[Any]:
    return missing(Unknown.NOT_RECORDED, origin)


def _cpu(origin: str) -> CpuTopology:
    unknown = _unknown(origin)
    return CpuTopology(
        model_name=unknown,
        architecture="",
        cpus=(),
        caches=(),
        flags=(),
        smt=unknown,
        driver=unknown,
        governors=(),
        energy_preference=unknown,
        idle_states=(),
        isolated=(),
        nohz_full=(),
    )


def _memory(origin: str) -> MemoryFacts:
    unknown = _unknown(origin)
    return MemoryFacts(
        total_bytes=0,
        available_bytes=0,
        swap_total_bytes=0,
        swap_free_bytes=0,
        thp=unknown,
        thp_defrag=unknown,
        zswap=unknown,
        zram=False,
        huge_pages=(),
        shm_bytes=unknown,
    )


def _kernel(origin: str) -> KernelFacts:
    unknown = _unknown(origin)
    return KernelFacts(
        release=unknown,
        cmdline=(),
        taint=unknown,
        lockdown=unknown,
        modules=(),
        next_release=unknown,
        installed=(),
        gpu_modules=(),
        nvidia_flavour=unknown,
        config=(),
        vulnerabilities=(),
        clocksource=unknown,
        clocksources=(),
    )


def _os(origin: str) -> OsFacts:
    unknown = _unknown(origin)
    return OsFacts(
        id="",
        version="",
        pretty_name="",
        init=unknown,
        systemd=False,
        virtualisation=unknown,
        container=unknown,
        tee=unknown,
        unattended_upgrades=unknown,
        driver_packages_held=unknown,
        co_owners=(),
        cdi_files=(),
        runtimes=(),
    )


def _cgroup(origin: str) -> CgroupFacts:
    unknown = _unknown(origin)
    return CgroupFacts(
        version=0,
        path="",
        cpus=unknown,
        mems=unknown,
        quota_cpus=unknown,
        throttled_periods=unknown,
        periods=unknown,
        throttled_s=unknown,
        memory_max_bytes=unknown,
        memory_current_bytes=unknown,
        swap_max_bytes=unknown,
        cpu_weight=unknown,
    )
