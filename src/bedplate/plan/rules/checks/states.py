"""What devices report of their own state: lost, waiting for a reset, divided, held down by heat in the past.

Sources: NVML API Reference; NVIDIA GPU Debug Guidelines; NVIDIA Multi-Instance GPU User Guide; AMD SMI documentation,
"Memory and compute partitions"; Linux kernel documentation, gpu/xe/xe_device (survivability mode).
"""

from __future__ import annotations

from collections.abc import Iterator

from bedplate.model.facts.finding import Confidence, Evidence, Severity
from bedplate.model.facts.host import HostFacts
from bedplate.model.facts.pci import Accelerator
from bedplate.model.facts.system import FailureKind
from bedplate.model.units import GIB, render_size
from bedplate.model.wording import plural
from bedplate.plan.rules.checks.fixes import reboot_fix, reset_fix
from bedplate.plan.rules.observation import Observation, seen, some
from bedplate.plan.rules.rule import Result
from bedplate.plan.rules.terms import by_address, is_virtual, name_of

_HEAT = ("hw_thermal_slowdown", "sw_thermal_slowdown", "hw_power_brake_slowdown")
_HEAT_LEAST_S = 3600.0
_NO_ACTION = ("None", "N/A")
_REST_LEAST = 1 * GIB
_DEVICES = {"DPX": 2, "TPX": 3, "QPX": 4, "CPX": 8}


def check_lost(facts: HostFacts) -> Iterator[Result]:
    """Accelerators that do not answer any more: by their tool, by their registers, by the error that names them."""
    found: dict[str, list[Evidence]] = {}
    names: dict[str, str] = {}
    for accelerator in facts.accelerators:
        if accelerator.failure.value is not None and accelerator.vendor != "intel":
            place = name_of(accelerator)
            names[place] = accelerator.name
            found.setdefault(place, []).append(seen("its values", accelerator.failure))
    own = {accelerator.address: accelerator.name for accelerator in facts.accelerators}
    for device in facts.pci:
        if device.answers.value is False and device.address in own:
            names.setdefault(device.address, own[device.address])
            fact = f"its configuration space reads as ones ({device.answers.text})"
            found.setdefault(device.address, []).append(Evidence(fact=fact, source=device.answers.source))
    for failure in facts.failures:
        if failure.kind is FailureKind.DEVICE_LOST:
            place = failure.address or "machine"
            found.setdefault(place, []).append(Evidence(fact=failure.text, source=failure.source))
    for place, evidence in sorted(found.items()):
        name = f" ({names[place]})" if names.get(place) else ""
        what = "a GPU" if place == "machine" else f"{place}{name}"
        yield Observation(
            id="accel.lost",
            severity=Severity.CRITICAL,
            because=f"{what} does not answer: it has fallen off the bus or needs a reset",
            where=(place,),
            evidence=tuple(evidence),
            fix=_lost_fix(facts, place),
            confidence=Confidence.CERTAIN,
        )


def _lost_fix(facts: HostFacts, place: str) -> tuple[str, ...]:
    lost = next((gpu for gpu in facts.accelerators if name_of(gpu) == place), None)
    last = (
        ("# If it is still lost: stop the virtual machine, and start it on another host of the provider.",)
        if is_virtual(facts)
        else (
            "# If it is still lost, power the machine off and on: a reboot does not cut a card's power. If the machine",
            "# is yours and it happens again, look at seat, riser, power cables and heat.",
        )
    )
    return (
        "dmesg | grep -E 'Xid|AER|fallen off the bus'",
        "# Try a reset first. It does not reach a device that has left the bus.",
        *reset_fix(facts, lost),
        *last,
    )


def check_rows(facts: HostFacts) -> Iterator[Result]:
    """Rows of memory that wait to be remapped, or that could not be."""
    for accelerator in facts.accelerators:
        place = name_of(accelerator)
        if accelerator.rows_failed.value is True:
            yield Observation(
                id="accel.remap-failed",
                severity=Severity.CRITICAL,
                because=f"{place} could not replace a row of its memory",
                where=(place,),
                evidence=(seen("remapping failed", accelerator.rows_failed),),
                fix=("# Move the work to another machine, and report this one to the provider.",)
                if is_virtual(facts)
                else (
                    "# Take the GPU out of service, and have it replaced. The vendor asks for:",
                    "nvidia-bug-report.sh",
                ),
            )
        if accelerator.rows_pending.value is True:
            count = accelerator.rows_uncorrectable
            many = f" ({count.value} uncorrectable)" if count.value else ""
            yield Observation(
                id="accel.rows-pending",
                severity=Severity.HIGH,
                because=f"rows of the memory of {place} wait to be remapped{many}",
                where=(place,),
                evidence=(
                    seen("rows pending", accelerator.rows_pending),
                    *((seen("uncorrectable errors", count),) if count.value is not None else ()),
                ),
                fix=reset_fix(facts, accelerator),
            )


def check_recovery(facts: HostFacts) -> Iterator[Result]:
    """The driver asks for an action before the device is used again."""
    for accelerator in facts.accelerators:
        asked = accelerator.recovery_action
        if asked.value is None or asked.value in _NO_ACTION or accelerator.vendor != "nvidia":
            continue
        place = name_of(accelerator)
        yield Observation(
            id="accel.recovery-asked",
            severity=Severity.HIGH,
            because=f'the driver asks for "{asked.value}" of {place}',
            where=(place,),
            evidence=(seen("GPU Recovery Action", asked),),
            fix=reboot_fix() if asked.value == "Reboot" else reset_fix(facts, accelerator),
        )


def check_divided(facts: HostFacts) -> Iterator[Result]:
    """MIG: no instance made, what belongs to none, and a mode that waits for a reset."""
    for accelerator in facts.accelerators:
        place, sizes = name_of(accelerator), accelerator.mig_bytes.value
        if accelerator.mig.value is True and sizes == ():
            yield Observation(
                id="accel.mig-empty",
                severity=Severity.CRITICAL,
                because=f"MIG is enabled on {place}, and no instance was made: no engine can use the GPU",
                where=(place,),
                evidence=(seen("MIG mode", accelerator.mig), seen("instances", accelerator.mig_bytes)),
                fix=(
                    "# List the profiles, then make instances of one of them; or disable MIG, with the GPU drained:",
                    f"nvidia-smi mig -i {accelerator.index} -lgip",
                    f"nvidia-smi mig -i {accelerator.index} -cgi PROFILE -C",
                    f"nvidia-smi -i {accelerator.index} -mig 0",
                ),
                undo=(f"nvidia-smi -i {accelerator.index} -mig 1",),
            )
        elif accelerator.mig.value is True and sizes:
            yield _divided(accelerator, place, sizes)
        now, then = accelerator.mig.value, accelerator.mig_pending.value
        if now is not None and then is not None and now is not then:
            mode = "enabled" if then else "disabled"
            yield Observation(
                id="accel.mig-pending",
                severity=Severity.LOW,
                because=f"MIG of {place} will be {mode} after its next reset",
                where=(place,),
                evidence=(
                    seen("MIG mode now", accelerator.mig),
                    seen("MIG mode after a reset", accelerator.mig_pending),
                ),
                fix=(
                    "# If this is not intended. Drain the GPU first: where it is idle, the mode changes at once.",
                    f"nvidia-smi -i {accelerator.index} -mig {int(now)}",
                ),
                undo=(f"nvidia-smi -i {accelerator.index} -mig {int(then)}",),
            )


def _divided(accelerator: Accelerator, place: str, sizes: tuple[int, ...]) -> Observation:
    total = accelerator.memory_bytes.value
    rest = total - sum(sizes) if total is not None else 0
    free = f"; {render_size(rest)} belong to no instance" if rest >= _REST_LEAST else ""
    listed = some((render_size(size) for size in sizes), 8)
    return Observation(
        id="accel.mig-divided",
        severity=Severity.INFO,
        because=f"MIG divides {place} into {plural(len(sizes), 'instance')} of {listed}{free}",
        where=(place,),
        evidence=(
            seen("MIG mode", accelerator.mig),
            Evidence(fact=f"instances of {listed}", source=accelerator.mig_bytes.source),
        ),
        fix=(
            "# Tensor parallelism over instances does not work. For an engine that needs the whole GPU, drain it; then:",
            f"nvidia-smi -i {accelerator.index} -mig 0",
        ),
        undo=(f"nvidia-smi -i {accelerator.index} -mig 1", "# Make the instances again: nvidia-smi mig -cgi PROFILES -C"),
    )


def check_partitions(facts: HostFacts) -> Iterator[Result]:
    """AMD accelerators that are split into several devices."""
    split = [gpu for gpu in facts.accelerators if gpu.compute_partition.value not in (None, "SPX")]
    if not split:
        return
    first = split[0]
    mode, memory = first.compute_partition.value or "", first.memory_partition
    count = _DEVICES.get(mode)
    devices = f"{count} devices" if count is not None else "several devices"
    domains = f", {memory.value}" if memory.value is not None else ""
    yield Observation(
        id="accel.partitioned",
        severity=Severity.INFO,
        because=f"each card is split into {devices} with a part of the memory each ({mode}{domains})",
        where=tuple(name_of(gpu) for gpu in split),
        evidence=(
            seen("compute partition", first.compute_partition),
            *((seen("memory partition", memory),) if memory.value is not None else ()),
        ),
        fix=(
            "# For an engine that wants whole GPUs, with all of them idle:",
            "amd-smi set --gpu all --memory-partition NPS1",
            "amd-smi set --gpu all --compute-partition SPX",
        ),
        undo=(f"amd-smi set --gpu all --compute-partition {mode}",),
    )


def check_survivability(facts: HostFacts) -> Iterator[Result]:
    """Intel GPUs whose firmware did not start: they wait for it to be written again."""
    for accelerator in facts.accelerators:
        if accelerator.vendor != "intel" or accelerator.failure.value is None:
            continue
        asks = accelerator.recovery_action
        yield Observation(
            id="accel.survivability",
            severity=Severity.CRITICAL,
            because=f"{name_of(accelerator)} is in {accelerator.failure.value}: it needs its firmware to be written",
            where=(name_of(accelerator),),
            evidence=(
                seen("device state", accelerator.failure),
                *((seen("recovery action", asks),) if asks.value is not None else ()),
            ),
            fix=(
                "# Ask the kernel first: some releases of xpu-smi say this of healthy cards.",
                f"cat /sys/bus/pci/devices/{accelerator.address or 'ADDRESS'}/survivability_mode",
                *(
                    ("# Move the work to another machine, and report this one to the provider: its card cannot compute.",)
                    if is_virtual(facts)
                    else (
                        "# Get the firmware of this card from its maker. Drain all engines, write it, and power off and on:",
                        f"xpu-smi updatefw -d {accelerator.index} -t GFX -f FILE",
                    )
                ),
            ),
            confidence=Confidence.LIKELY,
        )


def check_heat_before(facts: HostFacts) -> Iterator[Result]:
    """Clocks that heat or a power brake held down for hours since the driver was loaded, though not at this moment."""
    for accelerator in facts.accelerators:
        held = {reason: time_s for reason, time_s in accelerator.held_s if reason in _HEAT and time_s >= _HEAT_LEAST_S}
        if not held or set(held) & set(accelerator.throttle_reasons):
            continue
        worst = max(held, key=lambda reason: held[reason])
        cause = "a power brake" if worst == "hw_power_brake_slowdown" else "heat"
        yield Observation(
            id="power.heat-before",
            severity=Severity.MEDIUM,
            because=f"{cause} held down the clock of {name_of(accelerator)} for {held[worst] / 3600:.1f} h, by its counters",
            where=(name_of(accelerator),),
            evidence=tuple(
                Evidence(
                    fact=f"{reason}: {time_s / 3600:.1f} h", source=accelerator.recovery_action.source.partition(":")[0]
                )
                for reason, time_s in sorted(held.items())
            ),
            fix=(
                "nvidia-smi -q -d PERFORMANCE,TEMPERATURE,POWER",
                "# Look at it under load. The cooling and the power of the machine are the provider's: report it."
                if is_virtual(facts)
                else "# Look at it under load. Heat: fans, air flow, filters, inlet temperature. A brake: power supplies.",
            ),
            confidence=Confidence.LIKELY,
        )


def check_listed(facts: HostFacts) -> Iterator[Result]:
    """Fewer GPUs described than the driver counts: the text was cut off, or some of them do not answer."""
    count = facts.attached.value
    listed = sum(accelerator.vendor == "nvidia" for accelerator in facts.accelerators)
    if count is not None and listed < count:
        yield Observation(
            id="accel.fewer-listed",
            severity=Severity.LOW,
            because=f"the driver counts {count} GPUs, and {listed} are described",
            where=("machine",),
            evidence=(seen("attached GPUs", facts.attached),),
            fix=(
                "# If the text was not cut off, compare both lists; a GPU of the bus that is missing is lost:",
                "nvidia-smi -L",
                "lspci -d 10de:",
            ),
            confidence=Confidence.POSSIBLE,
        )


def check_link_errors(facts: HostFacts) -> Iterator[Result]:
    """Links of accelerators that have seen errors, which were repeated and corrected; one finding for all of them.

    Training a link sets these bits, too: where every accelerator of several has them, they say little.
    """
    own = {accelerator.address for accelerator in facts.accelerators}
    devices = [device for device in facts.pci if device.address in own and device.answers.value is not False]
    marked = [device for device in devices if device.link_errors]
    if not marked or is_virtual(facts):
        return
    all_of_several = len(marked) == len(devices) > 1
    errors = sorted({error for device in marked for error in device.link_errors})
    links = f"the link of {marked[0].address} has" if len(marked) == 1 else f"{len(marked)} links of accelerators have"
    yield Observation(
        id="pci.link-errors",
        severity=Severity.LOW if all_of_several else Severity.MEDIUM,
        because=f"{links} seen errors ({', '.join(errors)})",
        where=tuple(device.address for device in marked),
        evidence=tuple(
            Evidence(fact=f"CESta: {', '.join(f'{error}+' for error in device.link_errors)}", source=device.driver.source)
            for device in marked[:4]
        ),
        fix=(
            "# The bits stay set until they are cleared. Clear them, put load on the card, and look again:",
            *(f"setpci -s {device.address} ECAP_AER+10.l=ffffffff" for device in marked),
            f"lspci -vvv -s {marked[0].address} | grep CESta",
            "# If they return: seat, riser, retimer, cable. If the machine is rented, tell the provider.",
        ),
        undo=("# The bits are a history; nothing depends on them.",),
        confidence=Confidence.POSSIBLE if all_of_several else Confidence.LIKELY,
    )


def check_given_away(facts: HostFacts) -> Iterator[Result]:
    """Accelerators that are kept for a virtual machine."""
    devices = by_address(facts)
    for accelerator in facts.accelerators:
        device = devices.get(accelerator.address or "")
        if device is not None and device.driver.value == "vfio-pci":
            yield Observation(
                id="driver.given-away",
                severity=Severity.INFO,
                because=f"{device.address} is kept for a virtual machine (vfio-pci): this host does not use it",
                where=(device.address,),
                evidence=(seen("driver", device.driver),),
                fix=(
                    "# If this host should use it, and no virtual machine runs with it:",
                    f"echo {device.address} > /sys/bus/pci/drivers/vfio-pci/unbind",
                    f"echo > /sys/bus/pci/devices/{device.address}/driver_override",
                    f"echo {device.address} > /sys/bus/pci/drivers_probe",
                ),
                undo=(f"echo {device.address} > /sys/bus/pci/drivers/vfio-pci/bind",),
            )
