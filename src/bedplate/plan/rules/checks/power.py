"""Clocks that something holds down: of CPUs by their governor, of accelerators by heat, power or a person."""

from __future__ import annotations

from collections.abc import Iterator

from bedplate.model.facts.finding import Confidence, Evidence, Severity
from bedplate.model.facts.host import HostFacts
from bedplate.model.facts.pci import Accelerator
from bedplate.model.facts.reading import Unknown
from bedplate.model.wording import plural
from bedplate.plan.rules.observation import Observation, not_judged, seen, seen_of, some, unknown
from bedplate.plan.rules.rule import Result
from bedplate.plan.rules.terms import is_virtual, name_of

_CPUFREQ = "/sys/devices/system/cpu/cpufreq"
# Drivers that pick the clock themselves; the energy preference, not the governor, says how.
_AUTONOMOUS = ("intel_pstate", "amd-pstate-epp")
# A card at its own power limit reports sw_power_cap at full load: that is how it works, not a fault.
_HARD = ("hw_slowdown", "hw_thermal_slowdown", "hw_power_brake_slowdown", "sw_thermal_slowdown")
_SET = ("applications_clocks_setting",)


def check_governor(facts: HostFacts) -> Iterator[Result]:
    """A governor or an energy preference that keeps the dispatch loop at a low clock; bare metal only."""
    id = "power.governor"
    if is_virtual(facts) is not False or not facts.cpu.governors:
        if facts.cpu.governors and is_virtual(facts) is None:
            yield not_judged(id=id, why="whether a hypervisor sets the clocks is not known")
        return
    driver, preference = facts.cpu.driver.value or "", facts.cpu.energy_preference
    governors = ", ".join(f"{name} on {plural(count, 'CPU')}" for name, count in sorted(facts.cpu.governors))
    slow = sorted(name for name, _ in facts.cpu.governors if name != "performance")
    if not slow:
        return
    effect = None
    if driver in _AUTONOMOUS and slow == ["powersave"] and preference.value is not None:
        if preference.value == "performance":
            return
        what, evidence = f"the energy preference is {preference.value}", seen("energy preference", preference)
        severity, path, old = Severity.MEDIUM, "energy_performance_preference", preference.value
        if preference.value not in ("power", "balance_power"):
            severity, effect = Severity.LOW, f"no evidence that {preference.value} is slower than performance"
    elif driver in _AUTONOMOUS and preference.unknown not in (None, Unknown.ABSENT):
        yield unknown(id, f"{driver} decides by the energy preference, which", preference)
        return
    else:
        source = f"{_CPUFREQ}/policy*/scaling_governor"
        what, evidence = f"the governor is {some(slow)}", Evidence(fact=governors, source=source)
        # powersave is the lowest clock, always, but not with a driver that picks it itself; the others ramp up under load.
        severity = Severity.MEDIUM if "powersave" in slow and driver not in _AUTONOMOUS else Severity.LOW
        path, old = "scaling_governor", slow[0]
    yield Observation(
        id=id,
        severity=severity,
        because=f"the clocks of the CPUs {'are' if severity is Severity.MEDIUM else 'may be'} held low: {what}",
        where=("machine",),
        evidence=(evidence, seen("driver", facts.cpu.driver)),
        fix=(
            f'for f in {_CPUFREQ}/policy*/{path}; do echo performance > "$f"; done',
            f"echo 'w {_CPUFREQ}/policy*/{path} - - - - performance' > /etc/tmpfiles.d/80-bedplate-governor.conf",
            *(("# tuned or power-profiles-daemon also sets it: change it in that program.",) if _owner(facts) else ()),
        ),
        undo=(
            f'for f in {_CPUFREQ}/policy*/{path}; do echo {old} > "$f"; done',
            "rm /etc/tmpfiles.d/80-bedplate-governor.conf",
        ),
        confidence=Confidence.LIKELY if severity is Severity.MEDIUM else Confidence.POSSIBLE,
        effect=effect,
    )


def _owner(facts: HostFacts) -> bool:
    return bool({"tuned", "power-profiles-daemon"} & set(facts.os.co_owners))


def check_throttled(facts: HostFacts) -> Iterator[Result]:
    """Accelerators whose clock is held down by heat or a power brake now, or by clocks that somebody set."""
    for accelerator in facts.accelerators:
        hard = [reason for reason in accelerator.throttle_reasons if reason in _HARD]
        soft = [reason for reason in accelerator.throttle_reasons if reason in _SET]
        if hard:
            yield _held(facts, accelerator, hard, Severity.HIGH, Confidence.CERTAIN)
        elif soft:
            yield _held(facts, accelerator, soft, Severity.LOW, Confidence.POSSIBLE)


def _held(facts: HostFacts, one: Accelerator, reasons: list[str], severity: Severity, confidence: Confidence) -> Observation:
    now = f", {one.sm_clock_mhz.value} of {one.max_sm_clock_mhz.value} MHz" if one.sm_clock_mhz.value is not None else ""
    by_hand = severity is Severity.LOW
    return Observation(
        id="power.clocks-held",
        severity=severity,
        because=f"{name_of(one)} is being throttled: {', '.join(reasons)}{now}",
        where=(name_of(one),),
        evidence=(
            Evidence(fact=f"active: {', '.join(one.throttle_reasons)}", source=one.sm_clock_mhz.source),
            *seen_of(("SM clock in MHz", one.sm_clock_mhz), ("temperature", one.temperature_c)),
        ),
        fix=("nvidia-smi --reset-applications-clocks", "nvidia-smi --reset-gpu-clocks")
        if by_hand
        else (
            "nvidia-smi -q -d PERFORMANCE,TEMPERATURE,POWER",
            "# The cooling and the power of the machine are the provider's: report it, and move to another machine."
            if is_virtual(facts)
            else "# Heat: fans, air flow, filters, inlet temperature. A power brake: power supplies and their cables.",
        ),
        undo=("# Set the clocks again: nvidia-smi --applications-clocks=MEMORY,GRAPHICS",)
        if by_hand
        else ("# Nothing was changed.",),
        confidence=confidence,
    )


def check_power_limit(facts: HostFacts) -> Iterator[Result]:
    """A power limit below the card's own: often meant, and cheap where the host is the bottleneck."""
    low = [
        accelerator
        for accelerator in facts.accelerators
        if accelerator.power_limit_w.value is not None
        and accelerator.power_default_w.value is not None
        and accelerator.power_limit_w.value < accelerator.power_default_w.value - 1.0
    ]
    if not low:
        return
    first = low[0]
    bound = any("sw_power_cap" in gpu.throttle_reasons for gpu in low)
    now, default = first.power_limit_w.value or 0.0, first.power_default_w.value or 0.0
    yield Observation(
        id="power.limit-lowered",
        severity=Severity.MEDIUM if bound else Severity.LOW,
        because=f"the power limit of {some(name_of(gpu) for gpu in low)} is {now:g} W, their own is {default:g} W",
        where=tuple(name_of(gpu) for gpu in low),
        evidence=(seen("power limit in W", first.power_limit_w), seen("default limit in W", first.power_default_w)),
        fix=("# If this is not intended, for each GPU N:", f"nvidia-smi -i N --power-limit={default:.0f}")
        if first.vendor == "nvidia"
        else ("# If this is not intended:", "rocm-smi --resetpoweroverdrive"),
        undo=(f"nvidia-smi -i N --power-limit={now:.0f}",)
        if first.vendor == "nvidia"
        else (f"rocm-smi --setpoweroverdrive {now:.0f}",),
        confidence=Confidence.LIKELY if bound else Confidence.POSSIBLE,
    )
