"""The GPU driver: loaded, of the right flavour, of one version, and there for the kernel that boots next.

Which flavour of NVIDIA's modules a GPU takes: Maxwell, Pascal and Volta only the proprietary one; Grace Hopper, Blackwell
and later only the open one; all between take both (NVIDIA Driver Installation Guide, "Kernel Modules"; the README of
NVIDIA/open-gpu-kernel-modules). The generation is told by the PCI device number, which grows with it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from bedplate.model.facts.finding import Confidence, Evidence, Severity
from bedplate.model.facts.host import HostFacts
from bedplate.model.facts.pci import PciDevice
from bedplate.model.facts.reading import Reading, Unknown
from bedplate.model.facts.system import FailureKind
from bedplate.plan.rules.checks.fixes import held_by, reboot_fix
from bedplate.plan.rules.checks.stack_terms import is_nvidia_dkms
from bedplate.plan.rules.observation import Observation, not_judged, seen, some, unknown
from bedplate.plan.rules.rule import Result
from bedplate.plan.rules.terms import (
    CONTROLLER_3D,
    DISPLAY,
    DISPLAY_OTHER,
    FIRST_TURING,
    NVIDIA,
    accelerators,
    attribute_source,
    computes,
    device_of,
    has_module,
    is_container,
    is_nvswitch,
)

_GRACE_HOPPER = (0x2342, 0x2348)  # GH200 120GB and 144GB; Hopper cards of the same range take both flavours
_FIRST_BLACKWELL = 0x2900
# Modules that drive a vendor's accelerators for computing; nouveau draws, and no engine runs on it.
_MODULES = {"nvidia": ("nvidia", "nvidia-open"), "amd": ("amdgpu",), "intel": ("xe", "i915")}
_DISPLAYS = (DISPLAY, CONTROLLER_3D, DISPLAY_OTHER)


def check_no_driver(facts: HostFacts) -> Iterator[Result]:
    """Accelerators that no driver drives, or one that no engine can use; what NVIDIA's refuses is the next check's."""
    unread: list[PciDevice] = []
    for accelerator in facts.accelerators:
        device = device_of(facts, accelerator)
        if device is None or accelerator.vendor not in _MODULES:
            continue
        if accelerator.memory_bytes.value is not None and device.driver.value is None:
            continue  # the vendor's library or driver told its memory: something drives it
        bound, loaded = device.driver, has_module(facts, _MODULES[accelerator.vendor][0])
        if computes(accelerator, device) is not True and bound.value is None:
            continue
        if bound.value is None and bound.unknown is not Unknown.ABSENT:
            unread.append(device)
        elif (bound.value == "nouveau" and computes(accelerator, device) is True) or (
            bound.value is None and loaded is False
        ):
            name = accelerator.name or accelerator.vendor
            yield Observation(
                id="driver.not-bound",
                severity=Severity.CRITICAL,
                because=f"{device.address} ({name}) has {_driver(device)}: no engine can use it",
                where=(device.address,),
                evidence=(
                    seen("driver", bound),
                    *(
                        (Evidence(fact=f"{accelerator.vendor}'s module is not loaded", source=facts.kernel.modules_source),)
                        if loaded is False
                        else ()
                    ),
                ),
                fix=_install(facts, accelerator.vendor),
                undo=("# Remove the packages again, and reboot.",),
                confidence=Confidence.LIKELY if bound.value == "nouveau" else Confidence.CERTAIN,
            )
        elif bound.value is None and loaded is None and _is_listed_without(facts, device, accelerator.vendor):
            yield Observation(
                id="driver.not-bound",
                severity=Severity.CRITICAL,
                because=f"{device.address} ({accelerator.name or accelerator.vendor}) has no driver: no engine can use it",
                where=(device.address,),
                evidence=(
                    Evidence(
                        fact=f"kernel modules {', '.join(device.modules)}, and no kernel driver in use", source=bound.source
                    ),
                ),
                fix=_install(facts, accelerator.vendor),
                undo=("# Remove the packages again, and reboot.",),
                confidence=Confidence.LIKELY,
            )
        elif bound.value is None and loaded is None:
            yield not_judged(
                id="driver.not-bound", why=f"no driver drives {device.address}; the loaded modules are not known"
            )
    if unread:
        yield unknown("driver.not-bound", f"the driver of {some(device.address for device in unread)}", unread[0].driver)


def _is_listed_without(facts: HostFacts, device: PciDevice, vendor: str) -> bool:
    """Whether the listing names drivers of other devices, and of this one only modules that could drive it."""
    names = any(other.driver.value for other in facts.pci)
    return names and any(module in _MODULES[vendor] for module in device.modules)


def check_refused(facts: HostFacts) -> Iterator[Result]:
    """The driver is loaded and drives none of a device: the wrong flavour, or one that is too old for it."""
    if not has_module(facts, "nvidia"):
        return
    for device in facts.pci:
        if device.vendor != NVIDIA or device.class_code >> 8 not in _DISPLAYS:
            continue
        if device.driver.value is not None or device.driver.unknown is not Unknown.ABSENT:
            continue
        needs = _needed_flavour(device)
        wrong = needs is not None and facts.kernel.nvidia_flavour.value not in (None, needs)
        reason = f": it needs the {needs} modules, {facts.kernel.nvidia_flavour.value} ones are loaded" if wrong else ""
        yield Observation(
            id="driver.lists-no-device",
            severity=Severity.CRITICAL,
            because=f"the NVIDIA driver is loaded but does not drive {device.address}{reason}",
            where=(device.address,),
            evidence=(
                seen("driver of the device", device.driver),
                Evidence(fact="nvidia is loaded", source=facts.kernel.modules_source),
                seen("flavour of the loaded module", facts.kernel.nvidia_flavour),
            ),
            fix=(
                "dmesg | grep -i NVRM",
                *(_flavour_fix(facts, needs) if wrong and needs is not None else ()),
                "# NVRM names the reason: the other flavour of modules, a newer driver, or a device that does not answer.",
            ),
            undo=("# Reinstall the packages of the previous flavour, and reboot.",),
        )


def check_flavour(facts: HostFacts) -> Iterator[Result]:
    """A flavour of NVIDIA's modules that the GPU does not take, where the device is driven all the same, or not read."""
    flavour = facts.kernel.nvidia_flavour
    devices = [device for device in facts.pci if device.vendor == NVIDIA and device.class_code >> 8 in _DISPLAYS]
    for device in devices:
        needs = _needed_flavour(device)
        if needs is None or device.driver.unknown is Unknown.ABSENT:
            continue
        if flavour.value is None and device.driver.value == "nvidia":
            yield unknown("driver.wrong-flavour", f"{device.address} needs the {needs} modules; the loaded flavour", flavour)
        elif flavour.value not in (None, needs) and device.driver.value in (None, "nvidia"):
            yield Observation(
                id="driver.wrong-flavour",
                severity=Severity.CRITICAL,
                because=(
                    f"{device.address} supports only the {needs} NVIDIA modules, but the {flavour.value} ones are loaded"
                ),
                where=(device.address,),
                evidence=(
                    seen("flavour of the loaded module", flavour),
                    Evidence(fact=f"device {device.device:04x}", source=attribute_source(device, "device")),
                ),
                fix=_flavour_fix(facts, needs),
                undo=("# Reinstall the packages of the previous flavour, and reboot.",),
                confidence=Confidence.LIKELY,
            )


def check_versions(facts: HostFacts) -> Iterator[Result]:
    """Kernel module and user-space library of different versions: what runs goes on, what starts fails."""
    id = "driver.version-mismatch"
    module, told = _loaded_module(facts), False
    for failure in facts.failures:
        # NVML itself refuses with these words, before it answers anything (NVML_ERROR_LIB_RM_VERSION_MISMATCH).
        if failure.kind is FailureKind.VERSION_MISMATCH:
            yield _mismatch(facts, Evidence(fact=failure.text, source=failure.source), module, failure.version)
            return
    for accelerator in facts.accelerators:
        if accelerator.vendor != "nvidia":
            continue
        library, answer = accelerator.library_version, accelerator.memory_bytes
        if "version mismatch" in answer.text.lower():
            yield _mismatch(facts, Evidence(fact=answer.text, source=answer.source), module, library.value or "")
            return
        loaded = module if module is not None else _as_evidence(accelerator.driver_version)
        if loaded is None or library.value is None:
            continue
        told = True
        if not _same_version(loaded.fact, library.value):
            yield _mismatch(facts, seen("user-space library", library), loaded, library.value)
            return
    library = facts.nvidia_library
    if module is not None and library.value is not None:
        if not _same_version(module.fact, library.value):
            yield _mismatch(facts, seen("user-space library", library), module, library.value)
    elif module is not None and not told:
        yield not_judged(id=id, why=f"module {module.fact} is loaded; the version of the user-space library was not read")


def _loaded_module(facts: HostFacts) -> Evidence | None:
    """The version of the module that is loaded, as a fact by itself, with what said so; None when nothing did."""
    listed = next((version for name, version in facts.kernel.modules if name == "nvidia"), "")
    if listed:
        return Evidence(fact=listed, source="/sys/module/nvidia/version")
    return _as_evidence(facts.kernel.nvidia_version)


def _as_evidence(reading: Reading[str]) -> Evidence | None:
    return None if reading.value is None else Evidence(fact=reading.value, source=reading.source)


def _mismatch(facts: HostFacts, evidence: Evidence, module: Evidence | None, library: str) -> Observation:
    loaded = module.fact if module is not None else "of one version"
    what = f"the loaded NVIDIA module is {loaded}, the library is {library or 'of another version'}"
    return Observation(
        id="driver.version-mismatch",
        told_by=("stack.library-module",),  # which a reboot does not mend
        severity=Severity.CRITICAL,
        because=f"{what}: the next engine that starts fails",
        where=("machine",),
        evidence=(evidence, *(() if module is None else (replace(module, fact=f"module {module.fact}"),))),
        fix=_reload_fix(facts),
        undo=("# Install the driver packages of the version that was loaded.",),
    )


def _reload_fix(facts: HostFacts) -> tuple[str, ...]:
    """How the module that fits the library is loaded. What is stopped for it is started again: without the fabric manager no
    CUDA program starts on a machine with NVSwitches (error 802)."""
    states = {accelerator.fabric_state.value for accelerator in facts.accelerators} - {None}
    fabric = any(is_nvswitch(device) for device in facts.pci) or bool(states - {"N/A"})
    has_none = bool(states) and not fabric
    services = "nvidia-persistenced nvidia-dcgm" if has_none else "nvidia-persistenced nvidia-dcgm nvidia-fabricmanager"
    modules = "nvidia_drm nvidia_modeset nvidia_uvm nvidia"
    peer = has_module(facts, "nvidia_peermem")
    return (
        f"# This interrupts every program that uses a GPU. Drain the engines first; a reboot does it, too.{held_by(facts)}",
        f"systemctl stop {services}",
        "fuser -v /dev/nvidia*  # a module in use (nvidia_uvm) cannot be removed: nothing may be listed",
        *(
            ("modprobe -r nvidia_peermem",)
            if peer
            else ("# Where it is loaded: modprobe -r nvidia_peermem",)
            if peer is None
            else ()
        ),
        f"modprobe -r {modules} && modprobe -a nvidia nvidia_uvm",
        *(("modprobe nvidia_peermem",) if peer else ()),
        f"systemctl start {services}",
        *(
            ()
            if has_none
            else (
                "# The fabric manager must be of the new version, too; on HGX with Blackwell GPUs it needs nvlsm.",
                "nvidia-smi -q | grep -A 3 Fabric",
            )
        ),
    )


def check_next_kernel(facts: HostFacts) -> Iterator[Result]:
    """The next boot starts a kernel for which no module of the accelerators was built."""
    id = "driver.next-kernel"
    vendors = sorted({accelerator.vendor for accelerator in accelerators(facts)} & set(_MODULES))
    if not vendors:
        return
    running, following = facts.kernel.release, facts.kernel.next_release
    if is_container(facts):
        yield not_judged(id=id, why="the kernel that boots next is the host's, not this container's")
        return
    if following.value is None or running.value is None:
        yield unknown(id, "which kernel boots next", running if running.value is None else following)
        return
    built = dict(facts.kernel.gpu_modules).get(following.value)
    if built is None:
        yield not_judged(id=id, why=f"the modules of {following.value}, which boots next, were not found")
        return
    for vendor in vendors:
        wanted = _MODULES[vendor]
        if any(name in built for name in wanted):
            continue
        now = dict(facts.kernel.gpu_modules).get(running.value, ())
        if following.value == running.value and has_module(facts, wanted[0]):
            yield not_judged(
                id=id, why=f"{wanted[0]} is loaded but not in /lib/modules of this kernel: it comes from elsewhere"
            )
            continue
        yield Observation(
            id=id,
            severity=Severity.CRITICAL,
            because=f"kernel {following.value} boots next, but has no {wanted[0]} module",
            where=("machine",),
            evidence=(
                seen("boots next", following),
                Evidence(
                    fact=f"modules for it: {some(built) or 'none'}", source=f"/lib/modules/{following.value}/modules.dep"
                ),
                Evidence(
                    fact=f"modules for the running {running.value}: {some(now) or 'none'}",
                    source=f"/lib/modules/{running.value}/modules.dep",
                ),
            ),
            told_by=("stack.dkms-driver",) if _dkms_builds(facts, vendor) else (),
            fix=_build_fix(facts, following.value, vendor),
            undo=("# Remove the module's package of that kernel.",),
            # DKMS builds what is missing while it boots, where it is set up to and the headers are there.
            confidence=Confidence.LIKELY,
        )


def _dkms_builds(facts: HostFacts, vendor: str) -> bool:
    """Whether dkms has the vendor's module: its check knows whether a build failed, and where the log is."""
    names = [module.name for module in facts.stack.dkms.value or ()]
    return any(is_nvidia_dkms(name) if vendor == "nvidia" else name.startswith("amdgpu") for name in names)


def _needed_flavour(device: PciDevice) -> str | None:
    """open or proprietary where a device takes only one; None where it takes both, or its number is not known."""
    if not device.device:
        return None
    if device.device < FIRST_TURING:
        return "proprietary"
    return "open" if device.device in _GRACE_HOPPER or device.device >= _FIRST_BLACKWELL else None


def _same_version(module: str, library: str) -> bool:
    """ "590.48.01" and "590.48.01"; NVML of some releases leaves the last part out: "590.48"."""
    a, b = module.split("."), library.split(".")
    shared = min(len(a), len(b))
    return shared >= 2 and a[:shared] == b[:shared]


def _driver(device: PciDevice) -> str:
    return f"the driver {device.driver.value}" if device.driver.value else "no driver"


def _install(facts: HostFacts, vendor: str) -> tuple[str, ...]:
    if vendor == "amd":
        return ("modprobe amdgpu", "dmesg | grep -i amdgpu")
    if vendor == "intel":
        return ("modprobe xe || modprobe i915", "dmesg | grep -iE 'xe |i915'")
    if facts.os.id == "ubuntu":
        return reboot_fix("ubuntu-drivers install --gpgpu")
    if facts.os.id == "debian":
        return reboot_fix("apt install linux-headers-$(uname -r) nvidia-open-kernel-dkms nvidia-driver")
    return ("# Install NVIDIA's driver for this distribution, and reboot.",)


def _flavour_fix(facts: HostFacts, needs: str) -> tuple[str, ...]:
    if facts.os.id == "debian":
        return reboot_fix(f"apt install {'nvidia-open-kernel-dkms' if needs == 'open' else 'nvidia-kernel-dkms'}")
    suffix = "the package whose name ends in -open" if needs == "open" else "the package without -open in its name"
    return reboot_fix(f"# Install {suffix} instead of the other package, in the same version.")


def _build_fix(facts: HostFacts, release: str, vendor: str) -> tuple[str, ...]:
    if vendor != "nvidia":
        return (f"# Install the package of kernel {release} that holds the GPU modules (linux-modules-extra on Ubuntu).",)
    if facts.os.id in ("debian", "ubuntu"):
        return (
            f"apt install linux-headers-{release}",
            f"dkms autoinstall -k {release}",
            "# Ubuntu's prebuilt modules instead: apt install linux-modules-nvidia-BRANCH-server-" + release,
        )
    return (f"dnf install kernel-devel-{release}", f"dkms autoinstall -k {release}")
