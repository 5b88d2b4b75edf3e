"""Facts about the machine that no single file says: weights, clocks, idle states, swap, counters, timers.

() where there is nothing of the kind; a sample without a value says why it is not known.
"""

from __future__ import annotations

import re

from bedplate.model.facts.host import HostFacts
from bedplate.model.facts.reading import Unknown
from bedplate.model.units import render_size
from bedplate.plan.rules.files import KnobFiles
from bedplate.plan.rules.rows.samples import FactReader, ObservedValue, make_sample, pass_on

_DEEP_US = 20  # exit latency of C6-class idle states and deeper
# Timers that make a burst of load when they fire; the row reads the drop-ins of these services only, since others may hold
# secrets.
_NOISY = (
    *("apt-daily", "apt-daily-upgrade", "man-db", "updatedb", "plocate-updatedb", "mlocate-updatedb", "fstrim"),
    *("logrotate", "mdcheck_start", "mdcheck_continue", "raid-check", "dnf-makecache", "dnf-automatic"),
)


def _inference_weight_ratio(facts: HostFacts, files: KnobFiles) -> tuple[ObservedValue, ...]:
    """cpu.weight of inference.slice by the largest of the other slices beside it."""
    own = "/sys/fs/cgroup/inference.slice/cpu.weight"
    weights = {
        reading.source: int(reading.value)
        for reading in files.find("/sys/fs/cgroup/*.slice/cpu.weight")
        if reading.value is not None and re.fullmatch(r"[0-9]{1,5}", reading.value)
    }
    others = [weight for source, weight in weights.items() if source != own and weight > 0]
    if own not in weights or not others:
        return ()
    text = f"inference.slice has weight {weights[own]}, another slice {max(others)}"
    return (make_sample(f"{weights[own] / max(others):g}", own, text, where=own, name="inference.slice"),)


def _frequency_preference(facts: HostFacts, files: KnobFiles) -> tuple[ObservedValue, ...]:
    """By policy: the energy preference where the driver picks the clock itself, else the governor. The source is the file to
    write."""
    samples = []
    for governor in files.find("/sys/devices/system/cpu/cpufreq/policy*/scaling_governor"):
        policy = governor.source.rpartition("/")[0]
        if "*" in policy and governor.value is None:
            return ()
        reading = governor
        preference = files.read(f"{policy}/energy_performance_preference")
        driver = files.read(f"{policy}/scaling_driver").value
        if governor.value == "powersave" and driver in ("intel_pstate", "amd-pstate-epp") and preference.value is not None:
            reading = preference
        samples.append(ObservedValue(reading=reading, where=reading.source))
    return tuple(samples)


def _deep_idle_states(facts: HostFacts, files: KnobFiles) -> tuple[ObservedValue, ...]:
    states = facts.cpu.idle_states
    if not states:
        return ()
    deep = [f"{name}:{latency}us" for name, latency, disabled in states if latency > _DEEP_US and not disabled]
    source = "/sys/devices/system/cpu/cpu0/cpuidle"
    return (
        make_sample(
            ",".join(deep) or "none", source, f"enabled and slow to leave: {', '.join(deep) or 'none'}", where=source
        ),
    )


def _clock_classes(facts: HostFacts, files: KnobFiles) -> tuple[ObservedValue, ...]:
    clocks = sorted({cpu.max_khz for cpu in facts.cpu.cpus if cpu.online and cpu.max_khz is not None})
    if not clocks:
        return ()
    text = ", ".join(f"{clock // 1000} MHz" for clock in clocks)
    source = "/sys/devices/system/cpu/cpu*/cpufreq/cpuinfo_max_freq"
    return (make_sample(",".join(map(str, clocks)), source, f"highest clocks of the CPUs: {text}", where="machine"),)


def _nodes_a_package(facts: HostFacts, files: KnobFiles) -> tuple[ObservedValue, ...]:
    nodes: dict[int, set[int]] = {}
    for cpu in facts.cpu.cpus:
        if cpu.package is not None and cpu.node is not None:
            nodes.setdefault(cpu.package, set()).add(cpu.node)
    return tuple(
        make_sample(
            len(found), facts.numa.source, f"socket {package} has {len(found)} NUMA nodes", where=f"socket {package}"
        )
        for package, found in sorted(nodes.items())
    )


def _unused_huge_pages(facts: HostFacts, files: KnobFiles) -> tuple[ObservedValue, ...]:
    """Bytes of each static pool of which not one page is used."""
    samples = []
    for size, total, free in facts.memory.huge_pages:
        if total <= 0:
            continue
        idle = size * total if free == total else 0
        source = f"/sys/kernel/mm/hugepages/hugepages-{size // 1024}kB"
        text = f"{total} pages of {render_size(size)}, {free} free"
        samples.append(make_sample(idle, source, text, where=source))
    return tuple(samples)


def _swap_bytes(facts: HostFacts, files: KnobFiles) -> tuple[ObservedValue, ...]:
    total = facts.memory.swap_total_bytes
    return (make_sample(total, "/proc/meminfo", f"{render_size(total)} of swap" if total else "no swap", where="machine"),)


def _compressed_swap(facts: HostFacts, files: KnobFiles) -> tuple[ObservedValue, ...]:
    zswap = facts.memory.zswap
    if facts.memory.zram:
        return (make_sample(1, "/sys/block/zram0", "swap in zram", where="machine"),)
    if zswap.value is None and zswap.unknown is Unknown.ABSENT:
        return (make_sample(0, zswap.source, "this kernel has no zswap", where="machine"),)
    return (pass_on(zswap, "zswap is {}", where="machine"),)


def _counter(path: str, names: tuple[str, ...], text: str) -> FactReader:
    """Sum of the counters of a "name value" file whose names begin so."""

    def fact(facts: HostFacts, files: KnobFiles) -> tuple[ObservedValue, ...]:
        reading = files.read(path)
        if reading.value is None:
            return (ObservedValue(reading=reading, where=path),)
        pairs = [line.split() for line in reading.value.splitlines()]
        found = [int(pair[1]) for pair in pairs if len(pair) == 2 and pair[0].startswith(names) and _is_count(pair[1])]
        return (make_sample(sum(found), path, text.format(sum(found)), where=path),) if found else ()

    return fact


def _listen_overflows(facts: HostFacts, files: KnobFiles) -> tuple[ObservedValue, ...]:
    """TcpExt ListenOverflows: a line of names, then a line of numbers."""
    path = "/proc/net/netstat"
    reading = files.read(path)
    if reading.value is None:
        return (ObservedValue(reading=reading, where=path),)
    lines = [line.split() for line in reading.value.splitlines() if line.startswith("TcpExt:")]
    if len(lines) < 2 or "ListenOverflows" not in lines[0]:
        return ()
    index = lines[0].index("ListenOverflows")
    value = lines[1][index] if index < len(lines[1]) else ""
    if not _is_count(value):
        return ()
    return (make_sample(value, path, f"{value} connections dropped at a full backlog since boot", where=path),)


def _is_count(text: str) -> bool:
    """A number as the kernel writes it: digits of ASCII, 64 bits."""
    return re.fullmatch(r"[0-9]{1,20}", text) is not None


def _dirty_limit_bytes(facts: HostFacts, files: KnobFiles) -> tuple[ObservedValue, ...]:
    """vm.dirty_bytes, or vm.dirty_ratio percent of the available memory where that is 0."""
    fixed, ratio = files.read("/proc/sys/vm/dirty_bytes"), files.read("/proc/sys/vm/dirty_ratio")
    if fixed.value is not None and _is_count(fixed.value) and int(fixed.value) > 0:
        text = f"vm.dirty_bytes is {render_size(int(fixed.value))}"
        return (make_sample(int(fixed.value), fixed.source, text, where=fixed.source),)
    if ratio.value is None or not re.fullmatch(r"[0-9]{1,3}", ratio.value):
        return (ObservedValue(reading=ratio, where=ratio.source),)
    dirty = int(ratio.value) * facts.memory.available_bytes // 100
    text = f"vm.dirty_ratio is {ratio.value} %, {render_size(dirty)} of the memory that is available"
    return (make_sample(dirty, ratio.source, text, where=ratio.source),)


def _shm_bytes(facts: HostFacts, files: KnobFiles) -> tuple[ObservedValue, ...]:
    shm = facts.memory.shm_bytes
    size = render_size(shm.value) if shm.value is not None else ""
    return (pass_on(shm, f"/dev/shm holds {size}", where="/dev/shm", name="/dev/shm"),)


def _noisy_timers(facts: HostFacts, files: KnobFiles) -> tuple[ObservedValue, ...]:
    """The slice of each service whose timer is enabled and makes load; a drop-in may have moved it."""
    if facts.os.init.value is not None and not facts.os.systemd:
        return ()  # its files are there, as in a container's image, and nothing starts a timer
    samples = []
    for reading in files.find("/etc/systemd/system/timers.target.wants/*.timer"):
        unit = reading.source.rpartition("/")[2].removesuffix(".timer")
        if reading.value is None or unit not in _NOISY:
            continue
        place = "system.slice"
        for drop_in in files.find(f"/etc/systemd/system/{unit}.service.d/*.conf"):
            found = re.findall(r"^[ \t]*Slice[ \t]*=[ \t]*([\w.@-]+)", drop_in.value or "", re.MULTILINE)
            place = found[-1] if found else place
        text = f"{unit}.timer is enabled and its service runs in {place}"
        samples.append(make_sample(place, reading.source, text, where=f"{unit}.timer", name=unit))
    return tuple(samples)


MACHINE_FACTS: dict[str, FactReader] = {
    "clock_classes": _clock_classes,
    "compressed_swap": _compressed_swap,
    "deep_idle_states": _deep_idle_states,
    "direct_reclaim_stalls": _counter("/proc/vmstat", ("allocstall_",), "{} stalls in direct reclaim since boot"),
    "dirty_limit_bytes": _dirty_limit_bytes,
    "frequency_preference": _frequency_preference,
    "inference_weight_ratio": _inference_weight_ratio,
    "listen_overflows": _listen_overflows,
    "nodes_a_package": _nodes_a_package,
    "noisy_timers": _noisy_timers,
    "shm_bytes": _shm_bytes,
    "swap_bytes": _swap_bytes,
    "unused_huge_pages": _unused_huge_pages,
}
