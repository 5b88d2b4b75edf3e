"""What stands on the driver: CUDA toolkits, and the description of the devices that containers ask for.

Sources: the CUDA Installation Guide, the Container Device Interface specification, the documentation of NVIDIA's container
toolkit.
"""

from __future__ import annotations

from collections.abc import Iterator

from bedplate.model.facts.finding import Confidence, Evidence, Severity
from bedplate.model.facts.host import HostFacts
from bedplate.model.facts.stack import DPKG_STATUS, CudaToolkit
from bedplate.plan.rules.checks.stack_terms import driver_after_boot, installed_packages
from bedplate.plan.rules.observation import Observation, shell_word, some
from bedplate.plan.rules.rule import Result
from bedplate.plan.rules.terms import is_container

_TOOLKIT = "nvidia-container-toolkit"
_PROGRAMS = "/usr/bin/nvidia-ctk or /usr/bin/nvidia-container-runtime"


def check_second_cuda(facts: HostFacts) -> Iterator[Result]:
    """CUDA toolkits of more than one version: what is compiled with one is run with the libraries of the other."""
    toolkits = [toolkit for toolkit in facts.stack.toolkits if toolkit.version.value is not None]
    packaged = [package for package in installed_packages(facts) if package.name == "nvidia-cuda-toolkit"]
    versions = {_short(toolkit.version.value or ""): toolkit.path for toolkit in toolkits}
    versions |= {_short(package.upstream): package.name for package in packaged}
    if len(versions) < 2:
        return
    default = next((toolkit for toolkit in toolkits if toolkit.is_default), None)
    loaded = [toolkit for toolkit in toolkits if toolkit.in_loader_path]
    mixed = len({_short(toolkit.version.value or "") for toolkit in loaded}) > 1 or (
        default is not None and bool(loaded) and default not in loaded
    )
    listed = some(f"{version} ({where})" for version, where in versions.items())
    loader = f"; the loader finds {some(toolkit.path for toolkit in loaded)}" if mixed else ""
    yield Observation(
        id="stack.cuda-second",
        severity=Severity.MEDIUM if mixed else Severity.LOW,
        because=f"{len(versions)} versions of CUDA are installed: {listed}{loader}",
        where=tuple(versions.values())[:8],
        evidence=(
            *(_toolkit_evidence(toolkit) for toolkit in toolkits[:6]),
            *(Evidence(fact=f"{package.name} {package.version}", source=DPKG_STATUS) for package in packaged),
            *(Evidence(fact=f"a directory of {toolkit.path}", source="/etc/ld.so.conf.d") for toolkit in loaded[:4]),
        ),
        fix=(
            "# Keep the one that your engines are built with. Wheels of PyTorch and vLLM bring their own and need neither.",
            "ls -l /usr/local/cuda; grep -r cuda /etc/ld.so.conf.d; ldconfig -p | grep libcudart",
            "# Remove the other's package when no running engine has it open: lsof | grep libcudart",
        ),
        undo=("# Install the package again.",),
        confidence=Confidence.CERTAIN if mixed else Confidence.LIKELY,
    )


def _toolkit_evidence(toolkit: CudaToolkit) -> Evidence:
    default = ", the default" if toolkit.is_default else ""
    return Evidence(fact=f"CUDA {toolkit.version.value} in {toolkit.path}{default}", source=toolkit.version.source)


def _short(version: str) -> str:
    """ "12.4.131~12.4.1" -> "12.4"."""
    return ".".join(version.split(".")[:2])


def check_cdi(facts: HostFacts) -> Iterator[Result]:
    """The container toolkit without a description of the devices, or with one of a driver that is gone."""
    if is_container(facts):
        return  # the host's files say which devices it may have
    toolkits = [package for package in installed_packages(facts) if package.name == _TOOLKIT]
    driver = driver_after_boot(facts)
    if (_TOOLKIT in facts.os.runtimes or toolkits) and driver is not None and facts.stack.cdi.value == ():
        yield Observation(
            id="stack.cdi-missing",
            severity=Severity.MEDIUM,
            because="the container toolkit is installed, but no CDI file describes NVIDIA's devices",
            where=("machine",),
            evidence=(
                *(Evidence(fact=f"{package.name} {package.version}", source=DPKG_STATUS) for package in toolkits),
                *(() if toolkits else (Evidence(fact="a program of the toolkit is there", source=_PROGRAMS),)),
                Evidence(fact=f"driver {driver.value}", source=driver.source),
                Evidence(fact="no file of the kind nvidia.com", source="/etc/cdi"),
                Evidence(fact="no file of the kind nvidia.com", source="/var/run/cdi"),
            ),
            fix=(
                "# This writes one file; containers that run are not touched.",
                "nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml",
                "nvidia-ctk cdi list",
            ),
            undo=("rm /etc/cdi/nvidia.yaml",),
            confidence=Confidence.LIKELY,
        )
    for specification in facts.stack.cdi.value or ():
        if specification.missing:
            now = f"; the driver's library is {driver.value}" if driver is not None else ""
            yield Observation(
                id="stack.cdi-stale",
                severity=Severity.HIGH,
                because=f"{specification.path} names {some(specification.missing, 2)}, which is not there{now}",
                where=(specification.path,),
                evidence=(
                    Evidence(fact=f"libraries of {some(specification.versions)}", source=specification.path),
                    *(Evidence(fact="is not there", source=path) for path in specification.missing[:3]),
                    *((Evidence(fact=f"driver {driver.value}", source=driver.source),) if driver is not None else ()),
                ),
                fix=(
                    "# Containers that run keep their libraries; the next one that starts needs the new file.",
                    f"nvidia-ctk cdi generate --output={shell_word(specification.path)}",
                ),
                undo=(f"# Put {shell_word(specification.path)} back as it was.",),
            )
