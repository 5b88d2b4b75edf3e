"""The GPU driver: loaded, of the right flavour, of one version, and there for the kernel that boots next.

Which flavour of NVIDIA's modules a GPU takes: Maxwell, Pascal and Volta only the proprietary one; Grace Hopper, Blackwell
and later only the open one; all between take both (NVIDIA Driver Installation Guide, "Kernel Modules"; the README of
NVIDIA/open-gpu-kernel-modules). The generation is told by the PCI device number, which grows with it.
"""

from __future__ import annotations

from collections.abc import Iterator

from bedplate.model.facts.finding import Confidence, Evidence, Severity
from bedplate.model.facts.host import HostFacts
from bedplate.model.facts.pci import Accelerator, PciDevice
from bedplate.model.facts.reading import Unknown
from bedplate.plan.rules.checks.stack_terms import is_nvidia_dkms
from bedplate.plan.rules.observation import Observation, not_judged, seen, some, unknown
from bedplate.plan.rules.rule import Result
from bedplate.plan.rules.terms import (
    CONTROLLER_3D,
    DISPLAY,
    DISPLAY_OTHER,
    NVIDIA,
    accelerators,
    computes,
    device_of,
    has_module,
    is_container,
)

_FIRST_TURING = 0x1E00
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
                        (Evidence(fact=f"{accelerator.vendor}'s module is not loaded", source="/proc/modules"),)
                        if not loaded
                        else ()
                    ),
                ),
                fix=_install(facts, accelerator.vendor),
                undo=("# Remove the packages again, and reboot.",),
                confidence=Confidence.LIKELY if bound.value == "nouveau" else Confidence.CERTAIN,
            )
        elif bound.value is None and loaded is None:
            yield not_judged(
                id="driver.not-bound", why=f"no driver drives {device.address}; the loaded modules are not known"
            )
    if unread:
        yield unknown("driver.not-bound", f"the driver of {some(device.address for device in unread)}", unread[0].driver)


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
                Evidence(fact="nvidia is loaded", source="/proc/modules"),
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
                    Evidence(fact=f"device {device.device:04x}", source=f"/sys/bus/pci/devices/{device.address}/device"),
                ),
                fix=_flavour_fix(facts, needs),
                undo=("# Reinstall the packages of the previous flavour, and reboot.",),
                confidence=Confidence.LIKELY,
            )


def check_versions(facts: HostFacts) -> Iterator[Result]:
    """Kernel module and user-space library of different versions: what runs goes on, what starts fails."""
    id = "driver.version-mismatch"
    loaded = next((version for name, version in facts.kernel.modules if name == "nvidia"), "")
    told = False
    for accelerator in facts.accelerators:
        if accelerator.vendor != "nvidia":
            continue
        # NVML itself refuses with these words, before it answers anything (NVML_ERROR_LIB_RM_VERSION_MISMATCH).
        if "version mismatch" in accelerator.memory_bytes.text.lower():
            told = True
            yield _mismatch(
                accelerator, Evidence(fact=accelerator.memory_bytes.text, source=accelerator.memory_bytes.source), loaded
            )
            break
        module, library = loaded or accelerator.driver_version.value, accelerator.library_version
        if not module or library.value is None:
            continue
        told = True
        if not _same_version(module, library.value):
            yield _mismatch(accelerator, seen("user-space library", library), module)
            break
    if loaded and not told:
        yield not_judged(id=id, why=f"module {loaded} is loaded; the version of the user-space library was not read")


def _mismatch(one: Accelerator, evidence: Evidence, module: str) -> Observation:
    library = f" {one.library_version.value}" if one.library_version.value else " of another version"
    what = f"the loaded NVIDIA module is {module or 'of one version'}, the library is{library}"
    return Observation(
        id="driver.version-mismatch",
        told_by=("stack.library-module",),  # which a reboot does not mend
        severity=Severity.CRITICAL,
        because=f"{what}: the next engine that starts fails",
        where=("machine",),
        evidence=(evidence, Evidence(fact=f"module {module}", source="/sys/module/nvidia/version")),
        fix=(
            "# Drain the engines, then load the module that fits the library; a reboot does so reliably.",
            "systemctl stop nvidia-persistenced nvidia-fabricmanager",
            "modprobe -r nvidia_drm nvidia_modeset nvidia_uvm nvidia && modprobe nvidia nvidia_uvm",
        ),
        undo=("# Install the driver packages of the version that was loaded.",),
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
    if device.device < _FIRST_TURING:
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
        return ("ubuntu-drivers install --gpgpu", "reboot")
    if facts.os.id == "debian":
        return ("apt install linux-headers-$(uname -r) nvidia-open-kernel-dkms nvidia-driver", "reboot")
    return ("# Install NVIDIA's driver for this distribution, and reboot.",)


def _flavour_fix(facts: HostFacts, needs: str) -> tuple[str, ...]:
    if facts.os.id == "debian":
        return (f"apt install {'nvidia-open-kernel-dkms' if needs == 'open' else 'nvidia-kernel-dkms'}", "reboot")
    suffix = "the package whose name ends in -open" if needs == "open" else "the package without -open in its name"
    return (f"# Install {suffix} instead of the other package, in the same version.", "reboot")


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
