"""The installed stack against the rows of the catalogue: a driver too old for CUDA, an engine without code for the GPUs.

A row of catalog/stack says which driver a CUDA needs, and which code a device runs; nothing of it is repeated here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from bedplate.model.facts.finding import Confidence, Evidence, Severity
from bedplate.model.facts.host import HostFacts
from bedplate.model.facts.stack import DeviceCode, DkmsState
from bedplate.model.stack import ModuleBuild, StackCatalogue, StackDevice, StackFact, StackRecord
from bedplate.model.versions import compare_versions
from bedplate.plan.rules.checks.stack_kernel import check_dkms
from bedplate.plan.rules.checks.stack_terms import (
    driver_after_boot,
    driver_packages,
    engine_of,
    following_release,
    kernel_after_boot,
    severity_of_loss,
)
from bedplate.plan.rules.device_code import runs_code
from bedplate.plan.rules.observation import Observation, not_judged, shell_word, some
from bedplate.plan.rules.rule import Result
from bedplate.plan.rules.terms import accelerators, device_of


@dataclass(frozen=True, slots=True, kw_only=True)
class _CudaUse:
    """Something that was built for a version of CUDA."""

    name: str
    where: str
    cuda: str
    source: str
    severity: Severity


def check_driver_floor(facts: HostFacts, catalogue: StackCatalogue) -> Iterator[Result]:
    """A torch or a toolkit of a CUDA that the driver is too old for, by the catalogue's rules about driver and CUDA."""
    driver = driver_after_boot(facts)
    if driver is None or driver.value is None:
        return
    for use in _cuda_uses(facts):
        for rule in catalogue.facts:
            if not _is_floor(rule, use.cuda) or all(need.holds_for((driver.value,)) for need in rule.needs):
                continue
            floor = some(str(need) for need in rule.needs)
            forward = [
                toolkit for toolkit in facts.stack.toolkits if toolkit.compat and _newer(toolkit.compat, driver.value)
            ]
            yield Observation(
                id="stack.driver-too-old",
                severity=use.severity,
                because=f"{use.name} is built for CUDA {use.cuda}, but the driver is {driver.value}: {rule.because}",
                where=(use.where,),
                evidence=(
                    Evidence(fact=f"CUDA {use.cuda}", source=use.source),
                    Evidence(fact=f"driver {driver.value}", source=driver.source),
                    *(Evidence(fact=f"compat {toolkit.compat}", source=f"{toolkit.path}/compat") for toolkit in forward[:1]),
                ),
                fix=(
                    f"# Take a build for an older CUDA in an environment beside this one, or upgrade the driver ({floor}):",
                    f"bedplate stack resolve --engine ENGINE --require {shell_word(f'nvidia-driver =={driver.value}')}",
                    "# It names the newest engine for this driver, and what a newer one needs.",
                ),
                undo=("# The former environment is still there: start the service from it again.",),
                confidence=Confidence.POSSIBLE if forward else Confidence.CERTAIN,
            )
            break


def _cuda_uses(facts: HostFacts) -> Iterator[_CudaUse]:
    for environment in facts.stack.environments:
        torch = environment.torch
        if torch is not None and torch.cuda:
            engine = engine_of(environment)
            name = f"torch {torch.version}{f' of {engine}' if engine else ''} in {environment.path}"
            severity = severity_of_loss(facts, "nvidia")
            yield _CudaUse(name=name, where=environment.path, cuda=torch.cuda, source=torch.path, severity=severity)
    for toolkit in facts.stack.toolkits:
        if toolkit.is_default and toolkit.version.value is not None:
            yield _CudaUse(
                name=f"the toolkit in {toolkit.path}",
                where=toolkit.path,
                cuda=toolkit.version.value,
                source=toolkit.version.source,
                severity=Severity.LOW,
            )


def _is_floor(rule: StackFact, cuda: str) -> bool:
    """Whether a rule binds the driver to this version of CUDA, in its native form."""
    if not rule.needs or any(need.component != "nvidia-driver" or need.name for need in rule.needs):
        return False
    if not rule.when or any(condition.component != "cuda" for condition in rule.when):
        return False
    values = {"": (cuda,), "support": ("native",)}
    return all(condition.holds_for(values.get(condition.name, ())) for condition in rule.when)


def _newer(left: str, right: str) -> bool:
    return compare_versions(left, right) > 0


def check_known_bad(facts: HostFacts, catalogue: StackCatalogue) -> Iterator[Result]:
    """A driver that dkms has not built for the next kernel, of which a row says that it cannot be, and why."""
    kernel = kernel_after_boot(facts)
    missing = [
        result for result in check_dkms(facts) if isinstance(result, Observation) and result.id == "stack.dkms-driver"
    ]
    explained = [(result, _reason(facts, catalogue, result, kernel.value or "")) for result in missing]
    if kernel.value is None or not any(row is not None for _, row in explained):
        return
    for result, row in explained:
        if row is None:
            yield replace(result, told_by=())  # another driver, of which no row is known
            continue
        name = result.where[0].rpartition("/")[2]
        yield Observation(
            id="stack.known-bad",
            severity=result.severity,
            because=f"dkms cannot build {name} for kernel {kernel.value}, which boots next: {row.because}",
            where=result.where,
            evidence=(
                *result.evidence,
                Evidence(
                    fact=f"{row.id}, {row.checked.value} on {row.date}: {some(row.evidence, 2)}", source="the catalogue"
                ),
            ),
            fix=(
                f"# Do not reboot into kernel {shell_word(kernel.value)}.",
                "# Find a driver that builds for it, or another kernel:",
                f"bedplate stack resolve --accelerator this-host --require {shell_word(f'kernel =={kernel.value}')}",
                "# Until then, boot the running kernel by name, and hold its package: the engines need not be stopped.",
            ),
            undo=("# Nothing was changed.",),
        )


def _reason(facts: HostFacts, catalogue: StackCatalogue, result: Observation, kernel: str) -> ModuleBuild | None:
    """The row that says that a module does not build for a kernel; None without one, or where headers are missing."""
    name = result.where[0].rpartition("/")[2]
    module = next(module for module in facts.stack.dkms.value or () if module.name == name)
    following = following_release(facts)
    states = [build.state for build in module.builds if build.release in (following, "")]
    if DkmsState.BUILT in states or (DkmsState.FAILED not in states and following not in facts.stack.headers):
        return None
    component = "amdgpu" if name.startswith("amdgpu") else "nvidia-driver"
    values = {
        "": (module.versions[-1],),
        "flavour": _flavour(facts, name),
        "source": ("amd",) if component == "amdgpu" else ("installed",),
    }
    for row in catalogue.modules:
        if not row.builds and row.kernel.holds_for((kernel,)):
            of_module = all(condition.component == component for condition in row.module)
            if of_module and all(condition.holds_for(values.get(condition.name, ())) for condition in row.module):
                return row
    return None


def _flavour(facts: HostFacts, module: str) -> tuple[str, ...]:
    """By the name of Debian's module, else by the package that Ubuntu's is of; () where neither tells."""
    if module.endswith("-open"):
        return ("open",)
    if module != "nvidia":
        return ("proprietary",)
    names = [driver.package.name for driver in driver_packages(facts) if driver.role == "module"]
    return tuple({"open" if "open" in name else "proprietary" for name in names}) if len(names) == 1 else ()


def check_engine_code(facts: HostFacts, catalogue: StackCatalogue, record: StackRecord | None) -> Iterator[Result]:
    """An engine whose binaries hold no code that the GPUs run, nor any that the driver could compile for them."""
    by_vendor: dict[str, list[tuple[str, StackDevice, Evidence]]] = {}
    for name, device, evidence in _devices(facts, catalogue, record):
        for vendor in device.properties.get("vendor", ()):
            by_vendor.setdefault(vendor, []).append((name, device, evidence))
    for vendor, devices in by_vendor.items():
        for binary, owner in _binaries(facts):
            own = [text for text in (*binary.architectures, *binary.intermediate) if _vendor_of(text) == vendor]
            if not own:
                continue
            for name, device, evidence in devices:
                code = device.properties.get("code", ())
                if not code or not code[0].startswith(("sm_", "gfx")) or runs_code(binary, code):
                    continue
                yield Observation(
                    id="stack.engine-code",
                    severity=severity_of_loss(facts, vendor),
                    because=(
                        f"{owner} holds code for {some(binary.architectures or binary.intermediate, 8)}, none of which "
                        f"runs on {name} ({code[0]})"
                    ),
                    where=(binary.path,),
                    evidence=(
                        Evidence(fact=f"code for {some(binary.architectures, 12) or 'no architecture'}", source=binary.path),
                        *(
                            (Evidence(fact=f"PTX for {some(binary.intermediate)}", source=binary.path),)
                            if binary.intermediate
                            else ()
                        ),
                        evidence,
                    ),
                    fix=(
                        f"# Take a build that holds {code[0]}, in an environment beside this one:",
                        "bedplate stack resolve --engine ENGINE --accelerator this-host",
                    ),
                    undo=("# The former environment is still there: start the service from it again.",),
                )
                break
    if not by_vendor:
        unknown_devices = [accelerator.name or accelerator.vendor for accelerator in accelerators(facts)]
        if unknown_devices and any(True for _ in _binaries(facts)):
            yield not_judged(
                id="stack.engine-code", why=f"the catalogue does not know which code {some(unknown_devices)} runs"
            )


def _devices(
    facts: HostFacts, catalogue: StackCatalogue, record: StackRecord | None
) -> Iterator[tuple[str, StackDevice, Evidence]]:
    """(name, row, where it was seen): accelerators of the machine; where it has none, those that the lock was made for."""
    by_id = {number: device for device in catalogue.devices for number in device.pci}
    seen = False
    for accelerator in accelerators(facts) or facts.accelerators:
        function = device_of(facts, accelerator)
        if function is None:
            continue
        seen = True
        device = by_id.get(function.pci_id)
        if device is not None:
            where = f"/sys/bus/pci/devices/{function.address}/device"
            yield device.title, device, Evidence(fact=f"{device.title} ({function.pci_id})", source=where)
    if seen or record is None:
        return
    by_name = {device.id: device for device in catalogue.devices}
    for line in record.wish:
        key, _, values = line.partition(": ")
        for name in values.split("; ") if key == "accelerators" else ():
            if name in by_name:
                yield by_name[name].title, by_name[name], Evidence(fact=f"made for {name}", source="the lock")


def _binaries(facts: HostFacts) -> Iterator[tuple[DeviceCode, str]]:
    """(binary, what it belongs to), for all that serves models."""
    for environment in facts.stack.environments:
        by_package: dict[str, list[DeviceCode]] = {}
        for binary in environment.code:
            by_package.setdefault(_package_of(binary), []).append(binary)
        for package, binaries in by_package.items():
            yield _together(binaries), f"{package} of {engine_of(environment) or 'the environment'} in {environment.path}"
    for binary in facts.stack.code:
        yield binary, binary.path


def _package_of(binary: DeviceCode) -> str:
    """ ".../site-packages/vllm/_C.abi3.so" -> "vllm"."""
    return binary.path.rpartition("-packages/")[2].partition("/")[0]


def _together(binaries: Sequence[DeviceCode]) -> DeviceCode:
    """What one package holds: kernels for newer devices alone may fill a library of their own."""
    return DeviceCode(
        path=binaries[0].path,
        architectures=tuple(dict.fromkeys(text for binary in binaries for text in binary.architectures)),
        intermediate=tuple(dict.fromkeys(text for binary in binaries for text in binary.intermediate)),
    )


def _vendor_of(architecture: str) -> str:
    return "nvidia" if architecture.startswith("sm_") else "amd"
