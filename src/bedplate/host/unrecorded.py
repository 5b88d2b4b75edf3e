"""Facts of a machine of which nothing was recorded: where a recording that holds one thing only is put in.

Every fact is NOT_RECORDED; an empty tuple and a zero stand where the value has no place for that, and `origin` tells.
"""

from __future__ import annotations

from typing import TypeVar

from bedplate.model.facts.cpu import CpuTopology, NumaTopology
from bedplate.model.facts.host import HostFacts
from bedplate.model.facts.reading import Reading, Unknown, missing
from bedplate.model.facts.system import CgroupFacts, KernelFacts, MemoryFacts, OsFacts

T = TypeVar("T")


def empty_facts(origin: str) -> HostFacts:
    """A machine of which nothing is known; replace what is."""

    def unknown() -> Reading[T]:
        return missing(Unknown.NOT_RECORDED, origin)

    return HostFacts(
        origin=origin,
        cpu=CpuTopology(
            model_name=unknown(),
            architecture="",
            cpus=(),
            caches=(),
            flags=(),
            smt=unknown(),
            driver=unknown(),
            governors=(),
            energy_preference=unknown(),
            idle_states=(),
            isolated=(),
            nohz_full=(),
        ),
        numa=NumaTopology(nodes=(), source=origin),
        memory=MemoryFacts(
            total_bytes=0,
            available_bytes=0,
            swap_total_bytes=0,
            swap_free_bytes=0,
            thp=unknown(),
            thp_defrag=unknown(),
            zswap=unknown(),
            zram=False,
            huge_pages=(),
            shm_bytes=unknown(),
        ),
        kernel=KernelFacts(
            release=unknown(),
            cmdline=(),
            taint=unknown(),
            lockdown=unknown(),
            modules=(),
            next_release=unknown(),
            installed=(),
            gpu_modules=(),
            nvidia_flavour=unknown(),
            config=(),
            vulnerabilities=(),
            clocksource=unknown(),
            clocksources=(),
        ),
        os=OsFacts(
            id="",
            version="",
            pretty_name="",
            init=unknown(),
            systemd=False,
            virtualisation=unknown(),
            container=unknown(),
            tee=unknown(),
            unattended_upgrades=unknown(),
            driver_packages_held=unknown(),
            co_owners=(),
            cdi_files=(),
            runtimes=(),
        ),
        pci=(),
        accelerators=(),
        network=(),
        blocks=(),
        mounts=(),
        cgroup=CgroupFacts(
            version=0,
            path="",
            cpus=unknown(),
            mems=unknown(),
            quota_cpus=unknown(),
            throttled_periods=unknown(),
            periods=unknown(),
            throttled_s=unknown(),
            memory_max_bytes=unknown(),
            memory_current_bytes=unknown(),
            swap_max_bytes=unknown(),
            cpu_weight=unknown(),
        ),
        limits=(),
        pressure=(),
        engines=(),
        knobs=(),
        problems=(),
    )
