"""Accelerators that are there and are not used, are not ready, or are not whole."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from bedplate.model.facts.finding import Confidence, Evidence, Severity
from bedplate.model.facts.host import HostFacts
from bedplate.model.facts.pci import Accelerator
from bedplate.model.wording import plural
from bedplate.plan.engine_arguments import count_argument
from bedplate.plan.rules.checks.fixes import held_by, reset_fix
from bedplate.plan.rules.observation import Observation, not_judged, seen, seen_of, some, unknown
from bedplate.plan.rules.rule import Result
from bedplate.plan.rules.terms import (
    accelerators,
    computes,
    deployments,
    device_of,
    is_given_away,
    is_nvswitch,
    is_virtual,
    name_of,
    wants_cpu,
)

_WAITING = ("Not Started", "In Progress")  # nvmlGpuFabricState_t; "Not Supported" and "N/A" are of GPUs without a fabric
_STARTING_S = 20.0  # processor time; engines import and read their options for this long before they open a device
_PARALLEL = ("--tensor-parallel-size", "-tp", "--tp", "--tp-size", "--tensor_parallel_size")


def check_engine_on_cpu(facts: HostFacts) -> Iterator[Result]:
    """An engine none of whose processes holds an accelerator open, on a machine that has some to give."""
    id = "accel.engine-on-cpu"
    usable = accelerators(facts)
    groups = deployments(facts)
    if (
        groups
        and not usable
        and any(computes(accelerator, device_of(facts, accelerator)) is None for accelerator in facts.accelerators)
    ):
        yield not_judged(id=id, why="it is unknown whether the display adapters can compute: no source gives their memory")
    if not usable:
        return
    others_use = any(group.devices for group in groups)
    for group in groups:
        if group.devices or wants_cpu(group):
            continue
        if not group.devices_known:
            yield not_judged(id=id, why=f"the open files of {group.name} may not be read by this user")
        elif group.run_s < _STARTING_S:
            yield not_judged(id=id, why=f"{group.name} has run for only {group.run_s:.0f} s: it may still open a device")
        else:
            yield Observation(
                id=id,
                severity=Severity.MEDIUM if others_use else Severity.CRITICAL,
                because=f"{group.name} holds none of {plural(len(usable), 'accelerator')} open: it runs on the CPU",
                where=group.where,
                evidence=(
                    Evidence(fact="no accelerator among its open files", source=f"/proc/{group.processes[0].pid}/fd"),
                    *(Evidence(fact=gpu.name or gpu.vendor, source=name_of(gpu)) for gpu in usable[:2]),
                ),
                fix=(
                    "# Read the reason in its log: an installation without CUDA or ROCm, or a container without devices.",
                    "python3 -c 'import torch; print(torch.version.cuda, torch.version.hip, torch.cuda.is_available())'",
                    "# In a container: start it with --gpus all (NVIDIA) or --device /dev/kfd --device /dev/dri (AMD).",
                    "# If it should use the CPU, select that (--device cpu, -ngl 0), or suppress this finding.",
                ),
                # Another engine that uses them makes it likely that this one is meant to run beside.
                confidence=Confidence.POSSIBLE if others_use else Confidence.LIKELY,
            )


def check_fabric(facts: HostFacts) -> Iterator[Result]:
    """NVSwitch fabric that the fabric manager has not set up: CUDA does not start on any GPU of it."""
    id = "fabric.not-ready"
    gpus = [accelerator for accelerator in facts.accelerators if accelerator.vendor == "nvidia"]
    waiting = [gpu for gpu in gpus if gpu.fabric_state.value in _WAITING]
    switches = [device for device in facts.pci if is_nvswitch(device)]
    if waiting:
        yield Observation(
            id=id,
            severity=Severity.CRITICAL,
            because=f"the NVSwitch fabric of {some(name_of(gpu) for gpu in waiting)} is {waiting[0].fabric_state.value}",
            where=tuple(name_of(gpu) for gpu in waiting),
            evidence=(
                *(seen("fabric state", gpu.fabric_state) for gpu in waiting[:2]),
                *(Evidence(fact="an NVSwitch", source=switch.address) for switch in switches[:1]),
            ),
            fix=(
                "systemctl status nvidia-fabricmanager",
                "# The package nvidia-fabricmanager must be of the driver's version, to the last digit.",
                "systemctl enable --now nvidia-fabricmanager",
            ),
            undo=("systemctl disable --now nvidia-fabricmanager",),
            # It takes tens of seconds after boot to be completed.
            confidence=Confidence.LIKELY if waiting[0].fabric_state.value == "In Progress" else Confidence.CERTAIN,
        )
    elif switches and not any(gpu.fabric_state.value == "Completed" for gpu in gpus):
        if gpus:
            yield unknown(
                id, f"{plural(len(switches), 'NVSwitch')[:-1]}es are present, but the fabric state", gpus[0].fabric_state
            )
        else:
            yield not_judged(id=id, why="NVSwitches are present, but no GPU that could report the state of their fabric")


def check_ecc(facts: HostFacts) -> Iterator[Result]:
    """Uncorrected memory errors since the driver was loaded."""
    id = "accel.ecc-uncorrected"
    for accelerator in facts.accelerators:
        count = accelerator.ecc_uncorrected
        if count.value is not None and count.value > 0:
            yield Observation(
                id=id,
                severity=Severity.HIGH,
                because=f"{name_of(accelerator)} has counted {plural(count.value, 'uncorrected memory error')}",
                where=(name_of(accelerator),),
                evidence=(seen("uncorrected ECC errors", count),),
                fix=_ecc_fix(facts, accelerator),
            )
        elif accelerator.ecc.value is True and count.value is None:
            yield unknown(id, f"the error count of {name_of(accelerator)}", count)


def _ecc_fix(facts: HostFacts, accelerator: Accelerator) -> tuple[str, ...]:
    """The counters, then the reset that takes bad rows out of use."""
    counters = {
        "nvidia": ("nvidia-smi -q -d ECC,ROW_REMAPPER,PAGE_RETIREMENT",),
        "amd": ("# Read ras/umc_err_count and ras/gpu_vram_bad_pages of the device.",),
    }
    if accelerator.vendor not in counters:
        return ("# Read the error counters with the vendor's tool.",)
    last = () if is_virtual(facts) else ("# If errors come again after the reset, have the device replaced.",)
    return (*counters[accelerator.vendor], *reset_fix(facts, accelerator), *last)


def check_mig(facts: HostFacts) -> Iterator[Result]:
    """Tensor parallelism over slices of GPUs: MIG instances have no peer-to-peer path between them."""
    id = "accel.mig-parallel"
    sliced = [accelerator for accelerator in accelerators(facts) if accelerator.mig.value is True]
    if not sliced:
        return
    whole = len(accelerators(facts)) - len(sliced)
    for group in deployments(facts):
        ranks = count_argument(group.processes, 1, *_PARALLEL)
        if ranks > max(1, whole):
            yield Observation(
                id=id,
                severity=Severity.HIGH,
                because=f"{group.name} wants {ranks} whole GPUs, and MIG divides {some(name_of(gpu) for gpu in sliced)}",
                where=(*group.where, *(name_of(gpu) for gpu in sliced)),
                evidence=(
                    seen("MIG mode", sliced[0].mig),
                    Evidence(fact=f"tensor parallel size {ranks}", source=f"/proc/{group.processes[0].pid}/cmdline"),
                ),
                fix=(
                    f"# This interrupts all programs that use the GPUs: drain them first.{held_by(facts)}",
                    "# Then, for each GPU N:",
                    "nvidia-smi -i N -mig 0",
                ),
                undo=("nvidia-smi -i N -mig 1", "# Make the instances again: nvidia-smi mig -cgi PROFILES -C"),
                confidence=Confidence.LIKELY,
            )


def check_persistence(facts: HostFacts) -> Iterator[Result]:
    """NVIDIA's driver unloads a GPU's state with its last user unless persistence is on."""
    id = "accel.persistence-off"
    off: list[Accelerator] = []
    for accelerator in facts.accelerators:
        if accelerator.vendor != "nvidia" or is_given_away(device_of(facts, accelerator)):
            continue
        if accelerator.persistence.value is False:
            off.append(accelerator)
        elif accelerator.persistence.value is None and accelerator.driver_version.value is not None:
            yield unknown(id, f"the persistence mode of {name_of(accelerator)}", accelerator.persistence)
    if off:
        # While an engine holds the devices open nothing is unloaded; the next start pays.
        busy = all(gpu.processes for gpu in off)
        yield Observation(
            id=id,
            severity=Severity.LOW if busy else Severity.MEDIUM,
            because=f"persistence is off on {plural(len(off), 'GPU')}: {some(name_of(gpu) for gpu in off)}",
            where=tuple(name_of(gpu) for gpu in off),
            evidence=tuple(seen("persistence mode", gpu.persistence) for gpu in off[:2]),
            fix=("systemctl enable --now nvidia-persistenced", "# Without systemd, until the next boot: nvidia-smi -pm 1"),
            undo=("systemctl disable --now nvidia-persistenced", "nvidia-smi -pm 0"),
        )


def check_nvlink(facts: HostFacts) -> Iterator[Result]:
    """A GPU with fewer NVLinks up than its twins here. All of them down at once may be a card without a bridge: not said."""
    for twins in _twins(facts.accelerators):
        up = [twin.nvlinks_active.value or 0 for twin in twins]
        for twin in twins:
            active = twin.nvlinks_active.value or 0
            if active < max(up):
                yield Observation(
                    id="accel.nvlink-missing",
                    severity=Severity.HIGH,
                    because=f"{name_of(twin)} has {plural(active, 'NVLink')} up, another {twin.name or 'GPU'} has {max(up)}",
                    where=(name_of(twin),),
                    evidence=seen_of(("NVLinks up", twin.nvlinks_active), ("NVLinks", twin.nvlinks_total)),
                    fix=(
                        "nvidia-smi nvlink --status",
                        "nvidia-smi nvlink --errorcounters",
                        *reset_fix(facts, twin),
                        *(() if is_virtual(facts) else ("# If links stay down, check the baseboard or the bridge.",)),
                    ),
                    confidence=Confidence.LIKELY,
                )


def _twins(all_of_them: Iterable[Accelerator]) -> Iterator[list[Accelerator]]:
    """Accelerators of one name, or of none where nothing names them, whose links are known; with MIG on none are told."""
    by_name: dict[str, list[Accelerator]] = {}
    for accelerator in all_of_them:
        if accelerator.nvlinks_active.value is not None and accelerator.mig.value is not True:
            by_name.setdefault(accelerator.name, []).append(accelerator)
    yield from (those for those in by_name.values() if len(those) > 1)
