"""The system around the engines: upgrades that nobody asked for, the clock, and what the scheduler and the kernel tell."""

from __future__ import annotations

import re
from collections.abc import Iterator

from bedplate.model.facts.finding import Confidence, Evidence, Severity
from bedplate.model.facts.host import HostFacts
from bedplate.model.facts.reading import Reading, Unknown
from bedplate.model.facts.system import CgroupFacts
from bedplate.model.serving_host import FRONT_RECORD
from bedplate.plan.rules.checks.fixes import confine, undo_confine
from bedplate.plan.rules.observation import Observation, not_judged, seen, unknown
from bedplate.plan.rules.rule import Result
from bedplate.plan.rules.terms import accelerators, command_line_fix, deployments, is_container, is_virtual, processes_seen

_PRESSURE = "/proc/pressure/cpu"
_AUTOGROUP = "/proc/sys/kernel/sched_autogroup_enabled"
# Clocks that are read through a device or a counter without a fast path; each reading is a system call (vdso(7)).
_SLOW_CLOCKS = ("hpet", "acpi_pm", "jiffies", "refined-jiffies", "pit")


def check_upgrades(facts: HostFacts) -> Iterator[Result]:
    """Unattended upgrades that may replace the driver under a running engine."""
    id = "system.unattended-driver"
    vendors = {accelerator.vendor for accelerator in accelerators(facts)}
    if "nvidia" not in vendors or is_container(facts):
        return  # amdgpu and xe come with the kernel, whose upgrade waits for a boot
    unattended, held = facts.os.unattended_upgrades, facts.os.driver_packages_held
    if unattended.value is None:
        if unattended.unknown is not Unknown.ABSENT:
            yield unknown(id, "whether packages are upgraded unattended", unattended)
        return
    if not unattended.value or held.value:
        return
    if held.value is None:
        # No package of a driver is installed: it comes from elsewhere, and no upgrade takes it.
        if held.unknown is not Unknown.ABSENT:
            yield unknown(id, "whether the driver's packages are held", held)
        return
    yield Observation(
        id=id,
        severity=Severity.MEDIUM,
        because="unattended upgrades are on and may replace the GPU driver's packages while engines run",
        where=("machine",),
        evidence=(seen("unattended upgrades", unattended), seen("driver packages held", held)),
        fix=(
            "apt-mark hold $(dpkg-query -W -f '${db:Status-Status} ${Package}\\n' '*nvidia*' | sed -n 's/^installed //p')",
            "# Upgrade them together, with the engines drained, and reboot.",
        )
        if facts.os.id in ("debian", "ubuntu")
        else ("# Exclude the driver: excludepkgs=*nvidia*,*cuda* in /etc/dnf/dnf.conf",),
        undo=("apt-mark unhold $(apt-mark showhold | grep nvidia)",)
        if facts.os.id in ("debian", "ubuntu")
        else ("# Take the line out of /etc/dnf/dnf.conf again.",),
        confidence=Confidence.LIKELY,
    )


def check_clocksource(facts: HostFacts) -> Iterator[Result]:
    """A clock that costs a system call at each reading."""
    clock = facts.kernel.clocksource
    if clock.value is None or clock.value not in _SLOW_CLOCKS:
        return
    fast = next(
        (name for name in ("tsc", "kvm-clock", "hyperv_clocksource_tsc_page") if name in facts.kernel.clocksources), None
    )
    yield Observation(
        id="system.clocksource",
        severity=Severity.LOW,
        because=f"the kernel reads the time from {clock.value}",
        where=("machine",),
        evidence=(
            seen("clock source", clock),
            Evidence(
                fact=f"available: {' '.join(facts.kernel.clocksources)}",
                source=clock.source.replace("current_clocksource", "available_clocksource"),
            ),
        ),
        fix=(
            "dmesg | grep -iE 'tsc|clocksource'",
            "# The kernel found the TSC unstable. The hypervisor must expose an invariant TSC; ask the provider."
            if is_virtual(facts)
            else "# The kernel found the TSC unstable: look for a newer version of the firmware.",
            *((f"echo {fast} > {clock.source}",) if fast is not None else ()),
        ),
        undo=(f"echo {clock.value} > {clock.source}",),
    )


def check_psi(facts: HostFacts) -> Iterator[Result]:
    """No pressure stall information: starvation of the engine can then not be told from load."""
    id = "system.no-psi"
    if facts.pressure:
        return
    reading = _knob(facts, _PRESSURE)
    if reading is None or reading.unknown is not Unknown.ABSENT:
        yield (
            not_judged(id=id, why=f"{_PRESSURE} was not read")
            if reading is None or reading.value is not None
            else unknown(id, "pressure stall information", reading)
        )
        return
    built = dict(facts.kernel.config).get("CONFIG_PSI")
    evidence = [seen(_PRESSURE, reading)]
    if built is not None:
        evidence.append(Evidence(fact=f"CONFIG_PSI={built}", source=f"/boot/config-{facts.kernel.release.value}"))
    yield Observation(
        id=id,
        severity=Severity.LOW,
        because="the kernel does not report pressure (PSI is " + ("not built in)" if built == "n" else "off)"),
        where=("machine",),
        evidence=tuple(evidence),
        fix=("# Boot a kernel that was built with CONFIG_PSI=y.",) if built == "n" else command_line_fix(facts, "psi=1"),
        undo=("# Boot the previous kernel.",) if built == "n" else command_line_fix(facts, "psi=1", take_out=True),
        confidence=Confidence.CERTAIN if is_container(facts) is False else Confidence.LIKELY,
    )


def check_front(facts: HostFacts) -> Iterator[Result]:
    """bedplate's own front end answers without a key, or in the clear on the network."""
    if not facts.os.front_openings:
        return
    yield Observation(
        id="system.front-open",
        severity=Severity.MEDIUM,
        because="; ".join(facts.os.front_openings),
        where=("machine",),
        evidence=tuple(Evidence(fact=opening, source=FRONT_RECORD) for opening in facts.os.front_openings),
        fix=(
            "bedplate key add",
            "# In machine.toml, take out the lines `insecure` and `require_key` (docs/how-to/keys-and-tls.md). Then:",
            "bedplate serve prepare",
        ),
        undo=("# Put the machine.toml of before in its place. Then:", "bedplate serve prepare"),
    )


def check_autogroup(facts: HostFacts) -> Iterator[Result]:
    """Autogroup on, and no cpu controller that would stand above it: nice values do nothing between sessions."""
    id = "system.autogroup"
    reading = _knob(facts, _AUTOGROUP)
    if reading is None or reading.value != "1":
        return
    # Autogroups are made within the root task group only: a process in a cgroup with the cpu controller has none (sched(7)).
    groups = [(deployment.name, deployment.where, deployment.cgroup) for deployment in deployments(facts)]
    for name, where, cgroup in groups or [("this process", ("machine",), facts.cgroup)]:
        if cgroup.version == 0:
            continue
        if cgroup.cpu_weight.value is not None:
            # Version 1 has cpu.shares in the root group too, and a container sees its own group as if it were the root.
            if cgroup.version == 2 or not _is_root_group(cgroup):
                continue
            if is_container(facts) is not False:
                yield not_judged(
                    id=id, why=f"inside a container, it is unknown whether {name} is in the root group of the scheduler"
                )
                continue
        elif cgroup.cpu_weight.unknown is not Unknown.ABSENT:
            yield unknown(id, f"whether {name} has a cpu controller", cgroup.cpu_weight)
            continue
        yield Observation(
            id=id,
            severity=Severity.LOW if groups else Severity.INFO,
            because=f"{name} is in the root group of the scheduler with autogroup on: nice has no effect between sessions",
            where=where,
            evidence=(Evidence(fact="sched_autogroup_enabled: 1", source=_AUTOGROUP), seen("cpu weight", cgroup.cpu_weight)),
            fix=(
                "# Set weights of groups instead of nice values of processes:",
                *confine(facts),
                "# Or, for programs that start later: sysctl -w kernel.sched_autogroup_enabled=0",
            ),
            undo=(*undo_confine(facts), "sysctl -w kernel.sched_autogroup_enabled=1"),
            confidence=Confidence.CERTAIN if groups else Confidence.POSSIBLE,
        )


def _is_root_group(cgroup: CgroupFacts) -> bool:
    """/sys/fs/cgroup/cpu/cpu.shares and no directory between: the group of the hierarchy's own root."""
    return re.fullmatch(r"/sys/fs/cgroup/[^/]+/cpu\.shares", cgroup.cpu_weight.source) is not None


def check_readers(facts: HostFacts) -> Iterator[Result]:
    """What the readers themselves could not do."""
    for problem in facts.problems:
        yield not_judged(id="reader", why=f"{problem.source}: {problem.message}")


def check_engines_seen(facts: HostFacts) -> Iterator[Result]:
    """Says that no engine could be checked where a recording holds no processes."""
    if not processes_seen(facts):
        yield not_judged(id="engines", why="the recording has no processes, so engines could not be checked")


def _knob(facts: HostFacts, path: str) -> Reading[str] | None:
    return next((reading for reading in facts.knobs if reading.source == path), None)
