"""What the next reboot will break: modules that were not built for the next kernel, files that it lacks, firmware.

Sources: dkms(8), modules.dep(5), modinfo(8), the README of NVIDIA's driver for GSP firmware.
"""

from __future__ import annotations

from collections.abc import Iterator

from bedplate.model.facts.finding import Confidence, Evidence, Severity
from bedplate.model.facts.host import HostFacts
from bedplate.model.facts.reading import Unknown
from bedplate.model.facts.stack import DKMS_TREE, DkmsBuild, DkmsModule, DkmsState, ModuleFile
from bedplate.plan.rules.checks.stack_terms import (
    following_release,
    is_nvidia_dkms,
    module_after_boot,
    same_driver,
    severity_of_loss,
)
from bedplate.plan.rules.observation import Observation, not_judged, seen, shell_word, some, unknown
from bedplate.plan.rules.rule import Result
from bedplate.plan.rules.terms import is_container

_VENDORS = {"nvidia": "nvidia", "amdgpu": "amd", "xe": "intel", "i915": "intel"}
_FIRMWARE = "/lib/firmware"


def check_dkms(facts: HostFacts) -> Iterator[Result]:
    """Modules that dkms built for another kernel and not for the one that boots next, or failed to build for it."""
    if is_container(facts):
        return
    following, dkms = following_release(facts), facts.stack.dkms
    if dkms.value is None:
        if dkms.unknown is Unknown.DENIED:
            yield unknown("stack.dkms-driver", "what dkms has built", dkms)
        return
    if not dkms.value:
        return
    if following is None:
        yield not_judged(id="stack.dkms-driver", why="which kernel boots next is not known, so what it needs is not either")
        return
    gpu_modules = dict(facts.kernel.gpu_modules).get(following, ())
    for module in dkms.value:
        is_driver = is_nvidia_dkms(module.name) or module.name.startswith("amdgpu")
        there = [build for build in module.builds if build.release == following and build.state is DkmsState.INSTALLED]
        if there or (is_driver and _has_prebuilt(module, gpu_modules)):
            continue
        failed = [build for build in module.builds if build.state is DkmsState.FAILED and build.release in (following, "")]
        built = [build for build in module.builds if build.state is DkmsState.BUILT and build.release == following]
        elsewhere = [build for build in module.builds if build.state is DkmsState.INSTALLED]
        if failed or built or elsewhere:
            yield _not_for_next(facts, module, following, failed=failed, built=built, elsewhere=elsewhere, driver=is_driver)


def _has_prebuilt(module: DkmsModule, gpu_modules: tuple[str, ...]) -> bool:
    """Whether the kernel has the module from a package of prebuilt ones, or from its own tree."""
    wanted = ("amdgpu",) if module.name.startswith("amdgpu") else ("nvidia", "nvidia-open")
    return any(name in gpu_modules for name in wanted)


def _not_for_next(
    facts: HostFacts,
    module: DkmsModule,
    following: str,
    *,
    failed: list[DkmsBuild],
    built: list[DkmsBuild],
    elsewhere: list[DkmsBuild],
    driver: bool,
) -> Observation:
    version = (failed or built or elsewhere)[-1].version if failed or built else module.versions[-1]
    name = f"{module.name}/{version}"
    if failed:
        what = f"dkms failed to build {name} for kernel {following}, which boots next"
    elif built:
        what = f"dkms built {name} for kernel {following}, which boots next, but did not install it"
    else:
        what = f"dkms has no {name} for kernel {following}, which boots next"
    release = shell_word(following)
    headers = following in facts.stack.headers
    vendor = "amd" if module.name.startswith("amdgpu") else "nvidia"
    where = (f"{DKMS_TREE}/{module.name}",)
    evidence = (
        seen("boots next", facts.kernel.next_release),
        *(Evidence(fact=_failure(build), source=build.source) for build in failed[-2:]),
        *(Evidence(fact=f"built for {build.release}, not installed", source=build.source) for build in built[-1:]),
        *(Evidence(fact=f"installed for {build.release}", source=build.source) for build in elsewhere[-2:]),
        *(() if headers else (Evidence(fact="its headers are missing", source=f"/lib/modules/{following}/build"),)),
    )
    fix = (
        "# Build it now: this writes a file for the next kernel and touches nothing that runs.",
        *(() if headers else (f"apt-get install linux-headers-{release}",)),
        *((f"tail -n 40 {shell_word(failed[-1].source)}",) if failed else ()),
        f"dkms install {shell_word(name)} -k {release}",
        f"# If it cannot be built, do not reboot into {release}: remove its package, or boot the running kernel by name.",
    )
    undo = (f"dkms uninstall {shell_word(name)} -k {release}",)
    if driver:
        return Observation(
            id="stack.dkms-driver",
            severity=severity_of_loss(facts, vendor),
            because=what,
            told_by=("stack.known-bad",),
            where=where,
            evidence=evidence,
            fix=fix,
            undo=undo,
        )
    return Observation(
        id="stack.dkms-module",
        severity=Severity.MEDIUM,
        because=what,
        where=where,
        evidence=evidence,
        fix=fix,
        undo=undo,
    )


def _failure(build: DkmsBuild) -> str:
    return f"failed for {build.release or 'a kernel'}{f': {build.error}' if build.error else ''}"


def check_boot_files(facts: HostFacts) -> Iterator[Result]:
    """A next kernel without its initrd where others have one, or without any modules: its installation did not end."""
    following = following_release(facts)
    names = facts.stack.boot_files
    if is_container(facts) or following is None or f"vmlinuz-{following}" not in names:
        return
    kernels = [name.removeprefix("vmlinuz-") for name in names if name.startswith("vmlinuz-")]
    others = [release for release in kernels if release != following and _initrd_of(release, names)]
    lacking: list[Evidence] = []
    if others and not _initrd_of(following, names):
        lacking.append(Evidence(fact=f"no initrd for {following}; {some(others, 3)} have one", source="/boot"))
    if facts.kernel.installed and following not in facts.kernel.installed:
        lacking.append(Evidence(fact=f"no modules for {following}", source="/lib/modules"))
    if lacking:
        yield Observation(
            id="stack.boot-files",
            severity=Severity.CRITICAL,
            because=f"kernel {following} boots next, but its installation is not complete",
            where=("machine",),
            evidence=(seen("boots next", facts.kernel.next_release), *lacking),
            fix=(
                "df -h /boot  # a full /boot is the usual reason: remove kernels that are not used",
                f"apt-get install --reinstall linux-image-{shell_word(following)}",
                f"update-initramfs -c -k {shell_word(following)}",
            ),
            undo=("# Nothing to undo: it completes an installation.",),
        )


def _initrd_of(release: str, names: tuple[str, ...]) -> str:
    wanted = (f"initrd.img-{release}", f"initramfs-{release}.img")
    return next((name for name in names if name in wanted), "")


def check_module_files(facts: HostFacts) -> Iterator[Result]:
    """A GPU module in the directory of the next kernel that was built for another one: it does not load."""
    for module in facts.stack.module_files:
        if module.vermagic.value is None:
            if module.vermagic.text:
                yield not_judged(id="stack.module-vermagic", why=f"{module.path}: {module.vermagic.text}")
            elif module.vermagic.unknown is not Unknown.ABSENT:
                yield unknown("stack.module-vermagic", f"what {module.name}'s file says of itself", module.vermagic)
        elif module.vermagic.value != module.release:
            yield Observation(
                id="stack.module-vermagic",
                severity=severity_of_loss(facts, _VENDORS[module.name]),
                because=f"{module.name} for kernel {module.release} was built for {module.vermagic.value}: it does not load",
                where=(module.path,),
                evidence=(
                    Evidence(fact=f"vermagic {module.vermagic.value}", source=module.path),
                    seen("boots next", facts.kernel.next_release),
                ),
                fix=(
                    "# Build it for this kernel; the module that runs stays loaded.",
                    f"dkms autoinstall -k {shell_word(module.release)} && depmod {shell_word(module.release)}",
                ),
                undo=("# Put the former file back, and run depmod.",),
            )


def check_library(facts: HostFacts) -> Iterator[Result]:
    """NVIDIA's libraries of another version than the module that the next boot loads, or than each other."""
    libraries = facts.stack.libraries
    if not libraries:
        return
    first = libraries[0]
    others = [library for library in libraries if not same_driver(first.version, library.version)]
    module = None if is_container(facts) else module_after_boot(facts)
    if module is not None and module.value is not None and not same_driver(module.value, first.version):
        yield Observation(
            id="stack.library-module",
            severity=severity_of_loss(facts, "nvidia"),
            because=(
                f"NVIDIA's module on disk is {module.value}, but the library is {first.version}: no engine starts with both"
            ),
            where=("machine",),
            evidence=(
                Evidence(fact=f"module {module.value}", source=module.source),
                Evidence(fact=f"{first.name}.so.{first.version}", source=first.path),
            ),
            fix=(
                f"# Install the libraries of version {shell_word(module.value)} beside the module, as one upgrade.",
                "# Engines that run keep the library that they have loaded; drain them, and reboot once.",
                "apt-get --only-upgrade install $(dpkg-query -W -f '${Package}\\n' 'libnvidia*' 'libcuda1' 'nvidia-*')",
            ),
            undo=("# Install the former version of the libraries: apt-get install PACKAGE=VERSION.",),
        )
    elif others:
        yield Observation(
            id="stack.library-module",
            severity=severity_of_loss(facts, "nvidia"),
            because=(
                f"{first.name} is {first.version}, but {others[0].name} is {others[0].version}: one of them does not load"
            ),
            where=("machine",),
            evidence=tuple(
                Evidence(fact=f"{library.name}.so.{library.version}", source=library.path) for library in libraries
            ),
            fix=(
                "# Install all libraries of the driver in one version. Engines that run keep those that they have loaded.",
                "apt-get install --reinstall libcuda1 libnvidia-ml1",
            ),
            undo=("# Install the former version of the libraries: apt-get install PACKAGE=VERSION.",),
        )


def check_firmware(facts: HostFacts) -> Iterator[Result]:
    """Firmware that the next boot's module asks for and that no firmware directory has.

    NVIDIA's module names the files of its own version, all of which its package holds. A module of the kernel's tree names
    those of every device that it can drive: there only a directory with none of them is wrong.
    """
    for module in facts.stack.module_files:
        missing = module.firmware_missing
        if missing is None:
            if module.firmware:
                yield not_judged(
                    id="stack.firmware-missing", why=f"{_FIRMWARE} could not be listed, and {module.name} names files of it"
                )
            continue
        if not missing or (module.name != "nvidia" and len(missing) < len(module.firmware)):
            continue
        yield Observation(
            id="stack.firmware-missing",
            severity=_firmware_severity(facts, module),
            because=(f"{module.name} of kernel {module.release} needs {some(missing, 2)}, which {_FIRMWARE} does not have"),
            where=(module.path,),
            evidence=(
                Evidence(fact=f"names {some(module.firmware, 3)}", source=module.path),
                Evidence(fact=f"missing: {len(missing)} of {len(module.firmware)}", source=_FIRMWARE),
            ),
            fix=_firmware_fix(facts, module),
            undo=("# Remove the package again.",),
            confidence=Confidence.CERTAIN if module.name == "nvidia" else Confidence.LIKELY,
        )


def _firmware_severity(facts: HostFacts, module: ModuleFile) -> Severity:
    """The open flavour runs on no device without it; the proprietary one does without on older devices."""
    if module.name == "nvidia" and "open" not in module.path and facts.kernel.nvidia_flavour.value != "open":
        return Severity.MEDIUM
    return severity_of_loss(facts, _VENDORS[module.name])


def _firmware_fix(facts: HostFacts, module: ModuleFile) -> tuple[str, ...]:
    debian = {"nvidia": "firmware-nvidia-gsp", "amdgpu": "firmware-amd-graphics", "xe": "firmware-intel-graphics"}
    if facts.os.id == "ubuntu":
        package = "nvidia-firmware-BRANCH-VERSION" if module.name == "nvidia" else "linux-firmware"
    else:
        package = debian.get(module.name, "firmware-misc-nonfree")
    version = f", in version {shell_word(module.version.value)}" if module.version.value else ""
    return (
        f"# Install the package that holds it{version}; nothing that runs is touched.",
        f"apt-get install {package}",
        f"update-initramfs -u -k {shell_word(module.release)}",
    )
